"""Limiters that charge a cost rightly when it is taken, and give its units back wrongly when they leave the window."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict, deque
from itertools import islice

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Log:
    """The requests of a user, with their costs and the units that they hold."""

    def __init__(self) -> None:
        self.times: deque[float] = deque()
        self.costs: deque[int] = deque()
        self.used = 0

    def add(self, now: float, cost: int) -> None:
        self.times.append(now)
        self.costs.append(cost)
        self.used += cost

    def trim(self, start: float) -> None:
        while self.times and self.times[0] <= start:
            self.times.popleft()
            self.used -= self.costs.popleft()


class InMemory:
    """The limiter; a subclass has another log."""

    LOG = Log

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, Log] = OrderedDict()  # the user allowed last comes last
        self._allowed_at: dict[str, float] = {}

    def allow(self, user_id: str, cost: int = 1) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id) or self.LOG()
            log.trim(now - self._window)
            if log.used + cost > self._limit:
                return False
            log.add(now, cost)
            self._logs[user_id], self._allowed_at[user_id] = log, now
            self._logs.move_to_end(user_id)
            return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._allowed_at[user_id] > now - self._window:
                return
            del self._logs[user_id], self._allowed_at[user_id]


class LogOfCalls(Log):
    def add(self, now: float, cost: int) -> None:
        self.times.append(now)
        self.used = len(self.times)

    def trim(self, start: float) -> None:
        while self.times and self.times[0] <= start:
            self.times.popleft()
        self.used = len(self.times)


class OneEntryForCost(InMemory):
    """The check asks for room for the whole cost, but one entry is stored: large requests are nearly free."""

    LOG = LogOfCalls


class LogFreedByCall(Log):
    def trim(self, start: float) -> None:
        while self.times and self.times[0] <= start:
            self.times.popleft()
            self.costs.popleft()
            self.used -= 1


class OneUnitComesBack(InMemory):
    """A request that leaves gives back one unit whatever it took: a busy user ends with no units at all."""

    LOG = LogFreedByCall


class LogFreedByUnit(Log):
    def trim(self, start: float) -> None:
        while self.times and self.times[0] <= start:
            for _ in range(min(self.costs[0], len(self.times))):
                self.times.popleft()
                self.used -= self.costs.popleft()


class EntryForEachUnit(InMemory):
    """There is an entry for each request, and one is dropped for each unit that leaves: live requests go with it."""

    LOG = LogFreedByUnit


class LogFreedFromNewest(Log):
    def trim(self, start: float) -> None:
        while self.times and self.times[0] <= start:
            self.times.popleft()
            self.used -= self.costs.pop()


class NewestComesBack(InMemory):
    """The cost of the newest request comes back when the oldest leaves: right only while all costs are equal."""

    LOG = LogFreedFromNewest


class LogOfFirstUnits(Log):
    def add(self, now: float, cost: int) -> None:
        self.times.append(now)
        self.used += cost

    def trim(self, start: float) -> None:
        if self.times and self.times[0] <= start:
            while self.times and self.times[0] <= start:
                self.times.popleft()
            self.used = len(self.times)


class AllComeBack(InMemory):
    """Once the oldest request leaves, each that stays counts as one unit: the rest of its cost comes back too early."""

    LOG = LogOfFirstUnits


# KEYS     the user's requests or units, by time; the units that they hold
# ARGV     limit, window in µs, cost, a unique name for the request
START = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ttl = math.ceil(window / 1000) + 1
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest request is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > window then
  for _, request in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, request)
  end
end
"""

UNITS_BY_MILLISECOND = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZCARD', KEYS[1]) + cost > limit then
  return 0
end
for unit = 1, cost do
  local member = cost == 1 and ARGV[4] or string.format('%d:%.0f:%d', cost, now / 1000, unit)
  redis.call('ZADD', KEYS[1], now, member)
end
redis.call('PEXPIRE', KEYS[1], ttl)
return 1
"""

COUNT_OF_REQUESTS = """
local left = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if left > 0 then
  redis.call('DECRBY', KEYS[2], left)
end
if (redis.call('GET', KEYS[2]) or 0) + cost > limit then
  return 0
end
"""

TWO_AT_A_TIME = """
-- Two at most, so that no call takes long.
for _, request in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - window, 'LIMIT', 0, 2)) do
  redis.call('ZREM', KEYS[1], request)
  redis.call('DECRBY', KEYS[2], string.match(request, '^%d+'))
end
if (redis.call('GET', KEYS[2]) or 0) + cost > limit then
  return 0
end
"""

STORE = """
redis.call('ZADD', KEYS[1], now, cost .. ':' .. ARGV[4])
redis.call('INCRBY', KEYS[2], cost)
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
return 1
"""


class OnRedis:
    """The call; a subclass has another script."""

    SCRIPT = START

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(self.SCRIPT)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        keys = [f"window:{{{user_id}}}", f"used:{{{user_id}}}"]
        try:
            return bool(self._script(keys, [self._limit, self._window_us, cost, uuid.uuid4().hex]))
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()


class SameMember(OnRedis):
    """Units are named by the cost and the millisecond: of two equal requests within one, one is counted."""

    SCRIPT = START + UNITS_BY_MILLISECOND


class CountsWhatLeaves(OnRedis):
    """The counter is lowered by the number of requests that left, not by their costs: a busy user loses its units."""

    SCRIPT = START + COUNT_OF_REQUESTS + STORE


class TwoAtATime(OnRedis):
    """A call frees two old requests at most, and the others still count: after a burst a large cost is denied."""

    SCRIPT = START + TWO_AT_A_TIME + STORE
