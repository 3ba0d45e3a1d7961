"""A fixed window, aligned to the clock: twice the limit gets through across its edge."""

from __future__ import annotations

import threading
import time


class FixedWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._number = 0
        self._counts: dict[str, int] = {}

    def allow(self, user_id: str) -> bool:
        with self._lock:
            number = int(time.monotonic() // self._window)
            if number != self._number:
                self._number, self._counts = number, {}
            count = self._counts.get(user_id, 0)
            if count >= self._limit:
                return False
            self._counts[user_id] = count + 1
            return True
