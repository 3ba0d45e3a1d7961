"""The lock is released before the check: two threads between it and the append both see N - 1."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class LockTooShort:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user seen last comes last

    def allow(self, user_id: str) -> bool:
        now = time.monotonic()
        with self._lock:
            log = self._user(user_id, now)
        if len(log) >= self._limit:
            return False
        log.append(now)
        return True

    def _user(self, user_id: str, now: float) -> deque[float]:
        self._forget_idle(now)
        log = self._logs.setdefault(user_id, deque())
        self._logs.move_to_end(user_id)
        while log and log[0] <= now - self._window:
            log.popleft()
        return log

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]
