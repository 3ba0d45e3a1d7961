"""Requests are spaced T / N apart: a burst that fits the limit is denied."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from itertools import islice


class Spacing:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._gap = window_seconds / limit
        self._lock = threading.Lock()
        self._last: OrderedDict[str, float] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            if user_id in self._last and self._last[user_id] > now - self._gap:
                return False
            self._last[user_id] = now
            self._last.move_to_end(user_id)
            return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._last, 2)):
            if self._last[user_id] > now - self._gap:
                return
            del self._last[user_id]
