"""Denied requests are stored for a window to show them to the operator: an attacker chooses how much is stored."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class DeniedStored:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last
        self._denied: deque[tuple[float, str]] = deque()

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            while self._denied and self._denied[0][0] <= now - self._window:
                self._denied.popleft()
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                self._denied.append((now, user_id))
                return False
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True

    def denied(self) -> int:
        """Return the number of requests denied in the last window."""
        return len(self._denied)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window:
                return
            del self._logs[user_id]
