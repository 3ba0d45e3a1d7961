"""Limiters that compare monotonic clocks of several hosts on one Redis: each host's clock begins when it was booted."""

from __future__ import annotations

import asyncio
import time
import uuid

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS the user's requests, by time; ARGV limit, window in µs, a unique name for the request, now in µs
SORTED_SET = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[4] - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""

# KEYS the times of the user's requests, oldest first; ARGV limit, window in µs, -, now in µs
LIST = """
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= ARGV[4] - ARGV[2] do
  redis.call('LPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], 0)
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('RPUSH', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""

# KEYS the user's requests, by time; ARGV limit, window in µs, a unique name for the request
# Returns  0 if it is allowed, else the wait in µs
WAIT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest request is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > tonumber(ARGV[2]) then
  for _, request in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, request)
  end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + ARGV[2] - now
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 0
"""


class MonotonicScores:
    """The scores are `time.monotonic()` of the host: one booted a window earlier erases what all others counted."""

    SCRIPT = SORTED_SET

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(self.SCRIPT)

    def _now_us(self) -> int:
        return time.monotonic_ns() // 1000  # never goes back

    def allow(self, user_id: str) -> bool:
        name = uuid.uuid4().hex
        try:
            return bool(self._script([f"window:{user_id}"], [self._limit, self._window_us, name, self._now_us()]))
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()


class PerfCounterList(MonotonicScores):
    """The list holds `time.perf_counter()`: a host booted later never sees the requests of older hosts leave."""

    SCRIPT = LIST

    def _now_us(self) -> int:
        return round(time.perf_counter() * 1_000_000)  # the most precise clock


class EpochAtStart(MonotonicScores):
    """The wall clock is read once, at the start: a host that started with a wrong clock keeps it for ever."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._started_at, self._start = time.time(), time.monotonic()

    def _now_us(self) -> int:
        elapsed = time.monotonic() - self._start  # safe from steps of the wall clock
        return round((self._started_at + elapsed) * 1_000_000)


class LoopTime:
    """The scores are the event loop's time, which is the host's: hosts erase, or never see, each other's requests."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            redis_url, max_connections=32, timeout=None, retry=AsyncRetry(NoBackoff(), 0)
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._script = self._redis.register_script(SORTED_SET)

    async def allow(self, user_id: str) -> bool:
        now_us = round(asyncio.get_running_loop().time() * 1_000_000)
        try:
            async with asyncio.timeout(0.4):
                name = uuid.uuid4().hex
                return bool(await self._script([f"window:{user_id}"], [self._limit, self._window_us, name, now_us]))
        except (redis.RedisError, TimeoutError):
            return False

    async def aclose(self) -> None:
        await self._redis.aclose()


class SharedDenial:
    """The end of a denial is stored by one host's monotonic clock: one booted later denies for too long."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(WAIT)

    def allow(self, user_id: str) -> bool:
        try:
            denied_until = self._redis.get(f"denied:{user_id}")
            # A read is cheaper than the script, and a denied user calls often.
            if denied_until is not None and time.monotonic() < float(denied_until):
                return False
            wait_us = int(self._script([f"window:{user_id}"], [self._limit, self._window_us, uuid.uuid4().hex]))
            if wait_us > 0:
                until = time.monotonic() + wait_us / 1_000_000
                self._redis.set(f"denied:{user_id}", until, px=self._window_us // 1000 + 1)
        except redis.RedisError:
            return False
        return wait_us == 0

    def close(self) -> None:
        self._redis.close()
