"""The time by which limiters wait: the process's own, or that of a clock which a test moves.

A clock of the second kind has a method ``call_at``, as `sluicegate.testing.ManualClock` has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Event
from typing import Protocol, runtime_checkable

from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore


class Timing(Protocol):
    """A clock, and how to sleep by it."""

    def now(self) -> float:
        """Return the time in seconds, since an arbitrary origin."""
        ...

    def sleep(self, woken: Event, until: float | None) -> None:
        """Let a thread sleep until a time, or until it is woken."""
        ...

    async def sleep_task(self, woken: asyncio.Event, until: float | None) -> None:
        """Let a task sleep likewise."""
        ...


class RealTime:
    """The process's monotonic clock."""

    now = staticmethod(time.monotonic)

    def sleep(self, woken: Event, until: float | None) -> None:
        woken.wait(None if until is None else max(until - time.monotonic(), 0))

    async def sleep_task(self, woken: asyncio.Event, until: float | None) -> None:
        timer = None
        if until is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(max(until - time.monotonic(), 0), woken.set)
        try:
            await woken.wait()
        finally:
            if timer is not None:
                timer.cancel()


@runtime_checkable
class AlarmClock(Protocol):
    """A clock that says when it has reached a time."""

    def now_us(self) -> int:
        """Return the time in microseconds."""
        ...

    def call_at(self, at_us: int, callback: Callable[[], object]) -> Callable[[], None]:
        """Call a function once the time is reached, from the thread that moves the clock. Returns what cancels that."""
        ...


class ManualTime:
    """The time of a clock that is moved by hand."""

    def __init__(self, clock: AlarmClock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now_us() / 1_000_000

    def sleep(self, woken: Event, until: float | None) -> None:
        cancel = self._alarm(until, woken.set)
        try:
            woken.wait()
        finally:
            cancel()

    async def sleep_task(self, woken: asyncio.Event, until: float | None) -> None:
        loop = asyncio.get_running_loop()
        cancel = self._alarm(until, lambda: loop.call_soon_threadsafe(woken.set))
        try:
            await woken.wait()
        finally:
            cancel()

    def _alarm(self, until: float | None, callback: Callable[[], object]) -> Callable[[], None]:
        if until is None:
            return lambda: None
        # Rounded to the nearest: a float of seconds has a resolution of far less than a microsecond here.
        return self._clock.call_at(round(until * 1_000_000), callback)


def timing_of(store: object) -> Timing:
    """Return the time by which to wait for a store: its own clock's, if that is moved by hand."""
    memory = store.store if isinstance(store, AwaitedMemoryStore) else store
    clock = memory.clock if isinstance(memory, MemoryStore) else None
    return ManualTime(clock) if isinstance(clock, AlarmClock) else RealTime()
