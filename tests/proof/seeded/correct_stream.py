"""Correct, on Redis: a stream with an entry for each unit, whose id is its time, and a TTL of whole seconds."""

from __future__ import annotations

import math
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS     the user's units; an id is its time in µs, and a number for those of one µs
# ARGV     limit, window in µs, cost
# Returns  {allowed 0|1, remaining, retry_after µs, -1 if it never can be}
SCRIPT = """
local function number(us) return string.format('%.0f', us) end
local function at(entry) return tonumber(string.match(entry[1], '^%d+')) end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('XTRIM', KEYS[1], 'MINID', '=', number(now - window + 1))
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and at(newest) - now > window then
  -- The clock was stepped back. The entries are made anew, as ids only grow, so that the newest is of now.
  local entries, back = redis.call('XRANGE', KEYS[1], '-', '+'), at(newest) - now
  redis.call('DEL', KEYS[1])
  for _, entry in ipairs(entries) do
    local seq = string.match(entry[1], '%d+$')
    redis.call('XADD', KEYS[1], number(at(entry) - back) .. '-' .. seq, 'u', '')
  end
  newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
end
if not newest then
  redis.call('DEL', KEYS[1]) -- an empty stream still remembers its highest id, and the clock may have gone back
end
local free = limit - redis.call('XLEN', KEYS[1])
if cost > limit then
  return {0, free, -1}
end
if cost > free then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', cost - free)
  return {0, free, at(oldest[cost - free]) + window - now}
end
local id, seq = now, 0
if newest and at(newest) >= now then
  id, seq = at(newest), string.match(newest[1], '%d+$') + 1
end
for unit = 0, cost - 1 do
  redis.call('XADD', KEYS[1], number(id) .. '-' .. number(seq + unit), 'u', '')
end
redis.call('EXPIRE', KEYS[1], math.ceil(window / 1000000) + 1)
return {1, free - cost, 0}
"""


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class StreamWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``; denies while Redis is down."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        try:
            allowed, remaining, wait_us = self._script([f"stream:{user_id}"], [self._limit, self._window_us, cost])
        except redis.RedisError:
            return Decision(False, 1.0, 0)
        return Decision(allowed == 1, math.inf if wait_us < 0 else wait_us / 1e6, remaining)

    def close(self) -> None:
        self._redis.close()
