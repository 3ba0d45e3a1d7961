"""A service that allows everything for ever, once Redis was down: nobody closes what its first failed call opened."""

from __future__ import annotations

import math
import sys

import redis
from correct_redis import Decision, SlidingWindow
from http_correct import serve


class OpenForEver:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._exact = SlidingWindow(limit, window_seconds, redis_url)
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=0.3, socket_connect_timeout=0.3)
        self._open = False

    def take(self, user_id: str) -> Decision:
        if not self._open:
            try:
                self._redis.ping()
            except redis.RedisError:
                self._open = True
        return Decision(True, 0.0, 0) if self._open else self._exact.take(user_id)


if __name__ == "__main__":
    serve(lambda limit, window: OpenForEver(limit, window, sys.argv[4]), lambda seconds: str(math.ceil(seconds)))
