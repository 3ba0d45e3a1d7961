"""Waiting for one's turn: who serves the lines of a limiter, for threads and for tasks. `lines` has the rules.

A thread that waits first in its line serves it, until its own turn has come, and then leaves that to the next. Tasks
leave it to a task of the line's own, so that one that is cancelled takes no other's answer with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from copy import copy
from threading import Event
from typing import Any, Generic, TypeVar

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import SluicegateError, StoreError
from sluicegate._core.request import Request
from sluicegate._limiter.lines import (
    Line,
    Lines,
    Ticket,
    Unheard,
    cannot_be_met,
    is_allowed,
    line_name,
    never_fits,
    refusal,
)
from sluicegate._limiter.plan import Plan
from sluicegate._limiter.timing import timing_of
from sluicegate._stores.base import AsyncStore, Store
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.process_local import renew_after_fork

_Store = TypeVar("_Store", Store, AsyncStore)


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
        self._is_instant = isinstance(store, (MemoryStore, AwaitedMemoryStore))
        self._has_lines = hasattr(store, "decide_line")

    def poke(self, request: Request) -> None:
        """Let the line of these counters look again: units were given back."""
        self.lines.poke(request.charges, self.timing.now())

    def poke_all(self) -> None:
        """Let every line look again."""
        self.lines.poke_all(self.timing.now())

    def _until(self, timeout: float | None) -> float | None:
        return None if timeout is None else self.timing.now() + timeout

    def _is_refused(self, request: Request, answer: list[Verdict], until: float | None) -> bool:
        """Return whether a denial, or what a peek said, ends the wait at once."""
        return not is_allowed(answer) and cannot_be_met(request.charges, answer, until, self.timing.now())

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
        name = object() if overtake else line_name(request.charges)
        if self._is_instant and name not in self.lines:
            answer = self._decide(request)
            if is_allowed(answer) or self._is_refused(request, answer, until):
                return answer
        if self.lines.is_full:
            return refusal(self._decide(request._replace(commit=False)), 0, 0, request.charges)
        woken = Event()
        ticket = Ticket(request._replace(reserves=True), until, woken.set)
        line = self.lines.join(name, ticket)
        try:
            refused = self._refused_behind(line, ticket)
            if refused is not None:
                return refused
            while ticket.waits and not ticket.is_late(self.timing.now()):
                if self._leads(line, ticket):
                    self._serve(line, ticket, woken)
                else:
                    self.timing.sleep(woken, until)
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

    def _refused_behind(self, line: Line, ticket: Ticket) -> list[Verdict] | None:
        """Return the denial of a caller that joins behind others, if its own wait, by the store, is too long."""
        if line.first() is ticket:
            return None
        request = ticket.request
        if ticket.until is None and not never_fits(request.charges):
            return None
        answer = self._decide(request._replace(commit=False, reserves=False))
        if not is_allowed(answer):
            ticket.denied = answer, self.timing.now()
        return answer if self._is_refused(request, answer, ticket.until) else None

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
        try:
            if self._has_lines:
                return self._store.decide_line(requests)  # type: ignore[attr-defined,no-any-return]
            return [self._store.decide(requests[0])]
        except StoreError as error:
            return self._plan.line_without_store(requests, error)

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

    async def wait(self, request: Request, timeout: float | None, *, overtake: bool) -> list[Verdict]:
        """Return the answer to a request, once it is allowed or its time is over; the twin of `Waiting.wait`."""
        until = self._until(timeout)
        name = object() if overtake else line_name(request.charges)
        if self._is_instant and name not in self.lines:
            answer = await self._decide(request)
            if is_allowed(answer) or self._is_refused(request, answer, until):
                return answer
        if self.lines.is_full:
            return refusal(await self._decide(request._replace(commit=False)), 0, 0, request.charges)
        woken = asyncio.Event()
        ticket = Ticket(request._replace(reserves=True), until, woken.set)
        line = self.lines.join(name, ticket)
        try:
            if line.first() is ticket and not line.is_served:
                await self._call_first(line, ticket)
            else:
                refused = await self._refused_behind(ticket)
                if refused is not None:
                    return refused
            while ticket.waits and not ticket.is_late(self.timing.now()):
                self._start_server(line)
                await self.timing.sleep_task(woken, until)
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

    async def _call_first(self, line: Line, ticket: Ticket) -> None:
        """Make the first call for a line that one is alone in: cancelled, it is nobody else's."""
        line.is_served = True
        try:
            answers = await self._decide_line([ticket.request])
        except StoreError as error:
            line.fail([ticket], error)
        else:
            line.deliver([ticket], answers, self.timing.now())
        finally:
            line.is_served = False

    async def _refused_behind(self, ticket: Ticket) -> list[Verdict] | None:
        request = ticket.request
        if ticket.until is None and not never_fits(request.charges):
            return None
        answer = await self._decide(request._replace(commit=False, reserves=False))
        if not is_allowed(answer):
            ticket.denied = answer, self.timing.now()
        return answer if self._is_refused(request, answer, ticket.until) else None

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
        line.wake_server = woken.set
        try:
            while line.first() is not None:
                if line.due_at <= self.timing.now():
                    await self._call(line)
                else:
                    await self.timing.sleep_task(woken, line.due_at)
                    woken.clear()
        finally:
            line.wake_server, line.is_served = None, False

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
        try:
            if self._has_lines:
                return await self._store.decide_line(requests)  # type: ignore[attr-defined,no-any-return]
            return [await self._store.decide(requests[0])]
        except StoreError as error:
            return self._plan.line_without_store(requests, error)

    async def _give_back(self, unheard: Sequence[Unheard]) -> None:
        for request, answer in unheard:
            with contextlib.suppress(StoreError):
                settlements = self._plan.settlements(request, answer, [0] * len(request.charges))
                if settlements and not self._plan.settle_here(answer, settlements):
                    await self._store.settle(settlements, request.within)  # type: ignore[attr-defined]
                self.poke(request)
