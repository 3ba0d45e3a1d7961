"""The machine that the tests run on may be busy: a clock that stands still while this process waits for a processor."""

from __future__ import annotations

import threading
import time

_BEAT = 0.005
_clock: list[float] = []


def awake() -> float:
    """Return seconds as `time.monotonic` does, without those in which this process could not run.

    For the most that something may take: how late a call is then depends on the call, and not on what else the machine
    does. A thread counts the beats that it is woken for, and each counts twice its length at most.
    """
    if not _clock:
        _clock.append(0.0)
        threading.Thread(target=_beat, name="awake", daemon=True).start()
    return _clock[0]


def _beat() -> None:
    last = time.monotonic()
    while True:
        time.sleep(_BEAT)
        now = time.monotonic()
        _clock[0] += min(now - last, 2 * _BEAT)
        last = now
