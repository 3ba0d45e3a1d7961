"""Correct: a log is a chain of arrays of 256 times, dropped whole as they leave, so that no call pays for a burst."""

from __future__ import annotations

import math
import threading
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple

CHUNK = 256


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Log:
    """Times in order. All chunks but the last are full; the first ``left`` times of the first chunk have left."""

    __slots__ = ("chunks", "left")

    def __init__(self) -> None:
        self.chunks: deque[array[int]] = deque()
        self.left = 0

    def __len__(self) -> int:
        return (len(self.chunks) - 1) * CHUNK + len(self.chunks[-1]) - self.left if self.chunks else 0

    def __getitem__(self, index: int) -> int:
        chunk, place = divmod(index + self.left, CHUNK)
        return self.chunks[chunk][place]

    def trim(self, cutoff: int) -> None:
        while self.chunks and self.chunks[0][-1] <= cutoff:
            self.chunks.popleft()
            self.left = 0
        if self.chunks:
            self.left = bisect_right(self.chunks[0], cutoff, self.left)

    def extend(self, at_ns: int, units: int) -> None:
        while units:
            if not self.chunks or len(self.chunks[-1]) == CHUNK:
                self.chunks.append(array("q"))
            room = min(units, CHUNK - len(self.chunks[-1]))
            self.chunks[-1].extend([at_ns] * room)
            units -= room


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, Log] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(user_id, Log())
            log.trim(now - self._window_ns)
            free = self._limit - len(log)
            if cost > self._limit:
                return Decision(False, math.inf, free)
            if cost > free:
                return Decision(False, (log[cost - free - 1] + self._window_ns - now) / 1e9, free)
            log.extend(now, cost)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Decision(True, 0.0, free - cost)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log.chunks and log.chunks[-1][-1] > now - self._window_ns:
                return
            del self._logs[user_id]
