"""Redis is informed of each request, but the decision is made in this process: each instance allows the whole limit."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import OrderedDict, deque
from itertools import islice

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class CountsHere:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window = window_seconds
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        if not self._room(user_id):
            return False
        with contextlib.suppress(redis.RedisError):
            self._redis.set(f"seen:{user_id}", 1, px=math.ceil(self._window * 1000) + 1)
        return True

    def _room(self, user_id: str) -> bool:
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
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window:
                return
            del self._logs[user_id]

    def close(self) -> None:
        self._redis.close()
