"""Limiters that are fast on average, and stop everybody for many milliseconds once in a while."""

from __future__ import annotations

import gc
import threading
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import islice, repeat

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Correct:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if len(log) + cost > self._limit:
                return False
            log.extend(repeat(now, cost))
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]


class SweepsEveryThousand(Correct):
    """Every thousandth call trims the logs of all users: with 20 000 of them it takes 10 000 times as long."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._calls = 0

    def _forget_idle(self, now: int) -> None:
        self._calls += 1
        if self._calls % 1000:
            return
        cutoff = now - self._window_ns
        trimmed = ((user_id, deque(at for at in log if at > cutoff)) for user_id, log in self._logs.items())
        self._logs = OrderedDict((user_id, log) for user_id, log in trimmed if log)


class SweepsEachSecond(Correct):
    """The first call of each second looks at all users for idle ones: with 20 000 of them all others wait."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._swept_ns = time.monotonic_ns()

    def _forget_idle(self, now: int) -> None:
        if now - self._swept_ns < 1_000_000_000:
            return
        self._swept_ns = now
        for user_id in list(self._logs):
            log = self._logs[user_id]
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if not log:
                del self._logs[user_id]


class CollectsGarbage(Correct):
    """Every thousandth call runs the garbage collector: it looks at every object in the process, under the lock."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._calls = 0

    def _forget_idle(self, now: int) -> None:
        super()._forget_idle(now)
        self._calls += 1
        if self._calls % 1000 == 0:
            gc.collect()


class PopsFront(Correct):
    """The log is a list that is trimmed by ``pop(0)``: when a burst of 20 000 leaves, each pop moves all the others."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._lists: OrderedDict[str, list[int]] = OrderedDict()

    def allow(self, user_id: str, cost: int = 1) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            for idle in list(islice(self._lists, 2)):
                if self._lists[idle][-1] > now - self._window_ns or idle == user_id:
                    break
                del self._lists[idle]
            log = self._lists.get(user_id, [])
            while log and log[0] <= now - self._window_ns:
                log.pop(0)
            if len(log) + cost > self._limit:
                if not log:
                    self._lists.pop(user_id, None)
                return False
            log.extend(repeat(now, cost))
            self._lists[user_id] = log
            self._lists.move_to_end(user_id)
            return True


@dataclass(order=True)
class Request:
    at_ns: int
    cost: int


class SortsOnExpiry(Correct):
    """Whenever a request leaves the window, the whole log is copied and sorted: O(N log N) for one expired entry."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._requests: OrderedDict[str, list[Request]] = OrderedDict()
        self._used: dict[str, int] = {}

    def allow(self, user_id: str, cost: int = 1) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            for known in (*islice(self._requests, 2), user_id):
                self._expire(known, now)
            used = self._used.get(user_id, 0)
            if used + cost > self._limit:
                return False
            self._requests.setdefault(user_id, []).append(Request(now, cost))
            self._requests.move_to_end(user_id)
            self._used[user_id] = used + cost
            return True

    def _expire(self, user_id: str, now: int) -> None:
        log = self._requests.get(user_id)
        if not log or log[0].at_ns > now - self._window_ns:
            return
        live = sorted(entry for entry in log if entry.at_ns > now - self._window_ns)
        if live:
            self._requests[user_id] = live
            self._used[user_id] = sum(entry.cost for entry in live)
        else:
            del self._requests[user_id], self._used[user_id]


# KEYS the user's units, by time; ARGV limit, window in µs, a unique name for the request, cost
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- TRIM
if redis.call('ZCARD', KEYS[1]) + ARGV[4] > tonumber(ARGV[1]) then
  return 0
end
for unit = 1, tonumber(ARGV[4]) do
  redis.call('ZADD', KEYS[1], now, ARGV[3] .. ':' .. unit)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""

ONE_BY_ONE = """
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
while oldest[2] and oldest[2] + ARGV[2] <= now do
  redis.call('ZREM', KEYS[1], oldest[1])
  oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
end
"""

REBUILD = """
if redis.call('ZCOUNT', KEYS[1], '-inf', now - ARGV[2]) > 0 then
  local live = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now - ARGV[2]), '+inf', 'WITHSCORES')
  redis.call('DEL', KEYS[1])
  for index = 1, #live, 2 do
    redis.call('ZADD', KEYS[1], live[index + 1], live[index])
  end
end
"""

EVERY_HUNDREDTH = """
if redis.call('INCR', 'slow:calls') % 100 == 0 then
  for _, key in ipairs(redis.call('KEYS', 'slow:user:*')) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - ARGV[2])
  end
end
redis.call('PEXPIRE', 'slow:calls', math.ceil(ARGV[2] / 1000) + 1)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
"""


class OnRedis:
    """Correct with a trim of one command."""

    trim = "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])"

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT.replace("-- TRIM", self.trim))

    def allow(self, user_id: str, cost: int = 1) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        arguments: list[str | float] = [self._limit, self._window_us, uuid.uuid4().hex, cost]
        try:
            return bool(self._script([f"slow:user:{user_id}"], arguments) == 1)
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()


class RedisRemovesOneByOne(OnRedis):
    """The script removes what has left unit by unit, in a loop: Redis stands still when a burst leaves the window."""

    trim = ONE_BY_ONE


class RedisUnpacks(OnRedis):
    """All that has left is unpacked into one command: 8000 are too many for Lua, and the user is denied ever after."""

    trim = """
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
end
"""


class RedisRebuilds(OnRedis):
    """When anything has left the window, the log is deleted and written anew: one expired unit costs 8000 writes."""

    trim = REBUILD


class RedisKeysScan(OnRedis):
    """Every hundredth call trims the logs of all users, found by ``KEYS``: Redis stands still for all its clients."""

    trim = EVERY_HUNDREDTH
