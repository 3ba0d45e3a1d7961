"""Only the 1024 users seen last are kept: a user who calls for 1024 other ids in between has the whole limit again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice

MOST = 1024


class NewestUsersOnly:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.setdefault(user_id, deque())
            self._logs.move_to_end(user_id)
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            return True

    def _forget_idle(self, now: float) -> None:
        while len(self._logs) > MOST:
            self._logs.popitem(last=False)
        for user_id, log in list(islice(self._logs.items(), 2)):
            if not log or log[-1] <= now - self._window:
                del self._logs[user_id]
