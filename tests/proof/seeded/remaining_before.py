"""The remaining units are computed before the request itself is counted: the number is one too high."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class RemainingBefore:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        return self.take(user_id).allowed

    def take(self, user_id: str) -> Decision:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return Decision(False, log[0] + self._window - now, 0)
            remaining = self._limit - len(log)
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Decision(True, 0.0, remaining)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window:
                return
            del self._logs[user_id]
