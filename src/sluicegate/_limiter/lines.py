"""The lines in which callers wait their turn, one for each set of counters. No I/O, and no clock of its own.

A line is served by one caller at a time: by the thread that waits longest, or by a task. When the first in line may be
allowed, the server makes one call for it and for some behind it, in order, up to the first that is denied. That
caller then waits as long as its denial says, and the others behind it. So nobody is overtaken, whatever the costs, and
there is no polling.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import chain
from math import inf
from threading import RLock
from typing import NamedTuple

from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.keys import CounterKey
from sluicegate._core.request import Charge, Request
from sluicegate._stores.base import Fallback

POLL = 0.05
"""Seconds between two calls for permits: another process that releases some does not say so."""

FIRST_BATCH = 2
LAST_BATCH = 128
"""How many are tried in one call: twice as many as the last one allowed, within these bounds."""

LineName = tuple[tuple[str, CounterKey], ...]


def line_name(charges: Sequence[Charge]) -> LineName:
    """Return the name of the line for these charges: their counters."""
    return tuple([(charge.policy.namespace, charge.key) for charge in charges])


class Beside(NamedTuple):
    """The name of a line beside that of its counters.

    Attributes:
        counters: The name of that one.
        of: Whose it is: of one caller that may overtake, or of another event loop.
    """

    counters: LineName
    of: object


Name = LineName | Beside
"""The name of a line."""


def _wake_nobody() -> None:
    """Do nothing: a caller that makes its own first call does not sleep."""


class Ticket:
    """One caller in a line.

    Attributes:
        request: What it asks for.
        until: When it waits no longer, by the limiter's time; None if it waits for as long as it takes.
        wake: Called when it has an answer, or is to serve the line.
        line: The line that it is in; a new one of its own before.
        answer: The answer that ends its wait, or the error; None while it waits.
        denied: The last answer of the store that denied this caller, and the time of that answer.
        has_left: Whether it does not wait any more.
    """

    __slots__ = ("answer", "denied", "has_left", "line", "request", "until", "wake")

    def __init__(self, request: Request, until: float | None, wake: Callable[[], object] | None = None) -> None:
        self.request = request
        self.until = until
        self.wake = wake or _wake_nobody
        self.line = Line()
        self.answer: list[Verdict] | Exception | None = None
        self.denied: tuple[list[Verdict], float] | None = None
        self.has_left = False

    def is_late(self, now: float) -> bool:
        """Return whether its time is over."""
        return self.until is not None and now >= self.until

    @property
    def waits(self) -> bool:
        """Whether it still waits for an answer."""
        return self.answer is None and not self.has_left

    def end(self, answer: list[Verdict] | Exception) -> None:
        """End its wait."""
        self.answer = answer
        self.wake()


class Line:
    """The callers that wait for one set of counters. Without any while a caller makes the first call for itself.

    Attributes:
        due_at: When the first one may be allowed.
        denied: The last denial of the first caller, and the time of that answer.
        server: The ticket of the caller that serves it, or the mark of a task; None while nobody does.
        is_beginning: Whether that is the caller that has begun it, which is not in it yet.
        wake_server: Called to make the server look again; None while it does not sleep.
    """

    __slots__ = (
        "_batch",
        "_is_to_look_again",
        "_late",
        "_tickets",
        "denied",
        "due_at",
        "is_beginning",
        "server",
        "wake_server",
    )

    def __init__(self) -> None:
        self.due_at = -inf
        self.denied: tuple[list[Verdict], float] | None = None
        self.server: object = None
        self.is_beginning = False
        self.wake_server: Callable[[], object] | None = None
        # In order; a caller that leaves from the middle is gone at once.
        self._tickets: OrderedDict[Ticket, None] = OrderedDict()
        self._late: dict[Ticket, None] = {}
        self._is_to_look_again = False
        self._batch = FIRST_BATCH

    def first(self) -> Ticket | None:
        """Return the first one that waits."""
        while self._tickets:
            ticket = next(iter(self._tickets))
            if ticket.waits:
                return ticket
            del self._tickets[ticket]
        return None

    def join(self, ticket: Ticket) -> None:
        """Put a caller at the end."""
        self._tickets[ticket] = None

    def claim(self, ticket: Ticket) -> bool:
        """Let a caller serve the line, if it is the first one and nobody else does."""
        if self.server is None and self.first() is ticket:
            self.server = ticket
        return self.server is ticket

    def release(self, server: object) -> None:
        """Let it be served by somebody else, if this is who serves it."""
        if self.server is server:
            self.is_beginning = False
            self.wake_server = self.server = None

    def leave(self, ticket: Ticket) -> None:
        """Take a caller out."""
        was_first = self.first() is ticket
        ticket.has_left = True
        self._tickets.pop(ticket, None)
        self._late.pop(ticket, None)
        if was_first and self._has_another_first(ticket):
            self.look_again()

    def stays_for_call(self, ticket: Ticket, now: float) -> bool:
        """Return whether a caller whose time is over stays for the call that is due; it is woken when none is.

        For no longer than `stays_until`: if the call hangs, or nobody makes it, its time is over all the same.
        """
        if self.due_at > now or now >= stays_until(ticket):
            return False
        self._late[ticket] = None
        return True

    def join_first(self, ticket: Ticket, denied: list[Verdict], now: float) -> None:
        """Put a caller in front that was denied just now: the others came while it asked."""
        self._tickets[ticket] = None
        self._tickets.move_to_end(ticket, last=False)
        self.is_beginning = False
        self._deny(ticket, denied, now)
        self._settle_due(now)

    def next_batch(self) -> list[Ticket]:
        """Return those that are tried in one call, in order."""
        self._is_to_look_again = False
        batch: list[Ticket] = []
        for ticket in self._tickets:
            if ticket.waits:
                batch.append(ticket)
                if len(batch) >= self._batch:
                    break
        return batch

    def all_waiting(self) -> list[Ticket]:
        """Return all that wait."""
        return [ticket for ticket in self._tickets if ticket.waits]

    def deliver(self, batch: Sequence[Ticket], answers: Sequence[list[Verdict]], now: float) -> list[Unclaimed]:
        """Hand out the answers to a batch. Returns those that nobody waits for any more, and that are to be given back.

        What a caller was allowed that has left meanwhile goes to the next one in line of the same cost.
        """
        unclaimed: list[Unclaimed] = []
        allowed = [pair for pair in zip(batch, answers, strict=False) if is_allowed(pair[1])]
        for ticket, answer in allowed:
            if ticket.waits:
                ticket.end(answer)
        for ticket, answer in allowed:
            if ticket.answer is not answer:
                following = self.first()
                if following is not None and following.request.charges == ticket.request.charges:
                    following.end(answer)
                else:
                    unclaimed.append((ticket.request, answer))
        self.due_at = now
        if len(allowed) < len(answers):
            self._deny(batch[len(allowed)], answers[-1], now)
        self._batch = max(FIRST_BATCH, min(2 * len(allowed), LAST_BATCH))
        self._settle_due(now)
        return unclaimed

    def fail(self, batch: Sequence[Ticket], error: Exception) -> None:
        """Let the callers of a batch fail."""
        for ticket in batch:
            if ticket.waits:
                ticket.end(error)

    def look_again(self) -> None:
        """Look again: units were given back."""
        self.due_at = -inf
        self._is_to_look_again = True
        if self.wake_server is not None:
            self.wake_server()

    def _deny(self, ticket: Ticket, answer: list[Verdict], now: float) -> None:
        ticket.denied = answer, now
        if cannot_be_met(ticket.request.charges, answer, ticket.until, now):
            if ticket.waits:
                ticket.end(answer)
            return  # and the next one in line may have room
        if not ticket.waits and self._has_another_first(ticket):
            return  # the same
        self.denied = ticket.denied
        wait, rate_wait = wait_of(answer) or 0.0, rate_wait_of(ticket.request.charges, answer) or 0.0
        self.due_at = later(now, min(wait, max(rate_wait, POLL)))

    def _has_another_first(self, ticket: Ticket) -> bool:
        """Return whether the first in line asks for something else than this one, so that its denial says nothing."""
        first = self.first()
        return first is not None and first.request.charges != ticket.request.charges

    def _settle_due(self, now: float) -> None:
        """Look again if units were given back during the call. If no call is due now, wake those whose time is over."""
        if self._is_to_look_again:
            self._is_to_look_again = False
            self.due_at = -inf
        if self.due_at > now:
            late, self._late = self._late, {}
            for ticket in late:
                ticket.wake()


Unclaimed = tuple[Request, list[Verdict]]
"""A request, and the answer that allowed it, for which nobody waits any more."""


class Lines:
    """The lines of one limiter.

    Args:
        most: Callers that may wait in all of them.

    Attributes:
        lock: Held while a line is read or changed.
    """

    def __init__(self, most: int) -> None:
        # Reentrant: a signal handler may call the limiter in the middle.
        self.lock = RLock()
        self._most = most
        # Each step is safe to repeat: the exception of a signal handler may end a caller's `leave`, which it then does
        # once more.
        self._waiting: set[Ticket] = set()
        self._by_name: dict[LineName, Line] = {}
        self._beside: dict[LineName, dict[Beside, Line]] = {}  # by the counters

    def __bool__(self) -> bool:
        """Return whether there is any line."""
        return bool(self._by_name or self._beside)

    @property
    def waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more callers may wait."""
        return len(self._waiting) >= self._most

    def begin(self, name: Name, ticket: Ticket) -> bool:
        """Begin a line of this name, which the caller serves, unless there is one. Returns whether it was begun."""
        line = ticket.line
        line.server, line.is_beginning = ticket, True
        if isinstance(name, Beside):
            with self.lock:
                return self._beside.setdefault(name.counters, {}).setdefault(name, line) is line
        # One step: another thread may begin one, too.
        return self._by_name.setdefault(name, line) is line

    def join(self, name: Name, ticket: Ticket) -> Line:
        """Put a caller at the end of the line of this name. Returns the line."""
        with self.lock:
            line = ticket.line
            line.release(ticket)  # if it could not begin it
            if isinstance(name, Beside):
                line = ticket.line = self._beside.setdefault(name.counters, {}).setdefault(name, line)
            else:
                line = ticket.line = self._by_name.setdefault(name, line)
            self._waiting.add(ticket)
            line.join(ticket)
            return line

    def join_first(self, ticket: Ticket, denied: list[Verdict], now: float) -> None:
        """Put a caller in front of the line that it has begun, as it was denied."""
        with self.lock:
            self._waiting.add(ticket)
            ticket.line.join_first(ticket, denied, now)

    def leave(self, name: Name, ticket: Ticket) -> None:
        """Let a caller leave its line, with or without an answer, and serve it no longer. Safe to repeat.

        A line that nobody waits in is forgotten.
        """
        with self.lock:
            line = ticket.line
            line.release(ticket)
            line.leave(ticket)
            self._waiting.discard(ticket)
            if line.first() is None and not line.is_beginning:
                self._forget(name, line)

    def _forget(self, name: Name, line: Line) -> None:
        if isinstance(name, Beside):
            beside = self._beside.get(name.counters, {})
            is_there = beside.get(name) is line
            if is_there:
                del beside[name]
            if not beside:
                self._beside.pop(name.counters, None)
        else:
            is_there = self._by_name.get(name) is line
            if is_there:
                del self._by_name[name]
        if is_there and line.wake_server is not None:
            line.wake_server()

    def look_again(self, charges: Sequence[Charge]) -> None:
        """Let the line of these counters, and those beside it, look again: units were given back."""
        if self:
            counters = line_name(charges)
            with self.lock:
                line = self._by_name.get(counters)
                if line is not None:
                    line.look_again()
                for beside in self._beside.get(counters, {}).values():
                    beside.look_again()

    def fail_all(self, error: Exception) -> None:
        """Let everybody who waits fail."""
        with self.lock:
            for line in self._all():
                line.fail(line.all_waiting(), error)
                line.look_again()

    def after_fork(self) -> None:
        """Forget the parent's lines, in a forked child: the threads that wait in them are not there."""
        self.lock = RLock()
        self._waiting = set()
        self._by_name = {}
        self._beside = {}

    def look_again_in_all(self) -> None:
        """Let every line look again."""
        with self.lock:
            for line in self._all():
                line.look_again()

    def _all(self) -> list[Line]:
        return [*self._by_name.values(), *chain.from_iterable(map(dict.values, self._beside.values()))]


