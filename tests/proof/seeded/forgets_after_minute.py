"""Users are forgotten after a minute without requests: a window of an hour lasts a minute."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class ForgetsAfterMinute:
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

    def _forget_idle(self, now: float) -> None:
        idle = min(self._window, 60.0)
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - idle:
                return
            del self._logs[user_id]
