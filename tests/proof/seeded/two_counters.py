"""Two counters, the previous one faded out: right if requests are spread evenly, and close to 2N if not."""

from __future__ import annotations

import threading
import time


class TwoCounters:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._number = 0
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}

    def allow(self, user_id: str) -> bool:
        with self._lock:
            number, into = divmod(time.monotonic(), self._window)
            self._turn_to(int(number))
            count = self._current.get(user_id, 0)
            faded = self._previous.get(user_id, 0) * (1 - into / self._window)
            if count + faded + 1 > self._limit:
                return False
            self._current[user_id] = count + 1
            return True

    def _turn_to(self, number: int) -> None:
        if number == self._number:
            return
        self._previous = self._current if number == self._number + 1 else {}
        self._number, self._current = number, {}
