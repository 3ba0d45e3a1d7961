"""Correct, on Redis: a denied user is denied from memory until there can be room, and no longer."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS     the user's requests in the window, each scored by its time, µs
# ARGV     limit, window in µs, a unique name for the request
# Returns  {the wait in µs, 0 if it is allowed; remaining}
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest request is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > window then
  for _, request in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, request)
  end
end
local used = redis.call('ZCARD', KEYS[1])
if used >= limit then
  return {redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window - now, 0}
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return {0, limit - used - 1}
"""


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Denial(NamedTuple):
    """When there is room again, by this host's monotonic clock: Redis decided between the call and the reply."""

    earliest: float
    latest: float


class DenialCache:
    """Allows each user at most ``limit`` requests in any ``window_seconds``; denies while Redis is down."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._arguments = [limit, round(window_seconds * 1_000_000)]
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)
        self._lock = threading.Lock()
        self._denials: OrderedDict[str, Denial] = OrderedDict()

    def allow(self, user_id: str) -> bool:
        return self.take(user_id).allowed

    def retry_after(self, user_id: str) -> float:
        denial = self._denials.get(user_id)
        return max(0.0, denial.latest - time.monotonic()) if denial else 0.0

    def take(self, user_id: str) -> Decision:
        sent_at = time.monotonic()
        denial = self._denials.get(user_id)
        if denial and sent_at < denial.earliest:
            return Decision(False, denial.latest - sent_at, 0)
        try:
            wait_us, remaining = self._script([f"window:{user_id}"], [*self._arguments, uuid.uuid4().hex])
        except redis.RedisError:
            return Decision(False, 1.0, 0)
        if wait_us == 0:
            return Decision(True, 0.0, remaining)
        self._remember(user_id, Denial(sent_at + wait_us / 1e6, time.monotonic() + wait_us / 1e6))
        return Decision(False, wait_us / 1e6, 0)

    def _remember(self, user_id: str, denial: Denial) -> None:
        with self._lock:
            self._denials[user_id] = denial
            self._denials.move_to_end(user_id)
            for other in list(islice(self._denials, 2)):
                if self._denials[other].latest <= time.monotonic():
                    del self._denials[other]
                else:
                    self._denials.move_to_end(other)

    def close(self) -> None:
        self._redis.close()
