"""Limiters whose reservations settle or cancel wrongly; without reservations they are right."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice


@dataclass(slots=True)
class Charge:
    at_ns: int
    units: int
    reserved: int
    in_window: bool = True
    settled: bool = False


@dataclass(slots=True)
class Log:
    charges: deque[Charge] = field(default_factory=deque)
    used: int = 0  # the units of all charges


class Reservation:
    def __init__(self, limiter: Correct, user_id: str, charge: Charge, allowed: bool) -> None:
        self.allowed = allowed
        self._limiter = limiter
        self._user_id = user_id
        self._charge = charge

    def settle(self, actual: int) -> None:
        self._limiter.settle(self._user_id, self._charge, actual)

    def cancel(self) -> None:
        self._limiter.cancel(self._user_id, self._charge)


class Correct:
    """What the call really cost counts from the time of its reservation; a charge is settled once."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, Log] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.reserve(user_id, cost).allowed

    def reserve(self, user_id: str, cost: int) -> Reservation:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(user_id, Log())
            self._trim(log, now)
            charge = Charge(now, cost, cost)
            if log.used + cost > self._limit:
                self._deny(charge)
                return Reservation(self, user_id, charge, allowed=False)
            log.charges.append(charge)
            log.used += cost
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return Reservation(self, user_id, charge, allowed=True)

    def settle(self, user_id: str, charge: Charge, actual: int) -> None:
        with self._lock:
            if not charge.settled:
                charge.settled = True
                self._correct(self._logs.get(user_id, Log()), charge, actual)

    def cancel(self, user_id: str, charge: Charge) -> None:
        self.settle(user_id, charge, 0)

    def _correct(self, log: Log, charge: Charge, actual: int) -> None:
        if charge.in_window:
            log.used += actual - charge.units
            charge.units = actual

    def _deny(self, charge: Charge) -> None:
        charge.in_window = False
        charge.settled = True

    def _trim(self, log: Log, now: int) -> None:
        while log.charges and log.charges[0].at_ns <= now - self._window_ns:
            charge = log.charges.popleft()
            charge.in_window = False
            log.used -= charge.units

    def _forget_idle(self, now: int) -> None:
        for user_id in list(islice(self._logs, 2)):
            log = self._logs[user_id]
            self._trim(log, now)
            if log.charges:
                return
            del self._logs[user_id]


class SettleGivesNothing(Correct):
    """Settling below the estimate gives nothing back: callers with generous estimates are throttled far too early."""

    def settle(self, user_id: str, charge: Charge, actual: int) -> None:
        super().settle(user_id, charge, max(actual, charge.reserved) if actual else 0)


class SettleTwice(Correct):
    """Each call of ``settle`` gives units back again: settling twice, after a retry for example, lifts the limit."""

    def settle(self, user_id: str, charge: Charge, actual: int) -> None:
        with self._lock:
            if charge.in_window:
                self._logs[user_id].used -= charge.reserved - actual
                charge.units -= charge.reserved - actual


class SettleMoreFree(Correct):
    """What a call cost above its estimate is not charged: with estimates of 1 there is no limit."""

    def _correct(self, log: Log, charge: Charge, actual: int) -> None:
        super()._correct(log, charge, min(actual, charge.units))


class SettleAfterWindow(Correct):
    """A call that is settled after its window gives back units that have left already: it lifts the limit of others."""

    def _correct(self, log: Log, charge: Charge, actual: int) -> None:
        log.used += actual - charge.units
        charge.units = actual


class CancelLeavesCharge(Correct):
    """A cancelled charge comes back at once, and once more when it leaves the window: then N + 1 are allowed."""

    def cancel(self, user_id: str, charge: Charge) -> None:
        with self._lock:
            if charge.in_window and not charge.settled:
                charge.settled = True
                self._logs[user_id].used -= charge.units


class CancelPopsNewest(Correct):
    """``cancel`` takes out the newest charges instead of its own: what stays is older, and leaves too early."""

    def cancel(self, user_id: str, charge: Charge) -> None:
        with self._lock:
            if charge.settled or not charge.in_window:
                return
            charge.settled = True
            log = self._logs[user_id]
            missing = charge.units
            log.used -= missing
            while missing and log.charges:
                newest = log.charges[-1]
                freed = min(missing, newest.units)
                newest.units -= freed
                missing -= freed
                if newest.units == 0:
                    log.charges.pop().in_window = False


class CancelDenied(Correct):
    """Cancelling a denied reservation gives back units that it never took: a ``finally`` lifts the limit."""

    def _deny(self, charge: Charge) -> None:
        """Leave the charge as it is: nothing was entered."""


class SettledNow(Correct):
    """A settled charge is entered anew at the time of settling: its units are held for longer than the window."""

    def _correct(self, log: Log, charge: Charge, actual: int) -> None:
        in_window = charge.in_window
        super()._correct(log, charge, 0)
        if in_window and actual:
            log.charges.append(Charge(time.monotonic_ns(), actual, actual, settled=True))
            log.used += actual
