"""What users need in their own tests: a clock that stands still until it is moved."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that only its owner moves. Counts whole microseconds, so that edges are exact.

    Hand it to ``MemoryStore(clock=...)``; then no test of yours needs to sleep.

    Args:
        start: Where it starts, seconds. Rounded to the microsecond.
    """

    __slots__ = ("_now_us",)

    def __init__(self, start: float = 0.0) -> None:
        self._now_us = round(start * 1_000_000)

    def now_us(self) -> int:
        """Return the time, microseconds."""
        return self._now_us

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock by ``seconds``, rounded to the microsecond.

        A negative span steps it back, as a wall clock may be stepped: the store must not allow more for it.
        """
        span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self._now_us += round(span * 1_000_000)

    def __repr__(self) -> str:
        return f"ManualClock({self._now_us / 1_000_000:.6f})"
