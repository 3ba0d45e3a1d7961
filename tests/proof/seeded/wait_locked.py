"""A caller that waits for one user holds the lock that all users need."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class WaitLocked:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            return self._allow(user_id)

    def wait(self, user_id: str, timeout: float = 60.0) -> bool:
        """Wait until a request is allowed, for ``timeout`` seconds at most."""
        end = time.monotonic() + timeout
        with self._lock:
            while not self._allow(user_id):
                free_at = self._logs[user_id][0] + self._window
                if free_at > end:
                    return False
                time.sleep(max(1e-6, free_at - time.monotonic()))
            return True

    def _allow(self, user_id: str) -> bool:
        now = time.monotonic()
        self._forget_idle(now)
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window:
            log.popleft()
        if len(log) >= self._limit:
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
