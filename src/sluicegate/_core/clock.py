"""The clock that a `MemoryStore` reads. A store on Redis has none: the server's clock decides."""

from __future__ import annotations

from typing import Protocol

FURTHEST_US = 8 * 10**15
"""How far a clock may be from its origin, µs: its nanoseconds, plus a window, must fit in a signed 64-bit integer."""


class Clock(Protocol):
    """What a clock of your own must have; `sluicegate.testing.ManualClock` is one."""

    def now_us(self) -> int:
        """Return the time in microseconds since an arbitrary origin.

        An int from -8 * 10**15 to 8 * 10**15: 253 years before the origin to 253 years after it, which is the year 2223
        for a clock that counts from 1970. If a clock returns anything else, the call raises `ValueError` and nothing is
        charged.
        """
        ...
