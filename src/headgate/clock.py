"""Clocks for the memory store. A store on Redis has none: its server's clock decides."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a memory store reads the time from."""

    def now_us(self) -> int:
        """Return the time in whole microseconds since an origin of the clock's own choice."""
        ...


class MonotonicClock:
    """The process's monotonic clock: no step of the wall clock reaches it."""

    __slots__ = ()

    # A staticmethod, so that the hot path calls a plain function and not a bound method.
    @staticmethod
    def now_us() -> int:
        """Return microseconds since an arbitrary origin; never less than before."""
        return time.monotonic_ns() // 1000
