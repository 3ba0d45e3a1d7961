"""`Heartbeat`: a thread that does nothing but wake up, and notes by how long it came late."""

import threading
from typing import Self

from .clocks import true_monotonic

_BEAT = 0.005  # seconds


class Heartbeat:
    """Runs in the ``with`` block.

    A target that waits or computes does not hold it up, as Python lets each thread run in turn. So if it is late by
    much, the machine did not run this process.

    Attributes:
        late: The longest time in seconds by which it woke up late.
    """

    def __init__(self) -> None:
        self.late = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        over = False
        while not over:
            slept_at = true_monotonic()
            over = self._over.wait(_BEAT)
            self.late = max(self.late, true_monotonic() - slept_at - _BEAT)
