"""Correct, on Redis: a call that Redis reaches after its caller has given up takes nothing.

The caller's deadline is sent in the server's time, which each host estimates by its own monotonic clock.
"""

from __future__ import annotations

import math
import time
import uuid
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS     the user's units in the window, each scored by its time, µs
# ARGV     limit, window in µs, cost, a unique name for the request, its deadline in the server's time, µs
# Returns  {allowed 0|1, late 2; remaining; retry_after µs, -1 if it never can be; the server's time, µs}
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if now > tonumber(ARGV[5]) then
  return {2, 0, 0, now}
end
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
  return {0, free, -1, now}
end
if cost > free then
  local last = redis.call('ZRANGE', KEYS[1], cost - free - 1, cost - free - 1, 'WITHSCORES')
  return {0, free, last[2] + window - now, now}
end
for unit = 1, cost do
  redis.call('ZADD', KEYS[1], now, ARGV[4] .. ':' .. unit)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return {1, free - cost, 0, now}
"""
TIMEOUT = 0.3
LATE = 2


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Deadline:
    """Allows each user at most ``limit`` units in any ``window_seconds``; denies while Redis is slow or down."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)
        self._server_ahead: float | None = None  # seconds from the monotonic clock to the server's; None: unknown

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        try:
            reply = self._call(user_id, cost)
            if reply[0] == LATE:  # the server's clock was stepped: its time is known now, and nothing was taken
                reply = self._call(user_id, cost)
        except redis.RedisError:
            return Decision(False, 1.0, 0)
        state, remaining, wait_us = reply[:3]
        if state == LATE:
            return Decision(False, 1.0, 0)
        return Decision(state == 1, math.inf if wait_us < 0 else wait_us / 1e6, remaining)

    def _call(self, user_id: str, cost: int) -> list[int]:
        if self._server_ahead is None:
            deadline = "inf"
        else:
            deadline = str(round((time.monotonic() + TIMEOUT + self._server_ahead) * 1_000_000))
        name = uuid.uuid4().hex
        reply: list[int] = self._script([f"window:{user_id}"], [self._limit, self._window_us, cost, name, deadline])
        self._server_ahead = reply[3] / 1_000_000 - time.monotonic()
        return reply

    def close(self) -> None:
        self._redis.close()
