"""`Heartbeat`: a thread that does nothing but wake up, and notes by how long it came late."""

import threading
from contextlib import suppress

from .clocks import true_monotonic, true_sleep

_BEAT = 0.005  # seconds


class Heartbeat:
    """Runs from its making to the end of the process.

    A target that waits or computes does not hold it up, as Python lets each thread run in turn. So if it is late by
    much, the machine did not run this process. It is started before the target is loaded: once a target has used up
    the memory, a new thread could not start.

    Attributes:
        late: The longest time in seconds by which it woke up late, since this was last set.
    """

    def __init__(self) -> None:
        self.late = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(MemoryError):  # the target has used it up
            while True:
                slept_at = true_monotonic()
                true_sleep(_BEAT)
                self.late = max(self.late, true_monotonic() - slept_at - _BEAT)
