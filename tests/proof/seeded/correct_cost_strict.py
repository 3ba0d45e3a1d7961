"""Correct: a cost above the limit raises ValueError, as it never fits; a cost of 0 is allowed and takes nothing."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice, repeat
from typing import NamedTuple


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
        if not 0 <= cost <= self._limit:
            raise ValueError(f"cost must be 0 to {self._limit}, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            free = self._limit - len(log)
            if cost > free:
                return Decision(False, (log[cost - free - 1] + self._window_ns - now) / 1e9, free)
            if cost:
                log.extend(repeat(now, cost))
                self._logs[user_id] = log
                self._logs.move_to_end(user_id)
            return Decision(True, 0.0, free - cost)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]
