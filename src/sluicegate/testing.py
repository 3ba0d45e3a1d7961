"""What you need in your own tests: a clock that stands still until you move it."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that moves only when you advance it. It counts whole microseconds, so that edges are exact.

    Pass it to ``MemoryStore(clock=...)``, and no test of yours needs to sleep.

    Args:
        start: The time at which it starts, seconds; rounded to the microsecond.
    """

    __slots__ = ("_now_us",)

    def __init__(self, start: float = 0.0) -> None:
        self._now_us = round(start * 1_000_000)

    def now_us(self) -> int:
        """Return the time, microseconds."""
        return self._now_us

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock by ``seconds``, rounded to the microsecond.

        A negative span steps it back, as a wall clock may step; the store must not allow more because of that.
        """
        span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        span_us = round(span * 1_000_000)
        self._now_us += span_us  # no call in between: threads that advance it at once each count

    def __repr__(self) -> str:
        return f"ManualClock({self._now_us / 1_000_000:.6f})"
