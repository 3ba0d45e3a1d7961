"""Renewing leases: while reservations that hold permits are open, a thread or a task renews them, all in one call.

Each is renewed a third of its ttl after it was last. If the store does not answer, it is tried again sooner; once the
ttl is over, or the store says that the lease has ended, the reservation has lost its permits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
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

RESTART = 0.1
"""Seconds after which a task that was cancelled is started again, or more: a loop that ends is closed by then."""

_Reservation = TypeVar("_Reservation", Reservation, AsyncReservation)


class _Renewing(ABC, Generic[_Reservation]):
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
        # Reentrant: a signal handler may make a reservation in the middle.
        self._lock = RLock()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Leave the parent's reservations to the parent."""
        self._lock = RLock()
        self._held = WeakKeyDictionary()

    def remove(self, reservation: _Reservation) -> None:
        """Stop renewing a reservation: its block ends. After the last one, the thread or task is woken to end."""
        if not self._plan.lends:
            return
        with self._lock:
            held = self._held.pop(reservation, None)
            if held is not None and not any(each.loop is held.loop for each in self._held.values()):
                self._wake(held.loop)

    @abstractmethod
    def _wake(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Let the thread, or the task of one loop, look which leases are due."""

    @abstractmethod
    def _report(self, on_lost: Callable[[], object]) -> None:
        """Call a user's function, as permits have come back."""

    def _next_at(self, loop: asyncio.AbstractEventLoop | None = None) -> float:
        """Return when the next lease is to be renewed; inf if there is none."""
        with self._lock:
            return min((held.renew_at for held in self._held.values() if held.loop is loop), default=inf)

    def _due(self, loop: asyncio.AbstractEventLoop | None = None) -> list[tuple[_Reservation, Held]]:
        """Return the reservations that are due, those first that have been for longest: as many as one call renews."""
        now = self._timing.now()
        with self._lock:
            due = [(each, held) for each, held in self._held.items() if held.loop is loop and held.renew_at <= now]
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

    def _failed(self, due: Sequence[tuple[_Reservation, Held]], error: Exception) -> None:
        """Log what a store raises that is not a `StoreError`, and go on: others are to be renewed."""
        self._not_renewed(due)  # first, as a log handler may be slow or raise
        logger.error("the store failed to renew leases", exc_info=error)

    def _lose(self, reservation: _Reservation) -> None:
        self.remove(reservation)
        on_lost = reservation.lose()
        if on_lost is not None:
            self._report(on_lost)

    def _apart(self, due: Sequence[tuple[_Reservation, Held]]) -> list[tuple[_Reservation, Held]]:
        """Renew what was decided in an outage, in memory. Returns the others."""
        here = [(each, held) for each, held in due if held.is_here]
        if here:
            found = self._plan.outages.settle(_leases(here))
            self._renewed(here, self._timing.now(), found)
        return [pair for pair in due if not pair[1].is_here]


def _leases(due: Sequence[tuple[Any, Held]]) -> list[Settlement]:
    return [lease for _, held in due for lease in held.leases]


def _call_user(on_lost: Callable[[], object]) -> None:
    try:
        on_lost()
    except Exception:  # it is the user's, and the caller may renew others
        logger.exception("on_lost raised")


class Renewing(_Renewing[Reservation]):
    """Renews the leases of threads, in a thread of its own that is there while there are any."""

    _thread: Thread | None = None
    _woken = Event()
    _wakes_at = inf  # when the thread looks next by itself

    def add(self, reservation: Reservation) -> None:
        """Renew the permits of a reservation, if it holds any, until it is removed.

        Raises:
            RuntimeError: The system has no thread left to renew them.
        """
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

    def _wake(self, _: asyncio.AbstractEventLoop | None) -> None:
        self._woken.set()

    def _report(self, on_lost: Callable[[], object]) -> None:
        # In a thread of its own: it may be slow, and others must be renewed meanwhile.
        try:
            Thread(target=_call_user, args=(on_lost,), name="sluicegate-on-lost", daemon=True).start()
        except RuntimeError:  # the system has none left
            _call_user(on_lost)

    def _run(self) -> None:
        while True:
            self._renew_due()
            with self._lock:
                next_at = self._wakes_at = self._next_at()
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
        due = self._apart(self._due())
        if due:
            self._call(due)

    def _call(self, due: Sequence[tuple[Reservation, Held]]) -> None:
        sent_at = self._timing.now()
        try:
            self._renewed(due, sent_at, self._store.settle(_leases(due)))
        except StoreError:
            self._not_renewed(due)
        except Exception as error:  # noqa: BLE001 - it is logged
            self._failed(due, error)


class _Worker:
    """The task that renews the leases of one event loop."""

    task: asyncio.Task[None]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.woken = asyncio.Event()
        self.wakes_at = inf  # when the task looks next by itself

    def wake(self) -> None:
        """Let the task look which leases are due; from any thread."""
        if _running_loop() is self.loop:
            self.woken.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self.woken.set)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class AsyncRenewing(_Renewing[AsyncReservation]):
    """Renews the leases of tasks, in a task for each event loop that is there while there are any.

    A limiter in memory may be used by several loops at once. Each renews its own leases, so that a user's function is
    called in the loop of its block.
    """

    def __init__(self, plan: Plan, store: Any, timing: Timing) -> None:
        super().__init__(plan, store, timing)
        self._workers: dict[asyncio.AbstractEventLoop, _Worker] = {}

    def after_fork(self) -> None:
        super().after_fork()
        self._workers = {}

    def add(self, reservation: AsyncReservation) -> None:
        """Renew the permits of a reservation, if it holds any, until it is removed."""
        if (held := reservation.hold()) is None:
            return
        held.loop = asyncio.get_running_loop()
        with self._lock:
            self._held[reservation] = held
            worker = self._workers.get(held.loop)
            if worker is None or worker.task.done():
                self._start(held.loop)
            elif held.renew_at < worker.wakes_at:
                worker.wake()

    def _wake(self, loop: asyncio.AbstractEventLoop | None) -> None:
        worker = None if loop is None else self._workers.get(loop)
        if worker is not None:
            worker.wake()

    def _report(self, on_lost: Callable[[], object]) -> None:
        _call_user(on_lost)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the task of a loop. It takes over what loops that are closed have left."""
        with self._lock:
            for each in [each for each in self._workers if each.is_closed()]:
                del self._workers[each]
            for held in self._held.values():
                if held.loop is not None and held.loop.is_closed():
                    held.loop = loop
            worker = self._workers[loop] = _Worker(loop)
            worker.task = loop.create_task(self._run(worker))
            worker.task.add_done_callback(partial(self._ended, worker))

    def _ended(self, worker: _Worker, _: asyncio.Task[None]) -> None:
        """Start a task again if one ends that still has leases to renew: the program has cancelled all of its tasks."""
        loop = worker.loop
        with self._lock:
            if self._workers.get(loop) is not worker:
                return
            del self._workers[loop]
            next_at = self._next_at(loop)
        if next_at < inf:
            # By a timer, and not at once: a program that ends cancels all tasks, too, and would leave this one behind.
            loop.call_later(max(next_at - self._timing.now(), RESTART), self._start_again, loop)

    def _start_again(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if loop not in self._workers and self._next_at(loop) < inf:
                self._start(loop)

    async def _run(self, worker: _Worker) -> None:
        while True:
            with self._lock:
                next_at = worker.wakes_at = self._next_at(worker.loop)
            if next_at == inf:
                return
            if next_at > self._timing.now():
                await self._timing.sleep_task(worker.woken, next_at)
                worker.woken.clear()
            else:
                await self._renew_due(worker.loop)

    async def _renew_due(self, loop: asyncio.AbstractEventLoop) -> None:  # apart, as above
        due = self._apart(self._due(loop))
        if due:
            await self._call(due)

    async def _call(self, due: Sequence[tuple[AsyncReservation, Held]]) -> None:
        sent_at = self._timing.now()
        try:
            self._renewed(due, sent_at, await self._store.settle(_leases(due)))
        except StoreError:
            self._not_renewed(due)
        except Exception as error:  # noqa: BLE001 - it is logged
            self._failed(due, error)
