"""The check and the append are each locked, but not together: another thread may append between the two."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class TwoLockedSteps:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        if self._used(user_id) >= self._limit:
            return False
        self._add(user_id)
        return True

    def _used(self, user_id: str) -> int:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            return len(log)

    def _add(self, user_id: str) -> None:
        with self._lock:
            self._logs.setdefault(user_id, deque()).append(time.monotonic())
            self._logs.move_to_end(user_id)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]
