"""Correct: ``wait`` draws a ticket and looks every 5 ms whether its number has come up; it never sleeps longer."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from itertools import count, islice, repeat
from typing import NamedTuple

POLL_SECONDS = 0.005


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
        self._tickets = count()
        self._waiting: dict[str, dict[int, None]] = {}  # by user, the tickets in the order of their numbers

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            return self._take(user_id, cost)

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> Decision:
        """Wait for all who called earlier, then for the units. Return the decision that ended the wait."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        with self._lock:
            ticket = next(self._tickets)
            self._waiting.setdefault(user_id, {})[ticket] = None
        try:
            while True:
                with self._lock:
                    if next(iter(self._waiting[user_id])) == ticket:
                        decision = self._take(user_id, cost)
                    else:
                        decision = Decision(False, POLL_SECONDS, 0)
                left = end - time.monotonic()
                if decision.allowed or left <= 0 or cost > self._limit:
                    return decision
                time.sleep(min(POLL_SECONDS, left))
        finally:
            with self._lock:
                del self._waiting[user_id][ticket]
                if not self._waiting[user_id]:
                    del self._waiting[user_id]

    def _take(self, user_id: str, cost: int) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        now = time.monotonic_ns()
        self._forget_idle(now)
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window_ns:
            log.popleft()
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
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]
