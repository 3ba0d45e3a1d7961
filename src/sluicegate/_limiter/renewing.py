"""Renewing leases: while reservations that hold permits are open, a thread or a task renews them, all in one call.

Each is renewed a third of its ttl after it was last. If the store does not answer, it is tried again sooner; once the
ttl is over, or the store says that the lease has ended, the reservation has lost its permits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from heapq import nsmallest
from math import inf
from threading import Event, RLock, Thread
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from sluicegate._core.errors import StoreError
from sluicegate._core.request import Settlement
from sluicegate._limiter.plan import Plan
from sluicegate._limiter.reservation import AsyncReservation, Held, Reservation
from sluicegate._limiter.timing import Timing
from sluicegate._stores.process_local import renew_after_fork

logger = logging.getLogger("sluicegate")

IDLE = 2.0
"""Seconds that the thread stays for the next reservation."""

BATCH = 128
"""Reservations whose leases one call renews: it holds up the server for milliseconds at most."""

_Reservation = TypeVar("_Reservation", Reservation, AsyncReservation)


class _Renewing(Generic[_Reservation]):
    """The open reservations of one limiter that hold permits.

    Args:
        plan: The limiter's.
        store: Its store, which can settle.
        timing: The time that leases are renewed by.
    """

    def __init__(self, plan: Plan, store: Any, timing: Timing) -> None:
        self._plan = plan
        self._store = store
        self._timing = timing
        # Weak: one that was dropped, and will never end, is not renewed. A block that runs keeps its own.
        self._held: WeakKeyDictionary[_Reservation, Held] = WeakKeyDictionary()
        self._wakes_at = inf  # when whoever renews looks next by itself
        self._woken: Any = None  # an event, to make it look sooner
        # Reentrant: a signal handler may make a reservation in the middle.
        self._lock = RLock()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Leave the parent's reservations to the parent."""
        self._lock = RLock()
        self._held = WeakKeyDictionary()

    def remove(self, reservation: _Reservation) -> None:
        """Renew a reservation no more: its block ends. After the last one, whoever renews is done."""
        if self._held:
            with self._lock:
                self._held.pop(reservation, None)
                if not self._held:
                    self._woken.set()

    def _next_at(self) -> float:
        """Return when the next lease is to be renewed; inf if there is none."""
        with self._lock:
            self._wakes_at = min((held.renew_at for held in self._held.values()), default=inf)
            return self._wakes_at

    def _due(self, now: float) -> list[tuple[_Reservation, Held]]:
        """Return the reservations that are due, those first that have been for longest: as many as one call renews."""
        with self._lock:
            due = [(each, held) for each, held in self._held.items() if held.renew_at <= now]
        return nsmallest(BATCH, due, key=lambda pair: pair[1].renew_at)

    def _renewed(self, due: Sequence[tuple[_Reservation, Held]], sent_at: float, found: Sequence[bool]) -> None:
        """Take note of the answer to a call for these reservations."""
        answers = iter(found)
        for reservation, held in due:
            if sum(next(answers) for _ in held.leases) == len(held.leases):  # each answer is taken
                held.renewed(sent_at)
            else:
                self._lose(reservation)

    def _not_renewed(self, due: Sequence[tuple[_Reservation, Held]]) -> None:
        """Take note that the store did not answer."""
        now = self._timing.now()
        for reservation, held in due:
            if now >= held.until:
                self._lose(reservation)
            else:
                held.renew_at = min(now + held.ttl / 10, held.until)

    def _lose(self, reservation: _Reservation) -> None:
        self.remove(reservation)
        try:
            reservation.lose()
        except Exception:  # it is the user's, and the caller renews others
            logger.exception("on_lost raised")

    def _apart(self, due: Sequence[tuple[_Reservation, Held]]) -> list[tuple[_Reservation, Held]]:
        """Renew what was decided in an outage, in memory. Returns the others."""
        here = [(each, held) for each, held in due if held.is_here]
        if here:
            found = self._plan.outages.settle(_leases(here))
            self._renewed(here, self._timing.now(), found)
        return [pair for pair in due if not pair[1].is_here]


def _leases(due: Sequence[tuple[Any, Held]]) -> list[Settlement]:
    return [lease for _, held in due for lease in held.leases]


class Renewing(_Renewing[Reservation]):
    """Renews the leases of threads, in a thread of its own that is there while there are any."""

    _thread: Thread | None = None

    def add(self, reservation: Reservation) -> None:
        """Renew the permits of a reservation, if it holds any, until it is removed."""
        if (held := reservation.hold()) is None:
            return
        with self._lock:
            self._held[reservation] = held
            if self._thread is None or not self._thread.is_alive():
                self._woken = Event()
                self._thread = Thread(target=self._run, name="sluicegate-renewing", daemon=True)
                self._thread.start()
            if held.renew_at < self._wakes_at:
                self._woken.set()

    def _run(self) -> None:
        while True:
            self._renew_due()
            next_at = self._next_at()
            if next_at < inf:
                self._timing.sleep(self._woken, next_at)
            else:
                self._woken.wait(IDLE)
                with self._lock:
                    if not self._held:
                        self._thread = None
                        return
            self._woken.clear()

    def _renew_due(self) -> None:  # apart: the loop must not keep reservations while it sleeps
        due = self._apart(self._due(self._timing.now()))
        if due:
            self._call(due)

    def _call(self, due: Sequence[tuple[Reservation, Held]]) -> None:
        sent_at = self._timing.now()
        try:
            found = self._store.settle(_leases(due))
        except StoreError:
            self._not_renewed(due)
        else:
            self._renewed(due, sent_at, found)


class AsyncRenewing(_Renewing[AsyncReservation]):
    """Renews the leases of tasks, in a task of its own that is there while there are any."""

    _task: asyncio.Task[None] | None = None

    def add(self, reservation: AsyncReservation) -> None:
        """Renew the permits of a reservation, if it holds any, until it is removed."""
        if (held := reservation.hold()) is None:
            return
        loop = asyncio.get_running_loop()
        self._held[reservation] = held
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._woken = asyncio.Event()
            self._task = loop.create_task(self._run(self._woken))
        elif held.renew_at < self._wakes_at:
            self._woken.set()

    async def _run(self, woken: asyncio.Event) -> None:
        # With an event of its own: a limiter in memory may be used by two loops at once.
        while (next_at := self._next_at()) < inf:
            if next_at > self._timing.now():
                await self._timing.sleep_task(woken, next_at)
                woken.clear()
            else:
                await self._renew_due()

    async def _renew_due(self) -> None:  # apart: the loop must not keep reservations while it sleeps
        due = self._apart(self._due(self._timing.now()))
        if due:
            await self._call(due)

    async def _call(self, due: Sequence[tuple[AsyncReservation, Held]]) -> None:
        sent_at = self._timing.now()
        try:
            found = await self._store.settle(_leases(due))
        except StoreError:
            self._not_renewed(due)
        else:
            self._renewed(due, sent_at, found)
