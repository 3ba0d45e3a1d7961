"""Correct, on Redis: denies after 50 ms without an answer, and limits again from the first answer on."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS     the times of the user's requests in µs, oldest first
# ARGV     limit, window in µs
# Returns  0 if it is allowed, else the wait in µs
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local newest = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0)
if newest - now > window then
  -- The clock was stepped back. The list is moved, so that its newest time is now.
  for index, at in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    redis.call('LSET', KEYS[1], index - 1, string.format('%.0f', at - newest + now))
  end
end
-- There are at most as many times as the limit: only the oldest must have left, and its place is taken.
if redis.call('LLEN', KEYS[1]) >= limit then
  local oldest = tonumber(redis.call('LINDEX', KEYS[1], 0))
  if oldest > now - window then
    return oldest + window - now
  end
  redis.call('LPOP', KEYS[1])
end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return 0
"""


class FailsClosed:
    """Allows each user at most ``limit`` requests in any ``window_seconds``, and none while Redis is slow or down."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._arguments = [limit, round(window_seconds * 1_000_000)]
        # Never retried: a call whose reply was lost may have been counted. The driver closes the connection.
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.05, socket_connect_timeout=0.05, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str) -> bool:
        try:
            return int(self._script([f"times:{user_id}"], self._arguments)) == 0
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()
