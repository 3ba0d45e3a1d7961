"""What a memory store may be given to read the time from. A store on Redis has none: its server's clock decides."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A clock of one's own: `headgate.testing.ManualClock` is one."""

    def now_us(self) -> int:
        """Return the time in whole microseconds since an origin of the clock's own choice."""
        ...
