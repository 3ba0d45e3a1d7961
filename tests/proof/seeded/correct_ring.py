"""Correct, in memory: a ring of times for each user under a lock of its own, which is marked when it is dropped."""

from __future__ import annotations

import math
import threading
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

LONG_AGO = -(2**63)


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Ring:
    """The times of the last ``limit`` units of a user; unit n stands at n modulo the size, which doubles at need."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.dropped = False
        self.total = 0
        self.times = array("q", [LONG_AGO])

    def at(self, unit: int) -> int:
        return self.times[unit % len(self.times)]

    def add(self, now: int, units: int, kept: range) -> None:
        if len(kept) + units > len(self.times):
            larger = array("q", [LONG_AGO]) * (2 * (len(kept) + units))
            for unit in kept:
                larger[unit % len(larger)] = self.at(unit)
            self.times = larger
        for unit in range(self.total, self.total + units):
            self.times[unit % len(self.times)] = now
        self.total += units


class RingWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``; users do not wait for each other."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._rings: OrderedDict[str, Ring] = OrderedDict()

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        while True:
            with self._lock:
                self._drop_idle()
                ring = self._rings.setdefault(user_id, Ring())
            with ring.lock:
                if not ring.dropped:  # else another thread dropped it before this one had the lock: look it up again
                    return self._decide(ring, cost)

    def _decide(self, ring: Ring, cost: int) -> Decision:
        now = time.monotonic_ns()
        kept = range(max(0, ring.total - min(self._limit, len(ring.times))), ring.total)
        kept = kept[bisect_right(kept, now - self._window_ns, key=ring.at) :]
        free = self._limit - len(kept)
        if cost <= free:
            ring.add(now, cost, kept)
            return Decision(True, 0.0, free - cost)
        if cost > self._limit:
            return Decision(False, math.inf, free)
        return Decision(False, (ring.at(kept[cost - free - 1]) + self._window_ns - now) / 1e9, free)

    def _drop_idle(self) -> None:
        for user_id in list(islice(self._rings, 3)):
            ring = self._rings[user_id]
            self._rings.move_to_end(user_id)
            if not ring.lock.acquire(blocking=False):
                continue  # in use
            with_units = ring.total and ring.at(ring.total - 1) > time.monotonic_ns() - self._window_ns
            if not with_units:
                ring.dropped = True
                del self._rings[user_id]
            ring.lock.release()
