"""What waits for a call: all that arrives while calls are under way leaves together in the next one. No I/O, no lock.

What arrives while nothing is under way leaves at once. A second call joins one that is under way only if it is no
smaller, or if that one takes long: so that a few callers need not wait for each other, and many gather in large
batches.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from sluicegate._core.errors import StoreUnavailable

BATCH = 256
"""Charges in one call, at most (a single caller may ask for more): about a millisecond of the server's time."""

IN_FLIGHT = 8
"""Calls under way at once, at most."""

PATIENCE = 0.001
"""Seconds, twice as many for each call under way, for which a smaller one waits for the last of them to be answered. A
server next door answers before; one that is slow or far away lets nobody wait for two calls in a row."""

MAX_WAITING = 10_000
"""Callers that may wait for their call, unless a store is told otherwise."""

Command = list[Any]
Steps = Generator[Command, Any, list[Any]]
Verb = Callable[[list[Any]], Steps]
"""What is done with what a batch asks: yields each command, and is sent its reply or thrown the server's refusal.
Returns a result for each thing that was asked, never None; one that is a `StoreError` failed alone."""


class Failed(NamedTuple):
    """What stands in place of a result: an error to raise. A result may be an error, too, of one request alone."""

    error: Exception


class Waiter:
    """One caller, from asking to its answer.

    Attributes:
        verb: What is done with what is asked. Callers of the same one may share a call.
        asked: What is asked, whatever its verb takes.
        charges: How many charges they are.
        deadline: When the caller must have its answer, in seconds of its line's clock.
        bell: What the caller sleeps on, if it does; known to its line alone.
        sent: Whether it has left the queue.
        outcome: The result, or that it `Failed`; None while it waits.
    """

    __slots__ = ("asked", "bell", "charges", "deadline", "outcome", "sent", "verb")

    def __init__(self, verb: Verb, asked: Any, charges: int, deadline: float, bell: Any = None) -> None:
        self.verb = verb
        self.asked = asked
        self.charges = charges
        self.deadline = deadline
        self.bell = bell
        self.sent = False
        self.outcome: Any = None


class Queue:
    """Callers whose call has not left yet, in the order in which they came.

    Args:
        most: How many may wait, 1 or more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entered: deque[Waiter] = deque()  # those that have an outcome already are passed over
        self._live = 0
        self._charges = 0

    def __len__(self) -> int:
        return self._live

    def enter(self, waiter: Waiter) -> None:
        """Put a caller at the end.

        Raises:
            StoreUnavailable: As many as may wait already.
        """
        if self._live >= self._most:
            raise StoreUnavailable(f"nothing was taken: {self._most} callers wait for this store, as many as may")
        self._entered.append(waiter)
        self._live += 1
        self._charges += waiter.charges

    def leave(self, waiter: Waiter, error: Exception) -> None:
        """Let a caller fail that has not been sent. Nothing is asked for it any more."""
        waiter.outcome = Failed(error)
        self._live -= 1
        self._charges -= waiter.charges
        if len(self._entered) > 2 * self._live + BATCH:
            self._entered = deque(one for one in self._entered if one.outcome is None)

    def recount(self) -> None:
        """Set right what an interrupt in the middle of anything here may have left."""
        self._entered = deque(one for one in self._entered if one.outcome is None and not one.sent)
        self._live = len(self._entered)
        self._charges = sum([one.charges for one in self._entered])

    def all(self) -> list[Waiter]:
        """Return those who wait."""
        return [waiter for waiter in self._entered if waiter.outcome is None]

    def first(self) -> Waiter | None:
        """Return the caller that waits longest."""
        while self._entered and self._entered[0].outcome is not None:
            self._entered.popleft()
        return self._entered[0] if self._entered else None

    def joins_at(self, under_way: Sequence[Batch]) -> float:
        """Return the time from which what waits may leave while these are under way: 0 at once, ``inf`` not yet.

        What is smaller than the last call is patient for a moment, and so is what asks just the same: denied, that call
        will answer it, too.
        """
        first = self.first()
        if first is None or len(under_way) >= IN_FLIGHT:
            return math.inf
        if not under_way:
            return 0
        last = under_way[-1]
        if self._charges >= min(last.charges, BATCH) and first.asked != last.waiters[0].asked:
            return 0
        return last.departed + PATIENCE * (1 << len(under_way))

    def may_join(self, under_way: Sequence[Batch]) -> bool:
        """Tell whether the next call may leave now, while these are under way."""
        joins_at = self.joins_at(under_way)
        return not joins_at or joins_at <= time.monotonic()

    def batch(self) -> list[Waiter]:
        """Take out the callers that leave together: from the first on, all of its verb, as long as there is room."""
        entered, charges = self._entered, 0
        batch: list[Waiter] = []
        verb: Verb | None = None
        while entered:
            waiter = entered[0]
            if waiter.outcome is None:
                if batch and (waiter.verb != verb or charges + waiter.charges > BATCH):
                    break
                verb = waiter.verb
                waiter.sent = True
                charges += waiter.charges
                batch.append(waiter)
            entered.popleft()
        self._live -= len(batch)
        self._charges -= charges
        return batch


class Batch:
    """A batch under way: a command was sent for it, and the reply is awaited.

    Args:
        waiters: Callers of one verb; one at least.
        tell: Called with each one that has its outcome.

    Attributes:
        waiters: Those callers.
        charges: How many charges they asked for in all.
        deadline: When the last of them must have its answer.
        departed: When it left, by `time.monotonic`.
    """

    __slots__ = ("_steps", "_tell", "charges", "deadline", "departed", "waiters")

    def __init__(self, waiters: list[Waiter], tell: Callable[[Waiter], None]) -> None:
        self.waiters = waiters
        self.charges = sum([waiter.charges for waiter in waiters])
        self.deadline = waiters[-1].deadline
        self.departed = time.monotonic()
        self._tell = tell
        self._steps = waiters[0].verb([waiter.asked for waiter in waiters])

    def depart(self) -> Command | None:
        """Return the first command; None when all have their outcome without one."""
        return self.land(None)

    def land(self, reply: Any) -> Command | None:
        """Take the reply to the last command. Returns the next one; None when all have their outcome."""
        try:
            return self._steps.send(reply)
        except StopIteration as done:
            self._settle(done.value)
            return None

    def refused(self, refusal: Exception) -> Command | None:
        """Take the server's refusal of the last command, as `land` a reply. Raises it again if it is the last word."""
        try:
            return self._steps.throw(refusal)
        except StopIteration as done:
            self._settle(done.value)
            return None

    def fail(self, error: Exception) -> None:
        """Give all of them the same error. A caller that has its outcome keeps it."""
        for waiter in self.waiters:
            if waiter.outcome is None:
                waiter.outcome = Failed(error)
                self._tell(waiter)

    def _settle(self, results: list[Any]) -> None:
        tell = self._tell
        for waiter, result in zip(self.waiters, results, strict=True):
            if waiter.outcome is None:
                waiter.outcome = result
                tell(waiter)
