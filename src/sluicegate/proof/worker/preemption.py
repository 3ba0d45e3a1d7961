"""Switch threads between the lines of the target's file, where Python itself hardly ever would."""

import contextlib
import random
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from .clocks import true_sleep

# Seconds to sleep between two lines. An operating system may stop a thread there; here it happens often, and now and
# then for so long that all other threads get through whatever they do under a lock.
_SLEEPS = (0.0,) * 10 + (0.00005,) * 8 + (0.002,)
_SWITCH_INTERVAL = 1e-5  # seconds after which Python itself switches threads

_random = random.Random()  # noqa: S311 - not a secret, and not the generator that a target may seed


@contextlib.contextmanager
def preempted_threads(file: str | None) -> Iterator[None]:
    """Switch often between the threads that are started in the block, also between the lines of ``file`` if given."""

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return _preempt if frame.f_code.co_filename == file else None

    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    if file is not None:
        threading.settrace(trace)
    try:
        yield
    finally:
        if file is not None:
            threading.settrace(None)
        sys.setswitchinterval(interval)


def _preempt(_frame: FrameType, event: str, _argument: Any) -> Any:
    if event == "line" and _random.random() < 0.5:
        true_sleep(_random.choice(_SLEEPS))
    return _preempt
