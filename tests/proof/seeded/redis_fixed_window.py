"""INCR with a TTL from the first request: late requests expire with the key, and N more get in at once."""

from __future__ import annotations

import math

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS the user's count; ARGV limit, window in ms
SCRIPT = """
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then
  return 0
end
if redis.call('INCR', KEYS[1]) == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
"""


class FixedWindow:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_ms = math.ceil(window_seconds * 1000) + 1
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._decide = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str) -> bool:
        try:
            return self._decide([f"window:{user_id}"], [self._limit, self._window_ms]) == 1
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()
