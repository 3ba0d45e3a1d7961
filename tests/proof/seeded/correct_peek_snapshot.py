"""Correct: each ``take`` publishes an immutable snapshot of the user's log, and ``peek`` reads it without a lock.

A peek trims nothing. It finds the units that have left by itself, each time.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Node:
    __slots__ = ("at_ns", "next", "total")

    def __init__(self, at_ns: int, total: int) -> None:
        self.at_ns = at_ns
        self.total = total  # units ever taken, with those of this request
        self.next: Node | None = None


class Snapshot(NamedTuple):
    """The requests after ``left``, up to ``newest``; later ones are linked behind it and are not part of it."""

    left: Node
    newest: Node

    def at(self, cutoff: int) -> Snapshot:
        left = self.left
        while left is not self.newest and left.next and left.next.at_ns <= cutoff:
            left = left.next
        return Snapshot(left, self.newest)


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            snapshot = self._read(user_id, now)
            decision = self._decide(snapshot, cost, now)
            if not decision.allowed:
                return decision
            snapshot.newest.next = node = Node(now, snapshot.newest.total + cost)
            self._snapshots[user_id] = Snapshot(snapshot.left, node)
            self._snapshots.move_to_end(user_id)
            return decision._replace(remaining=decision.remaining - cost)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        now = time.monotonic_ns()
        return self._decide(self._read(user_id, now), cost, now)

    def retry_after(self, user_id: str) -> float:
        return self.peek(user_id).retry_after

    def _read(self, user_id: str, now: int) -> Snapshot:
        snapshot = self._snapshots.get(user_id)
        if snapshot is None:
            nothing = Node(0, 0)
            return Snapshot(nothing, nothing)
        return snapshot.at(now - self._window_ns)

    def _decide(self, snapshot: Snapshot, cost: int, now: int) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        node, newest = snapshot
        free = self._limit - (newest.total - node.total)
        if cost <= free:
            return Decision(True, 0.0, free)
        if cost > self._limit:
            return Decision(False, math.inf, free)
        while node.next and node.total < newest.total + cost - self._limit:
            node = node.next
        return Decision(False, max(0, node.at_ns + self._window_ns - now) / 1e9, free)

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._snapshots, 2)):
            if self._snapshots[user_id].newest.at_ns > now - self._window_ns:
                return
            del self._snapshots[user_id]
