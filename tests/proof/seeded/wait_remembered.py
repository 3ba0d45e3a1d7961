"""A denial is remembered until its wait ends, and returned again with the wait it had then, not what is left of it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float


class WaitRemembered:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last
        self._denied: dict[str, tuple[float, Decision]] = {}

    def allow(self, user_id: str) -> bool:
        return self.take(user_id).allowed

    def take(self, user_id: str) -> Decision:
        with self._lock:
            now = time.monotonic()
            until, denied = self._denied.get(user_id, (now, None))
            if denied and now < until:
                return denied
            self._denied.pop(user_id, None)
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                wait = log[0] + self._window - now
                self._denied[user_id] = (now + wait, Decision(allowed=False, retry_after=wait))
                return self._denied[user_id][1]
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Decision(allowed=True, retry_after=0.0)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            if self._logs[user_id][-1] > now - self._window:
                return
            del self._logs[user_id]
            self._denied.pop(user_id, None)
