"""Limiters whose ``wait`` is wrong; everything else about them is right."""

from __future__ import annotations

import asyncio
import math
import queue
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


class Log:
    """An exact log of units for each user. Without a lock."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def _take(self, user_id: str, cost: int) -> Decision:
        decision = self._look(user_id, cost)
        if decision.allowed:
            self._enter(user_id, cost)
        return decision

    def _look(self, user_id: str, cost: int) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        now = time.monotonic_ns()
        self._forget_idle(now)
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window_ns:
            log.popleft()
        free = self._limit - len(log)
        if cost <= free:
            return Decision(True, 0.0, free - cost)
        if cost > self._limit:
            return Decision(False, math.inf, free)
        return Decision(False, (log[cost - free - 1] + self._window_ns - now) / 1e9, free)

    def _enter(self, user_id: str, cost: int) -> None:
        self._logs.setdefault(user_id, deque()).extend(repeat(time.monotonic_ns(), cost))
        self._logs.move_to_end(user_id)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]


class Waiting(Log):
    """Correct, for threads: who waits first is served first."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._changed = threading.Condition()
        self._lines: dict[str, list[object]] = {}  # the tickets of those who wait for a user's units

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        with self._changed:
            return self._take(user_id, cost)

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        called_ns = time.monotonic_ns()
        ticket = object()
        with self._changed:
            line = self._lines.setdefault(user_id, [])
            line.append(ticket)
            try:
                while True:
                    pause = math.inf
                    if self._is_next(line, ticket):
                        decision = self._grant(user_id, cost, called_ns)
                        if decision.allowed:
                            return True
                        pause = decision.retry_after
                    left = math.inf if timeout is None else timeout - (time.monotonic_ns() - called_ns) / 1e9
                    if left <= 0 or self._never_fits(cost):
                        return False
                    self._changed.wait(min(self._pause(pause, left), threading.TIMEOUT_MAX))
            finally:
                line.remove(ticket)
                if not line:
                    del self._lines[user_id]
                self._changed.notify_all()

    def _is_next(self, line: list[object], ticket: object) -> bool:
        return line[0] is ticket

    def _grant(self, user_id: str, cost: int, called_ns: int) -> Decision:
        return self._take(user_id, cost)

    def _never_fits(self, cost: int) -> bool:
        return cost > self._limit

    def _pause(self, retry_after: float, left: float) -> float:
        return min(retry_after, left)


class WaitTakesNothing(Waiting):
    """``wait`` sleeps until there is room and takes none of it: callers that wait have no limit."""

    def _grant(self, user_id: str, cost: int, called_ns: int) -> Decision:
        return self._look(user_id, cost)


class WaitAllGo(Waiting):
    """After its sleep a request is entered unchecked: all that wait for one unit wake together, and all go."""

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        decision = self.take(user_id, cost)
        if decision.allowed:
            return True
        if decision.retry_after > (math.inf if timeout is None else timeout) or math.isinf(decision.retry_after):
            return False
        time.sleep(decision.retry_after)
        with self._changed:
            self._enter(user_id, cost)  # the unit that it waited for is free now
        return True


class WaitDatedByCall(Waiting):
    """Units are dated by the call, not by the grant: they leave the window early, and the next ones follow at once."""

    def _grant(self, user_id: str, cost: int, called_ns: int) -> Decision:
        decision = self._take(user_id, cost)
        if decision.allowed:
            log = self._logs[user_id]
            for unit in range(1, cost + 1):
                log[-unit] = called_ns
        return decision


class WaitNewestFirst(Waiting):
    """The newest of those who wait is served first: under load the first one waits for ever."""

    def _is_next(self, line: list[object], ticket: object) -> bool:
        return line[-1] is ticket

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        with self._changed:
            self._changed.notify_all()
            return super().wait(user_id, cost, timeout)


class WaitTimeoutLate(Waiting):
    """The timeout is looked at only after the sleep: a caller with 50 ms to spare hangs for the rest of the window."""

    def _pause(self, retry_after: float, left: float) -> float:
        return retry_after if math.isfinite(retry_after) else left


class WaitTimeoutTakes(Waiting):
    """After its timeout a wait continues in a thread: it takes the units although its caller was told False."""

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        result: queue.SimpleQueue[bool] = queue.SimpleQueue()
        wait = super().wait
        threading.Thread(target=lambda: result.put(wait(user_id, cost)), daemon=True).start()
        try:
            return result.get(timeout=timeout)
        except queue.Empty:
            return False


class WaitWholeWindow(Waiting):
    """A denied caller sleeps for a whole window: units that are free earlier stay unused."""

    def _pause(self, retry_after: float, left: float) -> float:
        return min(self._window_ns / 1e9, left)


