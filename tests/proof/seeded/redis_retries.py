"""A call whose reply was lost is sent again, and each attempt is counted: one request takes up to three units."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS the times of the user's requests, oldest first; ARGV limit, window in µs
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= now - ARGV[2] do
  redis.call('LPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], 0)
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('RPUSH', KEYS[1], now)
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""


class Retries:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.2, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 2)
        )
        self._decide = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str) -> bool:
        try:
            return self._decide([f"window:{user_id}"], [self._limit, self._window_us]) == 1
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()
