"""Callers that wait, as threads or as tasks, behind one interface, in memory and by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sluicegate import AsyncLimiter, Decision, Limiter, MemoryStore
from sluicegate._limiter.timing import ManualTime
from sluicegate.testing import ManualClock

PATIENCE = 60


def until(condition: Callable[[], bool]) -> None:
    """Wait for an event in another thread."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


class Sleepers(ManualTime):
    """The time of a clock that is moved by hand, which knows the threads that sleep by it.

    Attributes:
        alarms: One for each that waits for a time of the clock.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.alarms: set[object] = set()
        self._asleep: list[threading.Event] = []

    def sleep(self, woken: threading.Event, until: float | None) -> None:
        self._asleep.append(woken)
        try:
            super().sleep(woken, until)
        finally:
            self._asleep.remove(woken)

    def _alarm(self, until: float | None, callback: Callable[[], object]) -> Callable[[], None]:
        alarm, cancel = object(), super()._alarm(until, callback)
        if until is not None:
            self.alarms.add(alarm)

        def cancelled() -> None:
            self.alarms.discard(alarm)
            cancel()

        return cancelled

    def are(self, threads: int) -> bool:
        """Return whether so many threads sleep, and nothing has woken one."""
        asleep = list(self._asleep)
        return len(asleep) == threads and not any(woken.is_set() for woken in asleep)


class Waits:
    """A limiter in memory, and callers that wait for it.

    Attributes:
        clock: What it counts by.
        limiter: It.
        done: The callers whose wait is over, in the order in which it was.
    """

    def __init__(self, form: str, *policies: Any, store: Any = None, start: float = 0.0, **options: Any) -> None:
        self.clock = ManualClock(start)
        self.runner = asyncio.Runner() if form == "tasks" else None
        self.store = store(clock=self.clock) if store else MemoryStore(clock=self.clock)
        self.limiter: Any = (AsyncLimiter if self.runner else Limiter)(*policies, store=self.store, **options)
        self._sleepers = self.limiter._waiting.timing = Sleepers(self.clock)
        self.done: list[Caller] = []
        self._callers = 0

    def start(self, verb: Callable[[], Any]) -> Caller:
        """Let a caller begin, and run until it is done or sleeps."""
        self._callers += 1
        caller = Caller(self, verb)
        self.rest()
        return caller

    def wait(self, *args: Any, **options: Any) -> Caller:
        return self.start(lambda: self.limiter.wait(*args, **options))

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        """Call a verb of the limiter, and let all run that this wakes."""
        answer = self._run(getattr(self.limiter, verb)(*args, **options))
        self.rest()
        return answer

    def advance(self, seconds: float) -> None:
        """Move the clock, and let all run that this wakes."""
        self.clock.advance(seconds)
        self.rest()

    def rest(self) -> None:
        """Let all run until they are done, or sleep."""
        if self.runner:
            self.runner.run(_turns())
        else:
            until(lambda: self._sleepers.are(self._callers - len(self.done)))

    @property
    def waiting(self) -> int:
        return self.limiter.statistics().waiting

    @property
    def alarms(self) -> int:
        """How many of those that wait, or serve a line, wait for a time of the clock."""
        return len(self._sleepers.alarms)

    def close(self) -> None:
        """Let none be left waiting."""
        self.limiter._end()
        self.rest()
        assert len(self.done) == self._callers
        assert (self.waiting, self.alarms) == (0, 0)
        assert not self.limiter._waiting.lines
        if self.runner:
            assert not self.limiter._waiting._servers
            self.runner.close()

    def _run(self, result: Any) -> Any:
        return self.runner.run(_awaited(result)) if self.runner else result


class Caller:
    """One caller: a thread or a task."""

    def __init__(self, waits: Waits, verb: Callable[[], Any]) -> None:
        self._waits = waits
        self._outcome: Future[Any] = Future()
        if waits.runner:
            self.task = waits.runner.get_loop().create_task(self._await(verb))
        else:
            threading.Thread(target=self._call, args=(verb,), daemon=True).start()

    @property
    def is_done(self) -> bool:
        return self._outcome.done()

    @property
    def decision(self) -> Decision:
        """What it was answered. Raises what it got in place of that."""
        assert self.is_done
        return self._outcome.result()

    def _call(self, verb: Callable[[], Any]) -> None:
        try:
            self._outcome.set_result(verb())
        except BaseException as error:  # noqa: BLE001 - for the test to judge
            self._outcome.set_exception(error)
        self._waits.done.append(self)

    async def _await(self, verb: Callable[[], Any]) -> None:
        try:
            self._outcome.set_result(await verb())
        except BaseException as error:  # noqa: BLE001
            self._outcome.set_exception(error)
        self._waits.done.append(self)


async def _awaited(result: Any) -> Any:
    return await result


async def _turns() -> None:
    """Let all tasks run that can: nothing in memory takes more turns than that."""
    for _ in range(30):
        await asyncio.sleep(0)
