"""What a memory store may be given to read the time from. A store on Redis has none: its server's clock decides."""

from __future__ import annotations

from typing import Protocol

FURTHEST_US = 8 * 10**15
"""How far a clock may be from its origin, µs: with a window on top, its nanoseconds are to fit 64 bits with a sign."""


class Clock(Protocol):
    """A clock of one's own: `sluicegate.testing.ManualClock` is one."""

    def now_us(self) -> int:
        """Return the time in microseconds since an origin of the clock's own choice.

        It is an int from -8 * 10**15 to 8 * 10**15: 253 years before the origin to 253 after it, or 2223 for a clock
        that counts from 1970. Negative is before the origin. Where a clock returns anything else, whoever asked the
        store gets a `ValueError`, and nothing is charged.
        """
        ...
