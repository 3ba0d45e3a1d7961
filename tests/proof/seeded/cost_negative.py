"""A negative cost gives units back: a caller that sends one has no limit."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice, repeat


class CostNegative:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) + cost > self._limit:
                return False
            self._charge(log, now, cost)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True

    @staticmethod
    def _charge(log: deque[float], now: float, cost: int) -> None:
        for _ in range(min(-cost, len(log))):
            log.pop()
        log.extend(repeat(now, cost))

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]