class WaitNeverReturns(Waiting):
    """A wait for more units than the limit never returns: each such call costs a thread, for ever."""

    def _never_fits(self, cost: int) -> bool:
        return False

    def _pause(self, retry_after: float, left: float) -> float:
        return min(retry_after, left, 1.0)


class AsyncWaitTakesForGone(Log):
    """Units are taken for waiters that have timed out: those behind them wait a window longer, for nobody's sake."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._lines: dict[str, deque[tuple[asyncio.Future[None], int]]] = {}

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return self._take(user_id, cost).allowed

    async def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        if self._look(user_id, cost).retry_after == math.inf:
            return False
        turn = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(user_id, deque())
        line.append((turn, cost))
        if len(line) == 1:
            self._serve(user_id)
        if turn.done():
            return True
        try:
            async with asyncio.timeout(timeout):
                await turn
        except TimeoutError:
            return False
        return True

    def _serve(self, user_id: str) -> None:
        line = self._lines[user_id]
        while line:
            turn, cost = line[0]
            decision = self._take(user_id, cost)
            if not decision.allowed:
                asyncio.get_running_loop().call_later(decision.retry_after, self._serve, user_id)
                return
            line.popleft()
            if not turn.done():
                turn.set_result(None)
        del self._lines[user_id]


class AsyncWaitAllGo(Log):
    """One event wakes all tasks that wait for a user, and none checks again: ten tasks go through on one free unit."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._freed: dict[str, asyncio.Event] = {}

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return self._take(user_id, cost).allowed

    async def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        decision = self._take(user_id, cost)
        if decision.allowed:
            return True
        if math.isinf(decision.retry_after):
            return False
        if user_id not in self._freed:
            self._freed[user_id] = asyncio.Event()
            asyncio.get_running_loop().call_later(decision.retry_after, self._wake, user_id)
        try:
            async with asyncio.timeout(timeout):
                await self._freed[user_id].wait()
        except TimeoutError:
            return False
        self._enter(user_id, cost)
        return True

    def _wake(self, user_id: str) -> None:
        self._freed.pop(user_id).set()


# KEYS[1]  the user's units by the time of their grant, µs; those of waiters lie ahead
# ARGV     limit, window in µs, cost, a unique name for the request, 1 if it may wait
# Returns  µs until the grant, -1 if it is denied
RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local held, at = redis.call('ZCARD', KEYS[1]), now
if held + cost > limit then
  if ARGV[5] == '0' or cost > limit then
    return -1
  end
  local index = held + cost - limit - 1
  at = redis.call('ZRANGE', KEYS[1], index, index, 'WITHSCORES')[2] + window
end
for unit = 1, cost do
  redis.call('ZADD', KEYS[1], at, ARGV[4] .. ':' .. unit)
end
redis.call('PEXPIRE', KEYS[1], math.ceil((at - now + window) / 1000) + 1)
return at - now
"""


class RedisWaitTimeoutTakes:
    """A place in the line is kept after the timeout: a caller that gave up has used up a unit all the same."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(RESERVE)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self._reserve(user_id, cost, 0) >= 0

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        seconds = self._reserve(user_id, cost, 1) / 1e6
        if seconds < 0:
            return False
        if timeout is not None and seconds > timeout:
            time.sleep(timeout)
            return False
        time.sleep(seconds)
        return True

    def _reserve(self, user_id: str, cost: int, may_wait: int) -> int:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        arguments: list[str | float] = [self._limit, self._window_us, cost, uuid.uuid4().hex, may_wait]
        try:
            return int(self._script([f"wait:{user_id}"], arguments))
        except redis.RedisError:
            return -1

    def close(self) -> None:
        self._redis.close()


class RedisWaitAllGo(RedisWaitTimeoutTakes):
    """A denied caller sleeps until the oldest unit is free and is then entered unchecked: all that wait go at once."""

    def wait(self, user_id: str, cost: int = 1, timeout: float | None = None) -> bool:
        if self._reserve(user_id, cost, 0) >= 0:
            return True
        key = f"wait:{user_id}"
        oldest = self._redis.zrange(key, 0, 0, withscores=True)
        left = (float(oldest[0][1]) + self._window_us - self._now_us()) / 1e6 if oldest else 0.0
        if timeout is not None and left > timeout:
            time.sleep(timeout)
            return False
        time.sleep(max(0.0, left))
        self._redis.zadd(key, {f"{uuid.uuid4().hex}:{unit}": self._now_us() for unit in range(cost)})
        return True

    def _now_us(self) -> int:
        seconds, microseconds = self._redis.time()
        return int(seconds) * 1_000_000 + int(microseconds)
