"""Limiters that go wrong late: after many denials, by a clock that has run for weeks, or with large numbers."""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import MutableSequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import NamedTuple


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Exact:
    """The limiter without a fault: a log of units for each user."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, MutableSequence[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic()
            self._forget_idle(now)
            log = self._logs.get(user_id, self._new_log())
            while log and log[0] <= now - self._window:
                del log[0]
            free = self._limit - self._used(log)
            if cost > free:
                return Decision(False, self._wait(log, now, cost - free), free)
            log.extend(repeat(now, self._stored(cost)))
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Decision(True, 0.0, free - cost)

    def _new_log(self) -> MutableSequence[float]:
        return deque()

    def _used(self, log: MutableSequence[float]) -> int:
        return len(log)

    def _stored(self, cost: int) -> int:
        return cost

    def _wait(self, log: MutableSequence[float], now: float, missing: int) -> float:
        return log[missing - 1] + self._window - now if missing <= len(log) else math.inf

    def _forget_idle(self, now: float) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            if log and log[-1] > now - self._window:
                return
            del self._logs[user_id]


class Float32(Exact):
    """Times are kept in 32 bits to save memory: after weeks of uptime they are off by more than a tenth of a second."""

    def _new_log(self) -> MutableSequence[float]:
        return array("f")


class CostInByte(Exact):
    """The cost is stored in a byte: 256 units are taken as none, 300 as 44."""

    def _stored(self, cost: int) -> int:
        return cost % 256


class CountInByte(Exact):
    """The units in the window are counted in a byte: a limit of 256 or more is never reached, and all is allowed."""

    def _used(self, log: MutableSequence[float]) -> int:
        return len(log) % 256


class ZeroWaitForNever(Exact):
    """A cost above the limit gets a wait of 0: a client that heeds it calls in an endless loop."""

    def _wait(self, log: MutableSequence[float], now: float, missing: int) -> float:
        return log[missing - 1] + self._window - now if missing <= len(log) else 0.0


class NegativeWaitForNever(Exact):
    """The wait for a cost above the limit is counted from a time of 0: it is minus the time since the host started."""

    def _wait(self, log: MutableSequence[float], now: float, missing: int) -> float:
        return next(islice(log, missing - 1, None), 0.0) + self._window - now


@dataclass
class Record:
    """The denials of one user since a time, and what followed."""

    since: float
    denials: int = 0
    bans: int = 0
    banned_until: float = 0.0


class Punishes(Exact):
    """Counts the denials of a user within a window; a subclass punishes."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._records: OrderedDict[str, Record] = OrderedDict()

    def take(self, user_id: str, cost: int = 1) -> Decision:
        record = self._records.get(user_id)
        if record and record.banned_until > time.monotonic():
            return Decision(False, record.banned_until - time.monotonic(), 0)
        decision = super().take(user_id, cost)
        if not decision.allowed:
            with self._lock:
                self._count(user_id, time.monotonic())
        return decision

    def _count(self, user_id: str, now: float) -> None:
        self._forget_records(now)
        record = self._records.setdefault(user_id, Record(now))
        if record.since <= now - self._window:
            record.since, record.denials = now, 0
        record.denials += 1
        self._punish(user_id, record, now)

    def _punish(self, user_id: str, record: Record, now: float) -> None:
        raise NotImplementedError

    def _forget_records(self, now: float) -> None:
        for user_id in list(islice(self._records, 2)):
            record = self._records[user_id]
            calm_at = record.banned_until + self._window * 2**record.bans
            if max(record.since + self._window, calm_at) <= now:
                del self._records[user_id]
            else:
                self._records.move_to_end(user_id)


class LockedOut(Punishes):
    """After 100 denials within a window the user is locked out for ten windows, and still is when there is room."""

    def _punish(self, user_id: str, record: Record, now: float) -> None:
        if record.denials >= 100:
            record.banned_until = now + 10 * self._window


class DenialsCount(Punishes):
    """From the 50th denial in a window on, denials count as requests: a client that keeps trying stays out."""

    def _punish(self, user_id: str, record: Record, now: float) -> None:
        log = self._logs.get(user_id)
        if log and record.denials >= 50:
            del log[0]
            log.append(now)


class BanDoubles(Punishes):
    """Every 200 denials in a window ban the user, each time for twice as long: at last for 64 windows."""

    def _punish(self, user_id: str, record: Record, now: float) -> None:
        if record.denials % 200 == 0:
            record.banned_until = now + self._window * 2**record.bans
            record.bans = min(record.bans + 1, 6)
