"""The log is searched but never trimmed: it keeps every request that a user was ever allowed."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from itertools import islice


class NeverTrimmed:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, list[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            allowed = self._decide(user_id, now)
            self._forget_idle(now)
            return allowed

    def _decide(self, user_id: str, now: float) -> bool:
        log = self._logs.get(user_id, [])
        if len(log) - bisect_right(log, now - self._window) >= self._limit:
            return False
        log.append(now)
        self._logs[user_id] = log
        self._logs.move_to_end(user_id)
        return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window:
                return
            del self._logs[user_id]
