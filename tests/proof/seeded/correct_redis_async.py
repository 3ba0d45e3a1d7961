"""Correct, on Redis, for one event loop: the same script, awaited, with one deadline for the whole call."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import NamedTuple

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# KEYS[1]  the user's units in the window, each scored by its time, µs
# ARGV     limit, window in µs, cost, a unique name for the request
# Returns  {allowed 0|1, remaining, retry_after µs, -1 if it never can be}
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest unit is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > window then
  for _, unit in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, unit)
  end
end
local free = limit - redis.call('ZCARD', KEYS[1])
if cost > limit then
  return {0, free, -1}
end
if cost > free then
  local last = redis.call('ZRANGE', KEYS[1], cost - free - 1, cost - free - 1, 'WITHSCORES')
  return {0, free, last[2] + window - now}
end
for unit = 1, cost do
  redis.call('ZADD', KEYS[1], now, ARGV[4] .. ':' .. unit)
end
-- A millisecond more: Redis cuts its time to milliseconds, so that the key would go before its newest unit does.
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return {1, free - cost, 0}
"""


class Decision(NamedTuple):
    """The answer to one request; ``retry_after`` in seconds, 0.0 if it is allowed, inf if it never can be."""

    allowed: bool
    retry_after: float
    remaining: int


class SlidingWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``, for all processes on one Redis together.

    Without an answer from Redis, for 0.4 s at most, a request is denied.
    """

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        # Never retried: a call whose reply was lost may have been counted. A burst of tasks shares a
        # few connections; the time they wait for one counts towards the deadline as well.
        pool = redis.BlockingConnectionPool.from_url(
            redis_url, max_connections=32, timeout=None, retry=Retry(NoBackoff(), 0)
        )
        self._redis = redis.Redis.from_pool(pool)
        self._decide = self._redis.register_script(SCRIPT)

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return (await self.take(user_id, cost)).allowed

    async def take(self, user_id: str, cost: int = 1) -> Decision:
        """Take ``cost`` units if there is room for all of them. Raises ValueError if it is below 1."""
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        arguments = [self._limit, self._window_us, cost, uuid.uuid4().hex]
        try:
            async with asyncio.timeout(0.4):
                allowed, remaining, wait_us = await self._decide([f"window:{user_id}"], arguments)
        except (redis.RedisError, TimeoutError):
            return Decision(False, 1.0, 0)
        return Decision(allowed == 1, math.inf if wait_us < 0 else wait_us / 1e6, remaining)

    async def aclose(self) -> None:
        await self._redis.aclose()
