"""A clock that stands still until you move it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta


class ManualClock:
    """A clock that moves only when you advance it. It counts whole microseconds, so that edges are exact.

    Pass it to ``MemoryStore(clock=...)``, and no test of yours needs to sleep: what waits for the limiter, in
    ``limiter.wait()`` for example, wakes when the clock reaches its time.

    Args:
        start: The time at which it starts, seconds; rounded to the microsecond.
    """

    __slots__ = ("_alarms", "_now_us")

    def __init__(self, start: float = 0.0) -> None:
        self._now_us = round(start * 1_000_000)
        self._alarms: dict[object, tuple[int, Callable[[], object]]] = {}

    def now_us(self) -> int:
        """Return the time, microseconds."""
        return self._now_us

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock by ``seconds``, rounded to the microsecond, and wake what waits for a time up to then.

        A negative span steps it back, as a wall clock may step; the store must not allow more because of that.
        """
        span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        span_us = round(span * 1_000_000)
        self._now_us += span_us  # no call in between: threads that advance it at once each count
        self._ring()

    def call_at(self, at_us: int, callback: Callable[[], object]) -> Callable[[], None]:
        """Call a function once the clock has reached a time, in the thread that advances it; at once if it has.

        Returns:
            A function that cancels it.
        """
        name = object()
        self._alarms[name] = at_us, callback
        self._ring()
        return lambda: self._alarms.pop(name, None) and None

    def _ring(self) -> None:
        due = sorted(
            ((at_us, name) for name, (at_us, _) in list(self._alarms.items()) if at_us <= self._now_us), key=_at
        )
        for _, name in due:
            _, callback = self._alarms.pop(name, (0, None))
            if callback is not None:
                callback()

    def __repr__(self) -> str:
        return f"ManualClock({self._now_us / 1_000_000:.6f})"


def _at(alarm: tuple[int, object]) -> int:
    return alarm[0]
