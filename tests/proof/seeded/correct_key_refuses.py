"""Correct: strange ids (empty, longer than 256 characters, with control characters) raise ValueError, all others count.

Nothing is cut or changed: two ids that are accepted are two users.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        if not 1 <= len(user_id) <= 256:
            raise ValueError(f"user_id must have 1 to 256 characters, got {len(user_id)}")
        if not user_id.isprintable():
            raise ValueError(f"user_id must be printable, got {user_id!a}")
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]
