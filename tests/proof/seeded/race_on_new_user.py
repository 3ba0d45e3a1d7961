"""The lock of a new user is created without a lock: two threads create two locks, and each counts by itself."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class User:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.log: deque[float] = deque()
        self.asked_at = time.monotonic()


class RaceOnNewUser:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._users: OrderedDict[str, User] = OrderedDict()
        self._sweeping = threading.Lock()

    def allow(self, user_id: str) -> bool:
        user = self._users.get(user_id)
        if user is None:
            user = User()
            self._users[user_id] = user
        with user.lock:
            allowed = self._decide(user)
        self._forget_idle()
        return allowed

    def _decide(self, user: User) -> bool:
        user.asked_at = now = time.monotonic()
        while user.log and user.log[0] <= now - self._window:
            user.log.popleft()
        if len(user.log) >= self._limit:
            return False
        user.log.append(now)
        return True

    def _forget_idle(self) -> None:
        with self._sweeping:
            for user_id in list(islice(self._users, 2)):
                if self._users[user_id].asked_at <= time.monotonic() - self._window:
                    del self._users[user_id]
                else:
                    self._users.move_to_end(user_id)
