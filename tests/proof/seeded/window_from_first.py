"""A fixed window from a user's first request on: late requests are forgotten with it, and N more get in."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple


class Window(NamedTuple):
    began_at: float
    count: int


class WindowFromFirst:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, Window] = OrderedDict()  # in the order in which they began

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            window = self._windows.get(user_id)
            if window is None or window.began_at <= now - self._window:
                self._windows[user_id] = Window(now, 1)
                self._windows.move_to_end(user_id)
                return True
            if window.count >= self._limit:
                return False
            self._windows[user_id] = window._replace(count=window.count + 1)
            return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._windows, 2)):
            if self._windows[user_id].began_at > now - self._window:
                return
            del self._windows[user_id]
