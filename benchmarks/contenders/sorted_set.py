"""The textbook: a sorted set with one member a unit, in one script call a decision, by the server's clock."""

from __future__ import annotations

from collections.abc import Callable

import redis
import redis.asyncio

NAME = "sorted set, one call a decision"

_SCRIPT = """
local t = redis.call('TIME') local now = t[1] * 1000000 + t[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
local n = redis.call('ZCARD', KEYS[1])
if n + ARGV[3] > tonumber(ARGV[1]) then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return {0, 0, oldest[2] + ARGV[2] - now}
end
for unit = 1, ARGV[3] do
  redis.call('ZADD', KEYS[1], now, now .. ':' .. n + unit)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return {1, ARGV[1] - n - ARGV[3], 0}
"""


def decide(client: redis.Redis | redis.asyncio.Redis, limit: int, window: float) -> Callable[..., object]:
    """Return a call with a key and a cost. With an asynchronous client it is to be awaited."""
    script = client.register_script(_SCRIPT)
    window_us = int(window * 1e6)
    return lambda key, cost=1: script(keys=[key], args=[limit, window_us, cost])


def allowed(reply: list[int]) -> bool:
    return reply[0] == 1
