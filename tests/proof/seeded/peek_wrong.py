"""Limiters whose ``peek``, ``remaining`` or ``retry_after`` is right for a fresh user only; they limit correctly."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import OrderedDict, deque
from itertools import islice, repeat
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Correct:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            decision = self._decide(user_id, cost, now)
            if not decision.allowed:
                return decision
            self._logs.setdefault(user_id, deque()).extend(repeat(now, cost))
            self._logs.move_to_end(user_id)
            return decision._replace(remaining=decision.remaining - cost)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            return self._decide(user_id, cost, time.monotonic_ns())

    def retry_after(self, user_id: str) -> float:
        return self.peek(user_id).retry_after

    def _decide(self, user_id: str, cost: int, now: int) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window_ns:
            log.popleft()
        free = self._limit - len(log)
        if cost <= free:
            return Decision(True, 0.0, free)
        if cost > self._limit:
            return Decision(False, math.inf, free)
        return Decision(False, (log[cost - free - 1] + self._window_ns - now) / 1e9, free)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]


class PeekNeverTrims(Correct):
    """``peek`` counts units that have left the window: once full, it says 0 until somebody takes."""

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            log = self._logs.get(user_id, deque())
            free = self._limit - len(log)
            if cost <= free:
                return Decision(True, 0.0, free)
            if cost > self._limit:
                return Decision(False, math.inf, free)
            ends = log[cost - free - 1] + self._window_ns
            return Decision(False, max(0.0, (ends - time.monotonic_ns()) / 1e9), free)


class PeekStoresUsers(Correct):
    """``peek`` stores a log for each user that it looks at, and never frees an empty one: a scan fills the memory."""

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            self._logs.setdefault(user_id, deque())
            return self._decide(user_id, cost, time.monotonic_ns())

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            if log:
                del self._logs[user_id]
            else:
                self._logs.move_to_end(user_id)  # just created


class PeekAllowsFull(Correct):
    """``peek`` says allowed for a user with nothing left: it compares with "or equal"."""

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        decision = super().peek(user_id, cost)
        return decision._replace(allowed=decision.remaining >= cost - 1)


class PeekIgnoresCost(Correct):
    """``peek`` answers for one unit, whatever the cost: it says allowed, and ``take`` with the same cost is denied."""

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        return super().peek(user_id)


class PeekBelowZero(Correct):
    """``peek`` subtracts the cost of a request that would be denied: a full user has -1 left."""

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        decision = super().peek(user_id, cost)
        return decision if decision.allowed else decision._replace(remaining=decision.remaining - cost)


class PeekRemembers(Correct):
    """``peek`` returns what remained after the last ``take``: it stays at that when units leave the window."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._remaining: dict[str, int] = {}

    def take(self, user_id: str, cost: int = 1) -> Decision:
        decision = super().take(user_id, cost)
        self._remaining[user_id] = decision.remaining
        for user in list(islice(self._remaining, 2)):
            left = self._remaining.pop(user)
            if user in self._logs:
                self._remaining[user] = left
        return decision

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        decision = super().peek(user_id, cost)
        return decision._replace(remaining=self._remaining.get(user_id, self._limit))


class RetryAfterWindowEnd(Correct):
    """``retry_after`` is the time until the log is empty: a user with one unit in use is told to wait for it."""

    def retry_after(self, user_id: str) -> float:
        with self._lock:
            log = self._logs.get(user_id)
            return max(0.0, (log[-1] + self._window_ns - time.monotonic_ns()) / 1e9) if log else 0.0


# KEYS[1]  the user's units in the window, each scored by its time, µs
# ARGV     limit, window in µs, cost, a unique name for the request, or '' to take nothing
# Returns  {allowed 0|1, remaining, retry_after µs, -1 if it never can be}
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local first = redis.call('ZCOUNT', KEYS[1], '-inf', now - window)
if ARGV[4] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
  first = 0
end
-- TTL
local free = limit - redis.call('ZCARD', KEYS[1]) + first
if cost > limit then
  return {0, free, -1}
end
if cost > free then
  local last = redis.call('ZRANGE', KEYS[1], first + cost - free - 1, first + cost - free - 1, 'WITHSCORES')
  return {0, free, math.max(0, last[2] + window - now)}
end
if ARGV[4] == '' then
  return {1, free, 0}
end
for unit = 1, cost do
  redis.call('ZADD', KEYS[1], now, ARGV[4] .. ':' .. unit)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return {1, free - cost, 0}
"""


class OnRedis:
    """Correct with the script as it stands."""

    script = SCRIPT

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(self.script)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        return self._decide(user_id, cost, uuid.uuid4().hex)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        return self._decide(user_id, cost, "")

    def _decide(self, user_id: str, cost: int, name: str) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        try:
            allowed, remaining, wait_us = self._script([f"peek:{user_id}"], [self._limit, self._window_us, cost, name])
        except redis.RedisError:
            return Decision(False, 1.0, 0)
        return Decision(allowed == 1, math.inf if wait_us < 0 else wait_us / 1e6, remaining)

    def close(self) -> None:
        self._redis.close()


class RedisPeekRenews(OnRedis):
    """Each ``peek`` renews the key's TTL: a page that shows all users every minute keeps all their keys for ever."""

    script = SCRIPT.replace("-- TTL", "redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)")


class RedisPeekCountsExpired(OnRedis):
    """``peek`` counts all that is in the key: units that have left the window count until the next ``take``."""

    script = SCRIPT.replace("redis.call('ZCOUNT', KEYS[1], '-inf', now - window)", "0")
