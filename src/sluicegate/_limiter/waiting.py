"""Waiting for one's turn: who serves the lines of a limiter, for threads and for tasks. `lines` has the rules.

A thread that waits first in its line serves it, until its own turn has come, and then leaves that to the next. Tasks
leave it to a task of the line's own, so that one that is cancelled takes no other's answer with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from threading import Event
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import SluicegateError, StoreError
from sluicegate._core.request import Request
from sluicegate._limiter.lines import (
    Beside,
    Line,
    Lines,
    Name,
    Ticket,
    Unclaimed,
    cannot_be_met,
    is_allowed,
    later,
    line_name,
    never_fits,
    refusal,
    stays_until,
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


def bypasses_lines(store: object) -> bool:
    """Return whether to ask a store about one request at a time.

    It knows no lines, or it is of a subclass with a ``decide`` of its own, which the base's ``decide_line`` bypasses.
    """
    if not hasattr(store, "decide_line"):
        return True
    classes = type(store).__mro__
    owners = [next((cls for cls in classes if verb in vars(cls)), object) for verb in ("decide", "decide_line")]
    decide, decide_line = map(classes.index, owners)
    return decide < decide_line < len(classes) - 1


class _Waiting(ABC, Generic[_Store]):
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
        own = store.store if isinstance(store, AwaitedMemoryStore) else store
        self._in_memory = type(own) is MemoryStore  # a subclass may fail, as sluicegate.testing.FailingStore does
        self._ask_store: Callable[..., Any] = self._one_by_one
        if not bypasses_lines(own):
            self._ask_store = store.decide_line  # type: ignore[attr-defined]

    @property
    def is_instant(self) -> bool:
        """Whether a request may be decided at once, past the lines: in memory, where nobody waits."""
        return self._in_memory and not self.lines

    def look_again(self, request: Request) -> None:
        """Let the line of these counters look again: units were given back."""
        self.lines.look_again(request.charges)

    def look_again_in_all(self) -> None:
        """Let every line look again."""
        self.lines.look_again_in_all()

    @abstractmethod
    def _one_by_one(self, requests: Sequence[Request]) -> Any:
        """Ask a store that knows no lines about the first of them."""

    def _until(self, timeout: float | None) -> float | None:
        return None if timeout is None else later(self.timing.now(), timeout)

    def _name(self, request: Request, *, overtake: bool) -> Name:
        """Return the name of the line that a caller waits in."""
        counters = line_name(request.charges)
        return Beside(counters, object()) if overtake else counters

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

    def _wakes_at(self, line: Line, ticket: Ticket) -> tuple[bool, float | None]:
        """Return whether a caller still waits, and until when. If its time is over, it stays for a call that is due."""
        now = self.timing.now()
        if not ticket.is_late(now):
            return True, ticket.until
        with self.lines.lock:
            return line.stays_for_call(ticket, now), stays_until(ticket)

    def _outcome(self, ticket: Ticket) -> list[Verdict]:
        """Return the answer to a caller that has left its line. Raises the error that it got."""
        answer = ticket.answer
        if isinstance(answer, Exception):
            raise copy(answer) if isinstance(answer, SluicegateError) else answer  # one of its own, with its traceback
        if answer is not None:
            return answer
        denied, told_at = ticket.denied or ticket.line.denied or (None, 0.0)
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
        ticket = Ticket(request, self._until(timeout))
        name = self._name(request, overtake=overtake)
        answer: list[Verdict] | None
        try:
            try:
                answer = self._first_answer(name, ticket)
                if answer is None:
                    answer = self._stand_in(ticket.line, ticket)
            finally:
                self._leave(name, ticket)
        except BaseException:
            self._leave(name, ticket)  # once more: the exception of a signal handler may have ended the first one
            if isinstance(ticket.answer, list) and is_allowed(ticket.answer):
                self._give_back([(request, ticket.answer)])
            raise
        # One that was refused may have been allowed meanwhile, before it left.
        return self._outcome(ticket) if answer is None or ticket.answer is not None else answer

    def _first_answer(self, name: Name, ticket: Ticket) -> list[Verdict] | None:
        """Return the answer to a caller that does not wait in a line; None if it does, and is in it now."""
        request = ticket.request
        if self.lines.begin(name, ticket):  # nobody waits: the first call is one's own
            (answer,) = self._decide_line((request,))
            if not self._is_to_wait(request, answer, ticket.until):
                return answer
            self.lines.join_first(ticket, answer, self.timing.now())
        elif self.lines.is_full:
            return refusal(self._decide(peek_of(request)), 0, 0, request.charges)
        else:
            self.lines.join(name, ticket)
        return None

    def _stand_in(self, line: Line, ticket: Ticket) -> list[Verdict] | None:
        """Wait in a line until one's turn has come, or one's time is over. Returns a denial if it is at once."""
        woken = Event()
        ticket.wake = woken.set
        self._plan.check_open()  # it may have been closed since
        refused = None if ticket.denied else self._refused_behind(ticket)
        if refused is not None:
            return refused
        while ticket.waits:
            if self._claims(line, ticket):
                self._serve(line, ticket, woken)
                break
            waits_on, wakes_at = self._wakes_at(line, ticket)
            if not waits_on:
                break
            self.timing.sleep(woken, wakes_at)
            woken.clear()
        return None

    def _refused_behind(self, ticket: Ticket) -> list[Verdict] | None:
        """Return the denial of a caller that joins behind others, if its own wait, by the store, is too long."""
        request = ticket.request
        if ticket.until is None and not never_fits(request.charges):
            return None
        answer = self._decide(peek_of(request))
        if not is_allowed(answer):
            ticket.denied = answer, self.timing.now()
        return answer if self._is_refused(ticket, answer) else None

    def _claims(self, line: Line, ticket: Ticket) -> bool:
        with self.lines.lock:
            return line.claim(ticket)

    def _serve(self, line: Line, ticket: Ticket, woken: Event) -> None:
        """Serve a line until one's own turn has come, or one's time is over."""
        line.wake_server = woken.set
        while ticket.waits:
            now = self.timing.now()
            if line.due_at <= now:
                self._call(line)
            elif ticket.is_late(now):
                break
            else:
                self.timing.sleep(woken, line.due_at if ticket.until is None else min(line.due_at, ticket.until))
                woken.clear()

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
            unclaimed = line.deliver(batch, answers, self.timing.now())
        self._give_back(unclaimed)

    def _leave(self, name: Name, ticket: Ticket) -> None:
        """Leave the line, and let the caller that is first now serve it, unless somebody does. Safe to repeat."""
        self.lines.leave(name, ticket)
        line = ticket.line
        if line.server is None:
            with self.lines.lock:
                first = line.first()
            if first is not None:
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

    def _give_back(self, unclaimed: Sequence[Unclaimed]) -> None:
        for request, answer in unclaimed:
            with contextlib.suppress(StoreError):
                settlements = self._plan.settlements(request, answer, [0] * len(request.charges))
                if settlements and not self._plan.settle_here(answer, settlements):
                    self._store.settle(settlements, request.within)  # type: ignore[attr-defined]
                self.look_again(request)


class AsyncWaiting(_Waiting[AsyncStore]):
    """Waits of tasks; the twin of `Waiting`."""

    def __init__(self, plan: Plan, store: AsyncStore, most: int) -> None:
        super().__init__(plan, store, most)
        lines = getattr(store, "_lines", None)
        if isinstance(lines, WeakSet):
            lines.add(self.lines)  # a store gives back by itself what a cancelled task was allowed
        self._servers: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # the first that waited, and that is not closed

    def _name(self, request: Request, *, overtake: bool) -> Name:
        """Return the name of the line that a caller waits in: each event loop has its own, which its tasks serve."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with self.lines.lock:
                # Not while tasks wait: those of this loop may wait beside the other one's.
                if self._loop is None or (self._loop.is_closed() and not self.lines):
                    self._loop = loop
        if overtake or loop is self._loop:
            return super()._name(request, overtake=overtake)
        return Beside(line_name(request.charges), loop)

    async def wait(self, request: Request, timeout: float | None, *, overtake: bool) -> list[Verdict]:
        """Return the answer to a request, once it is allowed or its time is over; the twin of `Waiting.wait`."""
        ticket = Ticket(request, self._until(timeout))
        name = self._name(request, overtake=overtake)
        answer: list[Verdict] | None
        try:
            try:
                answer = await self._first_answer(name, ticket)
                if answer is None:
                    answer = await self._stand_in(ticket.line, ticket)
            finally:
                self._leave(name, ticket)
        except BaseException:
            self._leave(name, ticket)  # once more: the exception of a signal handler may have ended the first one
            if isinstance(ticket.answer, list) and is_allowed(ticket.answer):
                self._in_background(self._give_back([(request, ticket.answer)]))
            raise
        # One that was refused may have been allowed meanwhile, before it left.
        return self._outcome(ticket) if answer is None or ticket.answer is not None else answer

    async def _first_answer(self, name: Name, ticket: Ticket) -> list[Verdict] | None:
        """Return the answer to a caller that does not wait in a line; None if it does, and is in it now."""
        request = ticket.request
        if self.lines.begin(name, ticket):  # nobody waits: the first call is one's own
            (answer,) = await self._decide_line((request,))
            if not self._is_to_wait(request, answer, ticket.until):
                return answer
            self.lines.join_first(ticket, answer, self.timing.now())
        elif self.lines.is_full:
            return refusal(await self._decide(peek_of(request)), 0, 0, request.charges)
        else:
            self.lines.join(name, ticket)
        return None

    async def _stand_in(self, line: Line, ticket: Ticket) -> list[Verdict] | None:
        """Wait in a line until one's turn has come, or one's time is over. Returns a denial if it is at once."""
        woken = asyncio.Event()
        ticket.wake = _waking(woken)
        line.release(ticket)  # to a task
        self._plan.check_open()  # it may have been closed since
        refused = None if ticket.denied else await self._refused_behind(ticket)
        if refused is not None:
            return refused
        while ticket.waits:
            waits_on, wakes_at = self._wakes_at(line, ticket)
            if not waits_on:
                break
            self._start_server(line)
            await self.timing.sleep_task(woken, wakes_at)
            woken.clear()
        return None

    async def _refused_behind(self, ticket: Ticket) -> list[Verdict] | None:
        request = ticket.request
        if ticket.until is None and not never_fits(request.charges):
            return None
        answer = await self._decide(peek_of(request))
        if not is_allowed(answer):
            ticket.denied = answer, self.timing.now()
        return answer if self._is_refused(ticket, answer) else None

    def _leave(self, name: Name, ticket: Ticket) -> None:
        """Leave the line, and let a task serve it if others wait; the twin of `Waiting._leave`."""
        self.lines.leave(name, ticket)
        self._start_server(ticket.line)

    def _start_server(self, line: Line) -> None:
        """Let a task serve a line that somebody waits in, unless one does."""
        if line.server is None and line.first() is not None:
            line.server = mark = object()
            self._in_background(self._serve(line, mark))

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._servers.add(task)
        task.add_done_callback(self._servers.discard)

    async def _serve(self, line: Line, mark: object) -> None:
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
            line.release(mark)
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

    async def _give_back(self, unclaimed: Sequence[Unclaimed]) -> None:
        for request, answer in unclaimed:
            with contextlib.suppress(StoreError):
                settlements = self._plan.settlements(request, answer, [0] * len(request.charges))
                if settlements and not self._plan.settle_here(answer, settlements):
                    await self._store.settle(settlements, request.within)  # type: ignore[attr-defined]
                self.look_again(request)


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
