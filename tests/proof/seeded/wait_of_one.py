"""A request with a cost gets the wait of a single unit: when it ends, there is still too little room."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from itertools import islice, repeat
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class WaitOfOne:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            free = self._limit - len(log)
            if cost > self._limit:
                return Decision(False, math.inf, free)
            if cost > free:
                return Decision(False, log[0] + self._window - now, free)
            log.extend(repeat(now, cost))
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Decision(True, 0.0, free - cost)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]
