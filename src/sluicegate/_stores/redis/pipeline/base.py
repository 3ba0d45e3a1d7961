"""A line: the calls of one store on their way to its server and back. What that of threads and that of tasks share.

A line borrows one connection from the client's pool for as long as it has something to do, so that the server answers
its calls in their order. It has no thread or task of its own while it is idle.

Connections are spoken to directly: a client's own ``execute_command`` repeats a call whose reply was lost, ten times by
default, and each of them may have charged. Whatever goes wrong once a command may have left is the end of its
connection, so that a late reply is never read as another's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sluicegate._core.errors import StoreError
from sluicegate._stores.redis.failures import REFUSALS, because, lost, refused, unavailable
from sluicegate._stores.redis.pipeline.queue import Batch, Command, Failed, Queue, Waiter


class Line(ABC):
    """What all lines have.

    Args:
        pool: redis-py's, of connections.
        timeout: Seconds within which each caller is answered.
        most_waiting: Callers that may wait for their call; see `Queue`.
        keeps: Whether the connection is kept while there is nothing to do: to lend it anew takes a tenth of a call.
    """

    def __init__(self, pool: Any, timeout: float, most_waiting: int, *, keeps: bool) -> None:
        self._pool = pool
        self._timeout = timeout
        self._keeps = keeps
        self._queue = Queue(most_waiting)
        self._under_way: deque[Batch] = deque()  # in the order of their replies

    def _late(self, waiter: Waiter) -> StoreError:
        why = f"nothing came within {self._timeout} s"
        return lost(why) if waiter.sent else unavailable(why)

    def _give_up(self, waiter: Waiter, error: StoreError) -> None:
        """Let a caller wait no longer. What was sent for it may be counted."""
        if waiter.sent:
            waiter.outcome = Failed(error)
        else:
            self._queue.leave(waiter, error)

    def _firsts(self) -> Iterator[Waiter]:
        """Return the first that waits of each flight, then of the queue."""
        for flight in self._under_way:
            yield from islice((waiter for waiter in flight.waiters if waiter.outcome is None), 1)
        if first := self._queue.first():
            yield first

    def _next_command(self) -> Command | None:
        """Take the next batch that has something to send out of the queue, and return it; it is under way then."""
        while self._queue:
            flight = Batch(self._queue.batch(), self._tell)
            try:
                command = flight.depart()
            except Exception as error:  # noqa: BLE001 - whatever it is, those who asked are told, and others are not
                flight.fail(error)
                continue
            if command:
                self._under_way.append(flight)
                return command
        return None

    def _landed(self, reply: Any, refusal: Exception | None) -> Command | None:
        """Hand the oldest flight its reply. Returns what it sends next, if it is not over; it is the last one then."""
        flight = self._under_way.popleft()
        try:
            command = flight.land(reply) if refusal is None else flight.refused(refusal)
        except Exception as last:  # noqa: BLE001 - a reply that nobody can read is as good as lost
            error = refused(last) if isinstance(last, REFUSALS) else lost(last)
            error.__cause__ = last
            flight.fail(error)
            return None
        if command:
            self._under_way.append(flight)
        return command

    @abstractmethod
    def _tell(self, waiter: Waiter) -> None:
        """Wake a caller that sleeps, if it still does."""

    def _lose_all(self, why: BaseException) -> None:
        """Tell those under way that their answer is lost: their connection is at its end."""
        error = lost(because(why, self._timeout))
        error.__cause__ = why
        while self._under_way:
            self._under_way.popleft().fail(error)

    def _refuse_all(self, why: BaseException) -> None:
        """Tell those in the queue that there is no connection."""
        error = unavailable(because(why, self._timeout))
        error.__cause__ = why
        for waiter in self._queue.all():
            self._queue.leave(waiter, error)
            self._tell(waiter)


def result(waiter: Waiter) -> Any:
    """Return what a caller asked for, or raise its error."""
    outcome = waiter.outcome
    if not isinstance(outcome, Failed):
        return outcome
    error = outcome.error
    if isinstance(error, StoreError):
        # Each caller has an error of its own: one that many raised would gather the traces of all.
        raise type(error)(*error.args) from error.__cause__
    raise error
