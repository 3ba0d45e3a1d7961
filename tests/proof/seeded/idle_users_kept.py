"""Users are never forgotten: an empty log stays for every user that ever called."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque


class IdleUsersKept:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: defaultdict[str, deque[float]] = defaultdict(deque)

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            log = self._logs[user_id]
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            return True
