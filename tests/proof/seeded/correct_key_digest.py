"""Correct: users are known by 128 bits of BLAKE2b, so that long ids cost no memory; no two of them are alike."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[bytes, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        # "surrogatepass" keeps ids apart that are no valid Unicode.
        key = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(key, deque())
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[key] = log
            self._logs.move_to_end(key)
            return True

    def _forget_idle(self, now: int) -> None:
        for key in list(islice(self._logs, 2)):
            log = self._logs[key]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[key]
