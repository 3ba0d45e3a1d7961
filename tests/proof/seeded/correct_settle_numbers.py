"""Correct: charges are known by number; one that is cancelled goes at once, out of the middle of the log.

A call that cost more than was reserved is charged in full, also above the limit. Then nothing remains, and the next
request waits for all of it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from itertools import count, islice
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Log:
    __slots__ = ("charges", "used")

    def __init__(self) -> None:
        self.charges: OrderedDict[int, tuple[int, int]] = OrderedDict()  # time and units by number, oldest first
        self.used = 0


class Reservation:
    def __init__(self, limiter: SlidingWindow, user_id: str, number: int, decision: Decision) -> None:
        self.allowed = decision.allowed
        self.retry_after = decision.retry_after
        self._limiter = limiter
        self._user_id = user_id
        self._number = number  # of no charge if it was denied

    def settle(self, actual: int) -> None:
        """Say what the call really cost. Only the first call counts, and none does after the window."""
        if actual < 0:
            raise ValueError(f"actual must be 0 or more, got {actual}")
        self._limiter.settle(self._user_id, self._number, actual)

    def cancel(self) -> None:
        self.settle(0)


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._numbers = count()
        self._open: set[int] = set()  # charges that are not settled yet
        self._logs: OrderedDict[str, Log] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            number = next(self._numbers)
            return self._take(user_id, cost, number)

    def reserve(self, user_id: str, cost: int) -> Reservation:
        with self._lock:
            number = next(self._numbers)
            decision = self._take(user_id, cost, number)
            if decision.allowed:
                self._open.add(number)
            return Reservation(self, user_id, number, decision)

    def settle(self, user_id: str, number: int, actual: int) -> None:
        with self._lock:
            if number not in self._open:
                return
            self._open.remove(number)
            log = self._logs[user_id]
            at_ns, units = log.charges[number]
            log.used += actual - units
            if actual:
                log.charges[number] = at_ns, actual
            else:
                del log.charges[number]

    def _take(self, user_id: str, cost: int, number: int) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        now = time.monotonic_ns()
        self._forget_idle(now)
        log = self._logs.get(user_id) or Log()
        self._trim(log, now)
        free = self._limit - log.used
        if cost > self._limit:
            return Decision(False, math.inf, max(0, free))
        if cost > free:
            return Decision(False, self._missing_ns(log, cost - free, now) / 1e9, max(0, free))
        log.charges[number] = now, cost
        log.used += cost
        self._logs[user_id] = log
        self._logs.move_to_end(user_id)
        return Decision(True, 0.0, free - cost)

    def _missing_ns(self, log: Log, missing: int, now: int) -> int:
        for at_ns, units in log.charges.values():
            missing -= units
            if missing <= 0:
                return at_ns + self._window_ns - now
        raise AssertionError("more units are missing than are in the log")

    def _trim(self, log: Log, now: int) -> None:
        while log.charges:
            number, (at_ns, units) = next(iter(log.charges.items()))
            if at_ns > now - self._window_ns:
                return
            del log.charges[number]
            self._open.discard(number)
            log.used -= units

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            self._trim(log, now)
            if log.charges:
                return
            del self._logs[user_id]
