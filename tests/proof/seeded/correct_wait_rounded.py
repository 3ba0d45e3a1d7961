"""Correct: ``retry_after`` is rounded up to tenths of a second, for a header; never down, so that it is long enough."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from itertools import islice, repeat
from typing import NamedTuple

TENTH_NS = 100_000_000


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
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            decision = self._decide(user_id, cost, now)
            if not decision.allowed:
                return decision
            self._logs.setdefault(user_id, deque()).extend(repeat(now, cost))
            self._logs.move_to_end(user_id)
            return decision._replace(remaining=decision.remaining - cost)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            return self._decide(user_id, cost, time.monotonic_ns())

    def retry_after(self, user_id: str) -> float:
        return self.peek(user_id).retry_after

    def _decide(self, user_id: str, cost: int, now: int) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window_ns:
            log.popleft()
        free = self._limit - len(log)
        if cost <= free:
            return Decision(True, 0.0, free)
        if cost > self._limit:
            return Decision(False, math.inf, free)
        wait_ns = log[cost - free - 1] + self._window_ns - now
        return Decision(False, -(-wait_ns // TENTH_NS) / 10, free)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]
