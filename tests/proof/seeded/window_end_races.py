"""Limiters with a race at the window's end: right for a new user, and wrong where old requests leave the log."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import OrderedDict, deque
from itertools import islice


class TrimsOutsideLock:
    """The log is trimmed before the lock is taken: two threads see one old request, and the second drops a live one."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        log = self._logs.get(user_id)
        if log is not None:
            with contextlib.suppress(IndexError):  # another thread was quicker
                while log[0] <= time.monotonic() - self._window:
                    log.popleft()
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, deque())
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            with contextlib.suppress(IndexError):
                if self._logs[user_id][-1] > now - self._window:
                    return
            del self._logs[user_id]


class User:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.log: deque[float] = deque()

    def allow(self, limit: int, window: float) -> bool:
        with self.lock:
            now = time.monotonic()
            while self.log and self.log[0] <= now - window:
                self.log.popleft()
            if len(self.log) >= limit:
                return False
            self.log.append(now)
            return True

    def is_idle(self, window: float) -> bool:
        with self.lock:
            return bool(self.log) and self.log[-1] <= time.monotonic() - window


class PurgesUserInUse:
    """An idle user is purged while a thread holds its log: the request is counted there, and the next log is empty."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._users: OrderedDict[str, User] = OrderedDict()

    def allow(self, user_id: str) -> bool:
        with self._lock:
            self._purge()
            user = self._users.setdefault(user_id, User())
        return user.allow(self._limit, self._window)

    def _purge(self) -> None:
        for user_id in list(islice(self._users, 2)):
            if self._users[user_id].is_idle(self._window):
                del self._users[user_id]
            else:
                self._users.move_to_end(user_id)


class LockGoesWithUser:
    """An idle user's lock is dropped while threads wait for it: they hold the old one, and the next ones a new one."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._locks: OrderedDict[str, threading.Lock] = OrderedDict()
        self._logs: dict[str, deque[float]] = {}
        self._allowed_at: dict[str, float] = {}

    def allow(self, user_id: str) -> bool:
        with self._lock:
            self._forget_idle()
            lock = self._locks.setdefault(user_id, threading.Lock())
        with lock:
            return self._decide(user_id)

    def _decide(self, user_id: str) -> bool:
        now = time.monotonic()
        log = self._logs.get(user_id, deque())
        while log and log[0] <= now - self._window:
            log.popleft()
        if len(log) >= self._limit:
            return False
        log.append(now)
        self._logs[user_id] = log
        self._allowed_at[user_id] = now
        return True

    def _forget_idle(self) -> None:
        start = time.monotonic() - self._window
        for user_id in list(islice(self._locks, 2)):
            if self._allowed_at.get(user_id, math.inf) > start:
                self._locks.move_to_end(user_id)
            else:
                del self._locks[user_id], self._allowed_at[user_id]
                self._logs.pop(user_id, None)


class SweepThread:
    """The sweep copies the logs without the lock, and then replaces them: requests in between are forgotten."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: dict[str, deque[float]] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, daemon=True).start()

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            log = self._logs.setdefault(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            return True

    def _sweep(self) -> None:
        while not self._closed.wait(min(self._window, 1.0)):
            # Copied first, so that requests need not wait for the sweep.
            logs = self._logs.copy()
            start = time.monotonic() - self._window
            live = {user_id: log for user_id, log in logs.items() if self._newest(log) > start}
            with self._lock:
                self._logs = live

    @staticmethod
    def _newest(log: deque[float]) -> float:
        try:
            return log[-1]
        except IndexError:  # a request is being decided: it has just trimmed the log, and appends next
            return math.inf

    def close(self) -> None:
        self._closed.set()


class ReplacesOldest:
    """Two threads see that the oldest request has left, and both take its place: the second drops a live one."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.setdefault(user_id, deque(maxlen=self._limit))
            if len(log) < self._limit:
                self._append(user_id, log, now)
                return True
            oldest = log[0]
        if oldest > now - self._window:
            return False
        with self._lock:
            self._append(user_id, log, now)  # pushes the oldest out of the full log
            return True

    def _append(self, user_id: str, log: deque[float], now: float) -> None:
        log.append(now)
        self._logs[user_id] = log
        self._logs.move_to_end(user_id)

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]
