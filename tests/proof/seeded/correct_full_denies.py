"""Correct: memory for 100 000 users; when it is full a new user is denied, and nobody who is throttled is freed."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from itertools import islice, repeat
from typing import NamedTuple

MOST_USERS = 100_000


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            if user_id not in self._logs and len(self._logs) >= MOST_USERS:
                # There is a place when the user who is idle longest leaves.
                return Decision(False, (next(iter(self._logs.values()))[-1] + self._window_ns - now) / 1e9, 0)
            log = self._logs.get(user_id, deque())
            while len(log) > 1 and log[0] <= now - self._window_ns:
                log.popleft()
            if log and log[0] <= now - self._window_ns:
                log = deque()
            free = self._limit - len(log)
            if cost > self._limit:
                return Decision(False, math.inf, free)
            if cost > free:
                return Decision(False, (log[cost - free - 1] + self._window_ns - now) / 1e9, free)
            log.extend(repeat(now, cost))
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Decision(True, 0.0, free - cost)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window_ns:
                return
            del self._logs[user_id]
