"""Correct, a limit on concurrent calls: a heap has the ends of leases; a permit frees no lease but its own.

``Leases(limit, ttl_seconds).acquire(user_id)`` returns a permit, or None if all are lent.
"""

from __future__ import annotations

import heapq
import threading
import time
from typing import NamedTuple


class Permit:
    def __init__(self, leases: Leases, user_id: str) -> None:
        self.user_id = user_id
        self._leases = leases

    def renew(self) -> bool:
        """Keep the lease for another TTL from now; False if it has ended, and may be lent to somebody else."""
        return self._leases.renew(self)

    def release(self) -> None:
        """Give the lease back. A second call, or one after its end, does nothing."""
        self._leases.release(self)


class End(NamedTuple):
    at_ns: int
    number: int  # ends at the same time are compared by it
    permit: Permit


class Leases:
    def __init__(self, limit: int, ttl_seconds: float) -> None:
        self._limit = limit
        self._ttl_ns = round(ttl_seconds * 1e9)
        self._lock = threading.Lock()
        self._numbers = 0
        self._held: dict[str, dict[Permit, int]] = {}  # by user, each permit's end
        self._ends: list[End] = []  # a heap; an end that is no longer its permit's is out of date

    def acquire(self, user_id: str) -> Permit | None:
        with self._lock:
            self._end(time.monotonic_ns())
            held = self._held.get(user_id, {})
            if len(held) >= self._limit:
                return None
            self._held[user_id] = held
            permit = Permit(self, user_id)
            self._lend(held, permit)
            return permit

    def renew(self, permit: Permit) -> bool:
        with self._lock:
            self._end(time.monotonic_ns())
            held = self._held.get(permit.user_id, {})
            if permit not in held:
                return False
            self._lend(held, permit)
            return True

    def release(self, permit: Permit) -> None:
        with self._lock:
            self._remove(permit)

    def _lend(self, held: dict[Permit, int], permit: Permit) -> None:
        held[permit] = time.monotonic_ns() + self._ttl_ns
        self._numbers += 1
        heapq.heappush(self._ends, End(held[permit], self._numbers, permit))

    def _end(self, now: int) -> None:
        while self._ends and self._ends[0].at_ns <= now:
            end = heapq.heappop(self._ends)
            if self._held.get(end.permit.user_id, {}).get(end.permit) == end.at_ns:
                self._remove(end.permit)

    def _remove(self, permit: Permit) -> None:
        held = self._held.get(permit.user_id, {})
        held.pop(permit, None)
        if not held:
            self._held.pop(permit.user_id, None)
