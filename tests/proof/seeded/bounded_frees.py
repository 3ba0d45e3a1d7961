"""Limiters that keep their memory bounded by freeing users who are still throttled: these start anew at once."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import OrderedDict, deque
from functools import lru_cache
from itertools import islice

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

MOST_USERS = 10_000


class Correct:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic_ns()
            self._forget(now)
            log = self._logs.get(user_id, deque())
            if not self._charge(log, now):
                return False
            self._store(user_id, log, now)
            return True

    def _charge(self, log: deque[int], now: int) -> bool:
        while log and log[0] <= now - self._window_ns:
            log.popleft()
        if len(log) >= self._limit:
            return False
        log.append(now)
        return True

    def _store(self, user_id: str, log: deque[int], now: int) -> None:
        self._logs[user_id] = log
        self._logs.move_to_end(user_id)

    def _forget(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            self._drop(user_id)

    def _drop(self, user_id: str) -> None:
        del self._logs[user_id]


class LruCacheOfLogs(Correct):
    """Logs live in an ``lru_cache``: ten thousand made-up names push out every log, and a throttled user is free."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._log_of = lru_cache(maxsize=MOST_USERS)(self._new_log)

    def allow(self, user_id: str) -> bool:
        with self._lock:
            return self._charge(self._log_of(user_id), time.monotonic_ns())

    def _new_log(self, user_id: str) -> deque[int]:
        return deque()


class ClearsWhenFull(Correct):
    """At 10 000 users everything is cleared: each of them has the whole limit again at that moment."""

    def _forget(self, now: int) -> None:
        super()._forget(now)
        if len(self._logs) >= MOST_USERS:
            self._logs.clear()


class EvictsSample(Correct):
    """Above 10 000 users the idlest of five random ones is freed, though its units may be seconds old."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._names: list[str] = []
        self._places: dict[str, int] = {}

    def _store(self, user_id: str, log: deque[int], now: int) -> None:
        if user_id not in self._logs:
            if len(self._logs) >= MOST_USERS:
                self._drop(min(random.sample(self._names, 5), key=lambda user_id: self._logs[user_id][-1]))
            self._places[user_id] = len(self._names)
            self._names.append(user_id)
        super()._store(user_id, log, now)

    def _drop(self, user_id: str) -> None:
        super()._drop(user_id)
        place, last = self._places.pop(user_id), self._names.pop()
        if last != user_id:
            self._names[place] = last
            self._places[last] = place


class FreesByFirstSeen(Correct):
    """A user is freed one window after its first request: the newest units go with the oldest."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._seen: dict[str, int] = {}

    def _store(self, user_id: str, log: deque[int], now: int) -> None:
        self._seen.setdefault(user_id, now)
        self._logs[user_id] = log

    def _forget(self, now: int) -> None:
        for user_id in list(islice(self._seen, 2)):
            if self._seen[user_id] > now - self._window_ns:
                return
            del self._seen[user_id], self._logs[user_id]


class FreesByWallClock(Correct):
    """Idle users are found by the wall clock: when it is set forward, all are freed with their units."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._window = window_seconds
        self._seen: dict[str, float] = {}

    def _store(self, user_id: str, log: deque[int], now: int) -> None:
        super()._store(user_id, log, now)
        self._seen[user_id] = time.time()

    def _forget(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._seen[user_id] >= time.time() - self._window:
                return
            del self._seen[user_id], self._logs[user_id]


class RotatesTooSoon(Correct):
    """Two generations of logs change every half window, so an idle user is freed before its units have left."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._old: OrderedDict[str, deque[int]] = OrderedDict()
        self._rotated_ns = time.monotonic_ns()

    def _forget(self, now: int) -> None:
        while now - self._rotated_ns >= self._window_ns // 2:
            self._old, self._logs = self._logs, OrderedDict()
            self._rotated_ns += self._window_ns // 2
            if not self._old:
                self._rotated_ns = now

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic_ns()
            self._forget(now)
            log = self._logs.get(user_id) or self._old.get(user_id) or deque()
            if not self._charge(log, now):
                return False
            self._store(user_id, log, now)
            return True


# KEYS[1]  the user's requests, by time
# KEYS[2]  all users, by the time of their last allowed request
# ARGV     limit, window in µs, a unique name for the request, most users
# Returns  1 if it is allowed, else 0
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('ZADD', KEYS[2], now, KEYS[1])
if redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[4]) then
  redis.call('DEL', redis.call('ZPOPMIN', KEYS[2])[1])
end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
redis.call('PEXPIRE', KEYS[2], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""


class RedisMostUsers:
    """Redis holds the newest 10 000 users: a burst of new names deletes the keys of users who are throttled."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str) -> bool:
        arguments: list[str | float] = [self._limit, self._window_us, uuid.uuid4().hex, MOST_USERS]
        try:
            return bool(self._script([f"user:{user_id}", "users"], arguments) == 1)
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()
