"""The true clocks, saved before any target is imported; and `TargetClock`, which a target reads in their place."""

import datetime as dt
import threading
import time
from typing import Self, SupportsIndex

# The worker uses these, whatever the target does to the modules.
true_monotonic = time.monotonic
true_monotonic_ns = time.monotonic_ns
true_perf_ns = time.perf_counter_ns
true_sleep = time.sleep
true_thread_ns = time.thread_time_ns
true_time_ns = time.time_ns
_DateTime = dt.datetime

# Chosen so that these plus any number of eighths of a second are exact in a float, and not in one of 32 bits.
_WALL_START_NS = 1_700_000_000 * 10**9
_START_NS = 10_000_000 * 10**9


class TargetClock:
    """The clocks that a target reads through Python, in place of the true ones.

    Args:
        manual: Whether all of them stand still until `advance`. A sleep in the thread that made this object advances
            them; a sleep in any other thread lasts until they have been advanced so far. Without it, the clocks run.
        wall: Seconds by which the wall clock is off.
        monotonic: Seconds by which the monotonic clocks are off, which count from a moment of their host's own.
    """

    def __init__(self, *, manual: bool = False, wall: float = 0.0, monotonic: float = 0.0) -> None:
        self.manual = manual
        self._now_ns = 0
        self._monotonic_ns = round(monotonic * 1e9)
        self._advancing_thread, self._advanced = threading.get_ident(), threading.Condition()
        self.set_wall(wall)

    def now(self) -> float:
        """Return the time for records, in seconds."""
        return self._now_ns / 1e9 if self.manual else true_monotonic()

    def advance(self, seconds: float) -> None:
        """Advance a manual clock."""
        with self._advanced:
            self._now_ns += round(seconds * 1e9)
            self._advanced.notify_all()

    def sleep(self, seconds: float | SupportsIndex) -> None:
        """Replace `time.sleep`: let so much time pass on a manual clock."""
        span = float(seconds)
        if span < 0:
            raise ValueError("sleep length must be non-negative")
        if threading.get_ident() == self._advancing_thread:
            self.advance(span)
        elif span == 0:
            true_sleep(0)
        else:
            self._sleep_beside(round(span * 1e9))

    def _sleep_beside(self, span_ns: int) -> None:
        # A background thread that sleeps in a loop would otherwise advance the clock for ever.
        with self._advanced:
            until_ns = self._now_ns + span_ns
            while self._now_ns < until_ns:
                self._advanced.wait()

    def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        if self.manual:
            self.advance(seconds)
        else:
            true_sleep(seconds)

    def set_wall(self, seconds: float) -> None:
        """Set by how many seconds the wall clock is off."""
        self._wall_ns = round(seconds * 1e9)

    def install(self) -> None:
        """Replace Python's clocks by these, for every module that is imported from now on."""
        time.time, time.time_ns = self.time, self.time_ns
        if self.manual or self._monotonic_ns:
            time.monotonic = time.perf_counter = self.monotonic
            time.monotonic_ns = time.perf_counter_ns = self.monotonic_ns
        if self.manual:
            time.sleep = self.sleep
        dt.datetime = _manual_datetime(self)  # type: ignore[misc]

    def time_ns(self) -> int:
        return (_WALL_START_NS + self._now_ns if self.manual else true_time_ns()) + self._wall_ns

    def time(self) -> float:
        return self.time_ns() / 1e9

    def monotonic_ns(self) -> int:
        return _START_NS + self._now_ns if self.manual else true_monotonic_ns() + self._monotonic_ns

    def monotonic(self) -> float:
        return self.monotonic_ns() / 1e9


class _AnyDateTime(type):
    """Makes a datetime from before the clocks were replaced an instance of the new class, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _DateTime) if _DateTime in cls.__bases__ else super().__instancecheck__(instance)


def _manual_datetime(clock: TargetClock) -> type[dt.datetime]:
    class ManualDateTime(_DateTime, metaclass=_AnyDateTime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(clock.time(), tz)

        @classmethod
        def utcnow(cls) -> Self:
            return cls.now(dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Self:
            return cls.now()

    return ManualDateTime
