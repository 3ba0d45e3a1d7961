"""Waiting for one's turn: who serves the lines of a limiter, for threads and for tasks. `lines` has the rules.

A thread that waits first in its line serves it, until its own turn has come, and then leaves that to the next. Tasks
leave it to a task of the line's own, so that one that is cancelled takes no other's answer with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from copy import copy
from threading import Event
from typing import Any, Generic, TypeVar

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import SluicegateError, StoreError
from sluicegate._core.request import Request
from sluicegate._limiter.lines import (
    Beside,
    Line,
    LineName,
    Lines,
    Ticket,
    Unheard,
    cannot_be_met,
    is_allowed,
    later,
    line_name,
    never_fits,
    refusal,
)
from sluicegate._limiter.plan import Plan
from sluicegate._limiter.timing import timing_of
from sluicegate._stores.base import AsyncStore, Fallback, Reserved, Store
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.process_local import renew_after_fork

_Store = TypeVar("_Store", Store, AsyncStore)


def note_when(answer: list[Verdict], asked_at: float) -> None:
    """Note on an answer that allows permits when the call was made that brought it: their leases began after that."""
    if isinstance(answer, (Reserved, Fallback)):
        answer.asked_at = asked_at


def peek_of(request: Request) -> Request:
    """Return the request that asks the same and takes nothing."""
    return request._replace(commit=False, reserves=False)


class _Waiting(Generic[_Store]):
    """What both kinds share.

    Args:
        plan: The limiter's.
        store: The limiter's.
        most: Callers that may wait.

    Attributes:
        lines: The lines.
        timing: The time that they wait by.
    """

    def __init__(self, plan: Plan, store: _Store, most: int) -> None:
        self.lines = Lines(most)
        renew_after_fork(self.lines)
        self.timing = timing_of(store)
        self._plan = plan
        self._store: _Store = store
        self._in_memory = isinstance(store, (MemoryStore, AwaitedMemoryStore))
        self._ask_store: Callable[..., Any] = getattr(store, "decide_line", self._one_by_one)

    @property
    def is_instant(self) -> bool:
        """Whether a request may be decided at once, past the lines: in memory, where nobody waits."""
        return self._in_memory and not self.lines

    def poke(self, request: Request) -> None:
        """Let the line of these counters look again: units were given back."""
        self.lines.poke(request.charges)

    def poke_all(self) -> None:
        """Let every line look again."""
        self.lines.poke_all()

    def _one_by_one(self, requests: Sequence[Request]) -> Any:
        raise NotImplementedError

    def _until(self, timeout: float | None) -> float | None:
        return None if timeout is None else later(self.timing.now(), timeout)

    def _name(self, request: Request, *, overtake: bool) -> LineName | Beside:
        """Return the name of the line that a caller waits in."""
        counters = line_name(request.charges)
        return self.lines.beside(counters, object()) if overtake else counters

    def _is_to_wait(self, request: Request, answer: list[Verdict], until: float | None) -> bool:
        """Return whether the answer to a first call is a denial that leaves hope, and there is room to wait."""
        if is_allowed(answer) or self.lines.is_full:
            return False
        return not cannot_be_met(request.charges, answer, until, self.timing.now())

    def _is_refused(self, ticket: Ticket, answer: list[Verdict]) -> bool:
        """Return whether what a peek said ends a wait at once."""
        if is_allowed(answer):
            return False
        return cannot_be_met(ticket.request.charges, answer, ticket.until, self.timing.now())

    def _lingers(self, line: Line, ticket: Ticket) -> bool:
        """Return whether a caller whose time is over stays for the call that is due."""
        with self.lines.lock:
            return line.lingers(ticket, self.timing.now())

    def _outcome(self, line: Line, ticket: Ticket) -> list[Verdict]:
        """Return the answer to a caller that has left its line. Raises the error that it got."""
        answer = ticket.answer
        if isinstance(answer, Exception):
            raise copy(answer) if isinstance(answer, SluicegateError) else answer  # one of its own, with its traceback
        if answer is not None:
            return answer
        denied, told_at = ticket.denied or line.denied or (None, 0.0)
        return refusal(denied, told_at, self.timing.now(), ticket.request.charges)


class Waiting(_Waiting[Store]):
    """Waits of threads."""

    def wait(self, request: Request, timeout: float | None, *, overtake: bool) -> list[Verdict]:
        """Return the answer to a request, once it is allowed or its time is over.

        Args:
            request: The request.
            timeout: Seconds to wait at most; None for as long as it takes.
            overtake: Whether to wait beside the line, and not in it.

        Raises:
            StoreError: As the limiter says.
        """
        until = self._until(timeout)
        name = self._name(request, overtake=overtake)
        line = self.lines.begin(name)
        ticket: Ticket | None = None
        answer: list[Verdict]
        if line is not None:  # nobody waits: the first call is one's own
            try:
                asked_at = self.timing.now()
                try:
                    (answer,) = self._ask_store((request,))
                except StoreError as error:
                    answer = self._plan.without_store(request, error)
                if self._plan.lends:
                    note_when(answer, asked_at)
                if self._is_to_wait(request, answer, until):
                    woken = Event()
                    ticket = Ticket(request, until, woken.set)
                    self.lines.join_first(line, ticket, answer, self.timing.now())
            finally:
                line.is_served = False
                self.lines.end(name, line)
                self._hand_over(line)
            if ticket is None:
                return answer
        elif self.lines.is_full:
            return refusal(self._decide(peek_of(request)), 0, 0, request.charges)
        else:
            woken = Event()
            ticket = Ticket(request, until, woken.set)
            line = self.lines.join(name, ticket)
        return self._stand_in(name, line, ticket, woken)

    def _stand_in(self, name: Any, line: Line, ticket: Ticket, woken: Event) -> list[Verdict]:
        """Wait in a line until one's turn has come, or one's time is over."""
        try:
            self._plan.check_open()  # it may have been closed since
            refused = None if ticket.denied else self._refused_behind(ticket)
            if refused is not None:
                return refused
            while ticket.waits:
                if self._leads(line, ticket):
                    self._serve(line, ticket, woken)
                    break
                is_late = ticket.is_late(self.timing.now())
                if is_late and not self._lingers(line, ticket):
                    break
                self.timing.sleep(woken, None if is_late else ticket.until)
                woken.clear()
        except BaseException:
            self.lines.leave(name, line, ticket)
            if isinstance(ticket.answer, list) and is_allowed(ticket.answer):
                self._give_back([(ticket.request, ticket.answer)])
            raise
        finally:
            self.lines.leave(name, line, ticket)
            self._hand_over(line)
        return self._outcome(line, ticket)

    def _refused_behind(self, ticket: Ticket) -> list[Verdict] | None:
        """Return the denial of a caller that joins behind others, if its own wait, by the store, is too long."""
        request = ticket.request
        if ticket.until is None and not never_fits(request.charges):
            return None
        answer = self._decide(peek_of(request))
        if not is_allowed(answer):
            ticket.denied = answer, self.timing.now()
        return answer if self._is_refused(ticket, answer) else None

    def _leads(self, line: Line, ticket: Ticket) -> bool:
        with self.lines.lock:
            if line.is_served or line.first() is not ticket:
                return False
            line.is_served = True
            return True

    def _serve(self, line: Line, ticket: Ticket, woken: Event) -> None:
        """Serve a line until one's own turn has come, or one's time is over."""
        line.wake_server = woken.set
        try:
            while ticket.waits:
                now = self.timing.now()
                if line.due_at <= now:
                    self._call(line)
                elif ticket.is_late(now):
                    break
                else:
                    self.timing.sleep(woken, line.due_at if ticket.until is None else min(line.due_at, ticket.until))
                    woken.clear()
        finally:
            line.wake_server, line.is_served = None, False

    def _call(self, line: Line) -> None:
        with self.lines.lock:
            batch = line.next_batch()
        try:
            answers = self._decide_line([ticket.request for ticket in batch])
        except StoreError as error:
            with self.lines.lock:
                line.fail(batch, error)
            return
        with self.lines.lock:
            unheard = line.deliver(batch, answers, self.timing.now())
        self._give_back(unheard)

    def _hand_over(self, line: Line) -> None:
        """Let the one that waits first now serve the line, unless somebody does."""
        with self.lines.lock:
            first = line.first()
        if first is not None and not line.is_served:
            first.wake()

    def _decide(self, request: Request) -> list[Verdict]:
        try:
            return self._store.decide(request)
        except StoreError as error:
            return self._plan.without_store(request, error)

    def _decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        asked_at = self.timing.now()
        answers: list[list[Verdict]]
        try:
            answers = self._ask_store(requests)
        except StoreError as error:
            answers = self._plan.line_without_store(requests, error)
        if self._plan.lends:
            for answer in answers:
                note_when(answer, asked_at)
        return answers

    def _one_by_one(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Ask a store that knows no lines about the first of them."""
        return [self._store.decide(requests[0])]

    def _give_back(self, unheard: Sequence[Unheard]) -> None:
        for request, answer in unheard:
            with contextlib.suppress(StoreError):
                settlements = self._plan.settlements(request, answer, [0] * len(request.charges))
                if settlements and not self._plan.settle_here(answer, settlements):
                    self._store.settle(settlements, request.within)  # type: ignore[attr-defined]
                self.poke(request)


