"""A service that counts in fixed windows aligned to the clock: twice the limit gets through across an edge."""

from __future__ import annotations

import math
import threading
import time

from correct_memory import Decision
from http_correct import serve


class FixedWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._number = 0
        self._counts: dict[str, int] = {}

    def take(self, user_id: str) -> Decision:
        with self._lock:
            now = time.monotonic()
            number = int(now // self._window)
            if number != self._number:
                self._number, self._counts = number, {}
            count = self._counts.get(user_id, 0)
            if count >= self._limit:
                return Decision(False, (number + 1) * self._window - now, 0)
            self._counts[user_id] = count + 1
            return Decision(True, 0.0, self._limit - count - 1)


if __name__ == "__main__":
    serve(FixedWindow, lambda seconds: str(math.ceil(seconds)))