def is_allowed(answer: list[Verdict]) -> bool:
    """Return whether an answer allows its request."""
    for verdict in answer:  # noqa: SIM110 - all() of a generator takes twice as long
        if not verdict[0]:
            return False
    return True


def wait_of(answer: Sequence[Verdict]) -> float | None:
    """Return for how many seconds an answer says to wait: 0 if it allows the request, None if for ever."""
    waits_us = [verdict.retry_after_us for verdict in answer if not verdict.allowed]
    if NEVER in waits_us:
        return None
    return max(waits_us, default=0) / 1_000_000


def rate_wait_of(charges: Sequence[Charge], answer: Sequence[Verdict]) -> float | None:
    """Return for how many seconds a denial says to wait, but for permits: for them its wait is an upper estimate."""
    return wait_of([verdict for charge, verdict in zip(charges, answer, strict=True) if not charge.policy.lends])


def cannot_be_met(charges: Sequence[Charge], answer: Sequence[Verdict], until: float | None, now: float) -> bool:
    """Return whether a denial tells a caller to wait for longer than it does."""
    if wait_of(answer) is None:
        return True
    rate_wait = rate_wait_of(charges, answer)
    return until is not None and bool(rate_wait) and later(now, rate_wait or 0.0) > until


def stays_until(ticket: Ticket) -> float:
    """Return until when a caller may stay for the call that is due when its time is over: as long as one may last."""
    return later(ticket.until or 0.0, ticket.request.within or POLL)