class AsyncWaiting(_Waiting[AsyncStore]):
    """Waits of tasks; the twin of `Waiting`."""

    def __init__(self, plan: Plan, store: AsyncStore, most: int) -> None:
        super().__init__(plan, store, most)
        self._servers: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # the first that waited

    def _name(self, request: Request, *, overtake: bool) -> LineName | Beside:
        """Return the name of the line that a caller waits in: each event loop has its own, which its tasks serve."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            with self.lines.lock:
                self._loop = self._loop or loop
        if overtake or loop is self._loop:
            return super()._name(request, overtake=overtake)
        return self.lines.beside(line_name(request.charges), loop)

    async def wait(self, request: Request, timeout: float | None, *, overtake: bool) -> list[Verdict]:
        """Return the answer to a request, once it is allowed or its time is over; the twin of `Waiting.wait`."""
        until = self._until(timeout)
        name = self._name(request, overtake=overtake)
        line = self.lines.begin(name)
        ticket: Ticket | None = None
        answer: list[Verdict]
        if line is not None:  # nobody waits: the first call is one's own
            try:
                asked_at = self.timing.now()
                try:
                    (answer,) = await self._ask_store((request,))
                except StoreError as error:
                    answer = self._plan.without_store(request, error)
                if self._plan.lends:
                    note_when(answer, asked_at)
                if self._is_to_wait(request, answer, until):
                    woken = asyncio.Event()
                    ticket = Ticket(request, until, _waking(woken))
                    self.lines.join_first(line, ticket, answer, self.timing.now())
            finally:
                line.is_served = False
                self.lines.end(name, line)
                self._start_server(line)
            if ticket is None:
                return answer
        elif self.lines.is_full:
            return refusal(await self._decide(peek_of(request)), 0, 0, request.charges)
        else:
            woken = asyncio.Event()
            ticket = Ticket(request, until, _waking(woken))
            line = self.lines.join(name, ticket)
        return await self._stand_in(name, line, ticket, woken)

    async def _stand_in(self, name: Any, line: Line, ticket: Ticket, woken: asyncio.Event) -> list[Verdict]:
        """Wait in a line until one's turn has come, or one's time is over."""
        try:
            self._plan.check_open()  # it may have been closed since
            refused = None if ticket.denied else await self._refused_behind(ticket)
            if refused is not None:
                return refused
            while ticket.waits:
                is_late = ticket.is_late(self.timing.now())
                if is_late and not self._lingers(line, ticket):
                    break
                self._start_server(line)
                await self.timing.sleep_task(woken, None if is_late else ticket.until)
                woken.clear()
        except BaseException:
            self.lines.leave(name, line, ticket)
            if isinstance(ticket.answer, list) and is_allowed(ticket.answer):
                self._in_background(self._give_back([(ticket.request, ticket.answer)]))
            raise
        finally:
            self.lines.leave(name, line, ticket)
            self._start_server(line)
        return self._outcome(line, ticket)

    async def _refused_behind(self, ticket: Ticket) -> list[Verdict] | None:
        request = ticket.request
        if ticket.until is None and not never_fits(request.charges):
            return None
        answer = await self._decide(peek_of(request))
        if not is_allowed(answer):
            ticket.denied = answer, self.timing.now()
        return answer if self._is_refused(ticket, answer) else None

    def _start_server(self, line: Line) -> None:
        """Let a task serve a line that somebody waits in, unless one does."""
        if not line.is_served and line.first() is not None:
            line.is_served = True
            self._in_background(self._serve(line))

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._servers.add(task)
        task.add_done_callback(self._servers.discard)

    async def _serve(self, line: Line) -> None:
        """Serve a line for as long as somebody waits in it."""
        woken = asyncio.Event()
        line.wake_server = _waking(woken)
        try:
            while line.first() is not None:
                if line.due_at <= self.timing.now():
                    await self._call(line)
                else:
                    await self.timing.sleep_task(woken, line.due_at)
                    woken.clear()
        finally:
            line.wake_server, line.is_served = None, False
            first = line.first()
            if first is not None:  # this task was cancelled: let it start another one
                first.wake()

    async def _call(self, line: Line) -> None:
        batch = line.next_batch()
        try:
            answers = await self._decide_line([ticket.request for ticket in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, those that wait get it
            line.fail(batch, error)
            return
        await self._give_back(line.deliver(batch, answers, self.timing.now()))

    async def _decide(self, request: Request) -> list[Verdict]:
        try:
            return await self._store.decide(request)
        except StoreError as error:
            return self._plan.without_store(request, error)

    async def _decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        asked_at = self.timing.now()
        answers: list[list[Verdict]]
        try:
            answers = await self._ask_store(requests)
        except StoreError as error:
            answers = self._plan.line_without_store(requests, error)
        if self._plan.lends:
            for answer in answers:
                note_when(answer, asked_at)
        return answers

    async def _one_by_one(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Ask a store that knows no lines about the first of them."""
        return [await self._store.decide(requests[0])]

    async def _give_back(self, unheard: Sequence[Unheard]) -> None:
        for request, answer in unheard:
            with contextlib.suppress(StoreError):
                settlements = self._plan.settlements(request, answer, [0] * len(request.charges))
                if settlements and not self._plan.settle_here(answer, settlements):
                    await self._store.settle(settlements, request.within)  # type: ignore[attr-defined]
                self.poke(request)


def _waking(woken: asyncio.Event) -> Callable[[], None]:
    """Return what sets an event of the running loop, from wherever it is called: units may come back on another one."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        if _running_loop() is loop:
            woken.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(woken.set)

    return wake


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
