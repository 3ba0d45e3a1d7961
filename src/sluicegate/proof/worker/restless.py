"""Switching threads between the lines of the target's file, where Python alone hardly ever would."""

import contextlib
import random
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from .clocks import true_sleep

# Seconds. Any thread may be stopped between any two lines; here each of them often is, and now and then for so long
# that all the others get through whatever they do under a lock.
_RESTS = (0.0,) * 10 + (0.00005,) * 8 + (0.002,)
_HURRY = 1e-5  # seconds after which Python switches threads by itself

_random = random.Random()  # noqa: S311 - no secret, and not the one that a target may seed


@contextlib.contextmanager
def threads_switched_often(file: str | None) -> Iterator[None]:
    """Let the threads that are started in here be switched often; between the lines of a file, where one is named."""

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return _rest if frame.f_code.co_filename == file else None

    interval = sys.getswitchinterval()
    sys.setswitchinterval(_HURRY)
    if file is not None:
        threading.settrace(trace)
    try:
        yield
    finally:
        if file is not None:
            threading.settrace(None)
        sys.setswitchinterval(interval)


def _rest(_frame: FrameType, event: str, _argument: Any) -> Any:
    if event == "line" and _random.random() < 0.5:
        true_sleep(_random.choice(_RESTS))
    return _rest
