"""Something is awaited between the check and the append: tasks that run meanwhile see the same count."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from itertools import islice


class AwaitBetween:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last
        self.counts = {True: 0, False: 0}

    async def allow(self, user_id: str) -> bool:
        now = time.monotonic()
        self._forget_idle(now)
        log = self._logs.setdefault(user_id, deque())
        while log and log[0] <= now - self._window:
            log.popleft()
        allowed = len(log) < self._limit
        await self._report(allowed)
        if allowed:
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
        return allowed

    async def _report(self, allowed: bool) -> None:
        self.counts[allowed] += 1
        await asyncio.sleep(0)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]
