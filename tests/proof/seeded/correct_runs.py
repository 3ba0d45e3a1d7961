"""Correct, in memory: a request is one entry, its time and its cost, and its units come back together."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Run(NamedTuple):
    """Units that were taken at one time."""

    at: int
    cost: int


class User:
    def __init__(self) -> None:
        self.runs: deque[Run] = deque()
        self.used = 0


class RunWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``; a cost of a million takes one entry."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._users: OrderedDict[str, User] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            user, decision = self._decide(user_id, cost, now)
            if not decision.allowed:
                return decision
            user.runs.append(Run(now, cost))
            user.used += cost
            self._users[user_id] = user
            self._users.move_to_end(user_id)
            return decision._replace(remaining=decision.remaining - cost)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            return self._decide(user_id, cost, time.monotonic_ns())[1]

    def _decide(self, user_id: str, cost: int, now: int) -> tuple[User, Decision]:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        user = self._users.get(user_id) or User()
        while user.runs and user.runs[0].at <= now - self._window_ns:
            user.used -= user.runs.popleft().cost
        free = self._limit - user.used
        if cost <= free:
            return user, Decision(True, 0.0, free)
        if cost > self._limit:
            return user, Decision(False, math.inf, free)
        missing = cost - free
        for run in user.runs:
            missing -= run.cost
            if missing <= 0:
                return user, Decision(False, (run.at + self._window_ns - now) / 1e9, free)
        raise AssertionError("the runs hold all units that are used")

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._users, 2)):
            runs = self._users[user_id].runs
            if runs and runs[-1].at > now - self._window_ns:
                return
            del self._users[user_id]
