"""Each call checks all users for idle ones: a decision takes longer the more users there are."""

from __future__ import annotations

import threading
import time
from collections import deque


class SweepInEachCall:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: dict[str, deque[float]] = {}

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[user_id] = log
            return True

    def _forget_idle(self, now: float) -> None:
        idle = [user_id for user_id, log in self._logs.items() if log[-1] <= now - self._window]
        for user_id in idle:
            del self._logs[user_id]
