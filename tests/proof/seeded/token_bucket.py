"""A token bucket presented as a sliding window: in one window it allows burst and refill, up to 2N - 1."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple


class Bucket(NamedTuple):
    tokens: float
    at: float


class TokenBucket:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_full(now)
            bucket = self._buckets.get(user_id, Bucket(self._limit, now))
            tokens = min(self._limit, bucket.tokens + (now - bucket.at) * self._limit / self._window)
            if tokens < 1:
                return False
            self._buckets[user_id] = Bucket(tokens - 1, now)
            self._buckets.move_to_end(user_id)
            return True

    def _forget_full(self, now: float) -> None:
        for user_id in list(islice(self._buckets, 2)):
            if self._buckets[user_id].at > now - self._window:
                return
            del self._buckets[user_id]
