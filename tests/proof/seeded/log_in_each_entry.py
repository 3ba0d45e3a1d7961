"""Each request is stored with all requests in the window before it: memory grows with the square of the limit."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class LogInEachEntry:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[tuple[float, ...]]] = OrderedDict()

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.setdefault(user_id, deque())
            self._logs.move_to_end(user_id)
            while log and log[0][-1] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append((*(entry[-1] for entry in log), now))  # to explain the decision later
            return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1][-1] > now - self._window:
                return
            del self._logs[user_id]
