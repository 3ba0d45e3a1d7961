"""Correct, on Redis: while Redis is down each instance decides by what it allowed itself, and then shares again."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict, deque
from itertools import islice

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS     the user's requests in the window, each scored by its time, µs
# ARGV     limit, window in µs, a unique name for the request
# Returns  0 if it is allowed, else the wait in µs
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
if redis.call('ZCARD', KEYS[1]) >= limit then
  return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window - now
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return 0
"""


class OwnRequests:
    """The requests that this instance allowed, with Redis or without. Unless Redis lost some, it has them, too."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()

    def has_room(self, user_id: str) -> bool:
        with self._lock:
            return self._used(user_id) < self._limit

    def allow(self, user_id: str, now: float) -> bool:
        with self._lock:
            if self._used(user_id) >= self._limit:
                return False
            self._add(user_id, now)
            return True

    def add(self, user_id: str, at: float) -> None:
        with self._lock:
            self._add(user_id, at)

    def _add(self, user_id: str, at: float) -> None:
        log = self._logs.setdefault(user_id, deque())
        place = len(log)
        while place and log[place - 1] > at:  # replies may overtake each other
            place -= 1
        log.insert(place, at)

    def _used(self, user_id: str) -> int:
        start = time.monotonic() - self._window
        for other in list(islice(self._logs, 2)):
            if self._logs[other][-1] <= start:
                del self._logs[other]
            else:
                self._logs.move_to_end(other)
        log = self._logs.get(user_id, deque())
        while log and log[0] <= start:
            log.popleft()
        if not log:
            self._logs.pop(user_id, None)
        return len(log)


class LocalFallback:
    """Allows each user at most ``limit`` requests in any ``window_seconds``; in an outage, that many per instance."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._arguments = [limit, round(window_seconds * 1_000_000)]
        self._own = OwnRequests(limit, window_seconds)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)
        self._call_again_at = 0.0

    def allow(self, user_id: str) -> bool:
        sent_at = time.monotonic()
        if sent_at < self._call_again_at:
            return self._own.allow(user_id, sent_at)
        if not self._own.has_room(user_id):
            return False  # Redis may have lost what it knew
        if self._call_again_at:
            self._call_again_at = sent_at + 0.2  # one request in 0.2 s finds out whether Redis is there
        try:
            wait_us = int(self._script([f"window:{user_id}"], [*self._arguments, uuid.uuid4().hex]))
        except redis.RedisError:
            self._call_again_at = time.monotonic() + 0.2
            return self._own.allow(user_id, time.monotonic())
        self._call_again_at = 0.0
        if wait_us == 0:
            # By the time before the call, which is the earliest: it leaves here no later than on Redis.
            self._own.add(user_id, sent_at)
        return wait_us == 0

    def close(self) -> None:
        self._redis.close()
