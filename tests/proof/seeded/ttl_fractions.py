"""Limiters whose TTL or window is right for some spans only: whole seconds, less than a day, less than 25 days."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import OrderedDict, deque
from datetime import timedelta
from itertools import islice

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS the user's requests, by time; ARGV limit, window in µs, a unique name for the request, TTL in ms
SCRIPT = """
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
  return 0
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


class OnRedis:
    """The limiter without its TTL, which a subclass makes of the window."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str, script: str = SCRIPT) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._ttl_ms = self._ttl(window_seconds)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(script)

    def _ttl(self, window_seconds: float) -> int:
        return math.ceil(window_seconds * 1000) + 1

    def allow(self, user_id: str) -> bool:
        name = uuid.uuid4().hex
        try:
            return bool(self._script([f"window:{user_id}"], [self._limit, self._window_us, name, self._ttl_ms]))
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()


class AtLeastASecond(OnRedis):
    """The TTL is cut to whole seconds, 1 at least: a window of 1.5 s is forgotten after one second without requests."""

    def _ttl(self, window_seconds: float) -> int:
        return max(1, int(window_seconds)) * 1000 + 1


class Rounded(OnRedis):
    """The TTL is rounded to whole seconds: 2.5 s become 2, so the key goes half a second too early."""

    def _ttl(self, window_seconds: float) -> int:
        return max(1, round(window_seconds)) * 1000 + 1


class SecondsOfTimedelta(OnRedis):
    """`timedelta.seconds` leaves out the days: for a day the TTL is a millisecond, so everything is allowed."""

    def _ttl(self, window_seconds: float) -> int:
        window = timedelta(seconds=window_seconds)
        return window.seconds * 1000 + math.ceil(window.microseconds / 1000) + 1


class Milliseconds32(OnRedis):
    """The TTL is made whole in 32 bits: for a window of 25 days it is negative, which deletes the key at once."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        # Lua has no integers; PEXPIRE takes nothing else.
        script = SCRIPT.replace("ARGV[4])", "bit.tobit(ARGV[2] / 1000) + 2)")
        super().__init__(limit, window_seconds, redis_url, script)


class WholeMinutes(OnRedis):
    """Windows of a minute or more are kept in whole minutes: one of 90 s ends after 60."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        minutes = int(window_seconds) // 60
        super().__init__(limit, minutes * 60 if minutes else window_seconds, redis_url)


class RoundedUp(OnRedis):
    """The window is rounded up to whole seconds along with its TTL: 1.5 s last 2, and requests are denied too long."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, math.ceil(window_seconds), redis_url)


class FreedTooEarly:
    """In memory: users are freed after a whole number of seconds, so a window of 1.5 s is forgotten after one."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._idle_seconds = max(1, int(window_seconds))
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._idle_seconds:
                return
            del self._logs[user_id]
