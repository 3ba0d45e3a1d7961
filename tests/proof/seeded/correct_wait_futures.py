"""Correct, for one event loop: waiters are futures in a line that one timer a user serves; a timeout takes nothing."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from itertools import islice, repeat


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last
        self._lines: dict[str, dict[asyncio.Future[None], int]] = {}  # by user, each waiter's cost; oldest first
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return self._missing_ns(user_id, cost, take=True) == 0

    async def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        if cost > self._limit:
            return False
        turn = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(user_id, {})
        line[turn] = cost
        try:
            self._serve(user_id)
            async with asyncio.timeout(timeout):
                await turn
        except TimeoutError:
            # The turn may have come in the same step of the loop: then the units are taken.
            return not turn.cancelled()
        finally:
            if line.pop(turn, None) is not None:
                self._serve(user_id)  # the next one may want less
        return True

    def _serve(self, user_id: str) -> None:
        if timer := self._timers.pop(user_id, None):
            timer.cancel()
        line = self._lines[user_id]
        while turn := next(iter(line), None):
            missing_ns = self._missing_ns(user_id, line[turn], take=not turn.done())
            if missing_ns and not turn.done():
                loop = asyncio.get_running_loop()
                self._timers[user_id] = loop.call_later(missing_ns / 1e9, self._serve, user_id)
                return
            del line[turn]
            if not turn.done():
                turn.set_result(None)
        del self._lines[user_id]

    def _missing_ns(self, user_id: str, cost: int, *, take: bool) -> int:
        """Return how long it is until there is room, and take the units if there is."""
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        now = time.monotonic_ns()
        self._forget_idle(now)
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window_ns:
            log.popleft()
        missing = len(log) + cost - self._limit
        if missing > 0:
            return log[missing - 1] + self._window_ns - now if cost <= self._limit else self._window_ns
        if take:
            log.extend(repeat(now, cost))
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
        return 0

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]
