"""The time is the member, joined by `..`, which keeps 14 digits: of all requests within 100 µs one is counted."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS the user's requests, by time; ARGV limit, window in µs
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, 't' .. now)
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""


class SameMember:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._decide = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str) -> bool:
        try:
            return self._decide([f"window:{user_id}"], [self._limit, self._window_us]) == 1
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()
