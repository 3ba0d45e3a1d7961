"""Correct, in memory: an exact log of units for each user, with costs, waits and a peek that takes nothing."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice, repeat
from typing import NamedTuple


class Decision(NamedTuple):
    """The answer to one request; ``retry_after`` in seconds, 0.0 if it is allowed, inf if it never can be."""

    allowed: bool
    retry_after: float
    remaining: int


class SlidingWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``. Thread-safe; time and memory are bounded."""

    def __init__(self, limit: int, window_seconds: float, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        """Take ``cost`` units if there is room for all of them. Raises ValueError if it is below 1."""
        with self._lock:
            now = self._clock_ns()
            self._forget_idle(now)
            log, decision = self._decide(user_id, cost, now)
            if not decision.allowed:
                return decision
            log.extend(repeat(now, cost))
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return decision._replace(remaining=decision.remaining - cost)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        """Return what `take` would return, with the units that remain now; take nothing."""
        with self._lock:
            return self._decide(user_id, cost, self._clock_ns())[1]

    def wait(self, user_id: str, cost: int = 1, timeout: float = math.inf) -> bool:
        """Wait until the request is allowed; False if it cannot be within ``timeout`` seconds."""
        end = self._clock_ns() + timeout * 1e9
        while not (decision := self.take(user_id, cost)).allowed:
            if self._clock_ns() + decision.retry_after * 1e9 > end or math.isinf(decision.retry_after):
                return False
            time.sleep(decision.retry_after)
        return True

    def _decide(self, user_id: str, cost: int, now: int) -> tuple[deque[int], Decision]:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window_ns:
            log.popleft()
        free = self._limit - len(log)
        if cost <= free:
            return log, Decision(True, 0.0, free)
        if cost > self._limit:
            return log, Decision(False, math.inf, free)
        # There is room once as many of the oldest units have left as are missing.
        return log, Decision(False, (log[cost - free - 1] + self._window_ns - now) / 1e9, free)

    def _forget_idle(self, now: int) -> None:
        # Drop two idle users a call: faster than new ones can arrive, and no call pays for all of them.
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[user_id]