def later(now: float, seconds: float) -> float:
    """Return the time in so many seconds.

    To the microsecond, which a clock that is moved by hand counts: 0.1 + 0.2 is above 0.3, a time that it reads.
    """
    return round(now + seconds, 6)


def never_fits(charges: Sequence[Charge]) -> bool:
    """Return whether a request can never be allowed, as its cost is above a burst."""
    return any(cost > policy.burst for policy, _, cost in charges)


def refusal(answer: list[Verdict] | None, told_at: float, now: float, charges: Sequence[Charge]) -> list[Verdict]:
    """Return a denial for a caller whose time is over: the last one that is known, by what has passed since.

    Args:
        answer: That denial, its own or that of the first in line; None if there is none yet.
        told_at: When it was told.
        now: The time.
        charges: What the caller asked for.
    """
    if answer is None or is_allowed(answer):
        return [Verdict(False, 0, 1, 0) for _ in charges]
    passed_us = round((now - told_at) * 1_000_000)
    aged = [_aged(verdict, passed_us) for verdict in answer]
    return Fallback(aged) if isinstance(answer, Fallback) else aged


def _aged(verdict: Verdict, passed_us: int) -> Verdict:
    allowed, remaining, wait_us, reset_us = verdict
    if not allowed and wait_us != NEVER:
        wait_us = max(wait_us - passed_us, 1)
    return Verdict(allowed, remaining, wait_us, max(reset_us - passed_us, 0))
