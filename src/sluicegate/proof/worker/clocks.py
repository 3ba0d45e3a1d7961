"""The true clocks, kept before any target is imported; and the clocks that a target is given in their place."""

import datetime as dt
import threading
import time
from typing import Self, SupportsIndex

# Whatever a target does to the modules, the worker itself uses these.
true_monotonic = time.monotonic
true_perf_ns = time.perf_counter_ns
true_sleep = time.sleep
true_time_ns = time.time_ns
_DateTime = dt.datetime

# Such that all sums of them and whole eighths of a second are exact in a float.
_WALL_START_NS = 1_700_000_000 * 10**9
_START_NS = 1_000_000 * 10**9


class Clock:
    """The clocks that a target reads through Python, where they are not the true ones.

    Args:
        moved: All of them stand still but for `advance`, and a sleep advances them where this thread sleeps; any other
            sleeps until they have been advanced so far. Else only the wall clock is off.
        wall: Seconds that the wall clock is off by.
    """

    def __init__(self, *, moved: bool = False, wall: float = 0.0) -> None:
        self.moved = moved
        self._now_ns = 0
        self._player, self._advanced = threading.get_ident(), threading.Condition()
        self.set_wall(wall)

    def now(self) -> float:
        """Read the clock that records are kept in, seconds."""
        return self._now_ns / 1e9 if self.moved else true_monotonic()

    def advance(self, seconds: float) -> None:
        """Move a moved clock."""
        with self._advanced:
            self._now_ns += round(seconds * 1e9)
            self._advanced.notify_all()

    def sleep(self, seconds: float | SupportsIndex) -> None:
        """Do what Python's sleep does: let so much time pass on a moved clock."""
        span = float(seconds)
        if span < 0:
            raise ValueError("sleep length must be non-negative")
        if threading.get_ident() == self._player:
            self.advance(span)
        elif span == 0:
            true_sleep(0)
        else:
            self._sleep_beside(round(span * 1e9))

    def _sleep_beside(self, span_ns: int) -> None:
        # Whoever sweeps in a loop beside the calls would move the clock on without end.
        with self._advanced:
            until_ns = self._now_ns + span_ns
            while self._now_ns < until_ns:
                self._advanced.wait()

    def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        if self.moved:
            self.advance(seconds)
        else:
            true_sleep(seconds)

    def set_wall(self, seconds: float) -> None:
        """Set what the wall clock is off by."""
        self._wall_ns = round(seconds * 1e9)

    def install(self) -> None:
        """Put these clocks in place of Python's, for whatever is imported from now on."""
        time.time, time.time_ns = self.time, self.time_ns
        if self.moved:
            time.monotonic = time.perf_counter = self.monotonic
            time.monotonic_ns = time.perf_counter_ns = self.monotonic_ns
            time.sleep = self.sleep
        dt.datetime = _moved_datetime(self)  # type: ignore[misc]

    def time_ns(self) -> int:
        return (_WALL_START_NS + self._now_ns if self.moved else true_time_ns()) + self._wall_ns

    def time(self) -> float:
        return self.time_ns() / 1e9

    def monotonic_ns(self) -> int:
        return _START_NS + self._now_ns

    def monotonic(self) -> float:
        return self.monotonic_ns() / 1e9


class _AnyDateTime(type):
    """So that a datetime made before the clocks were replaced still is one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _DateTime) if _DateTime in cls.__bases__ else super().__instancecheck__(instance)


def _moved_datetime(clock: Clock) -> type[dt.datetime]:
    class MovedDateTime(_DateTime, metaclass=_AnyDateTime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(clock.time(), tz)

        @classmethod
        def utcnow(cls) -> Self:
            return cls.now(dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Self:
            return cls.now()

    return MovedDateTime
