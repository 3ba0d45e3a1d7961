"""What the pipelines for threads and for tasks share: a queue, and the batches in flight on one connection.

A pipeline borrows one connection from the client's pool for as long as it has work, so the server decides its batches
in the order in which they are sent. It has no thread or task of its own while it is idle.

It sends on the connection directly. A client's own ``execute_command`` sends a call again if its reply is lost, ten
times by default, and each of them may charge. And after any failure once a command may have left, the connection is
closed: a late reply would be read as the reply to the next command.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from copy import copy
from itertools import groupby, islice
from typing import Any

from redis.exceptions import TimeoutError as DriverTimeout

from sluicegate._core.errors import SluicegateError, StoreError
from sluicegate._stores.redis.address import address
from sluicegate._stores.redis.failures import REFUSALS, lost, refused, unavailable
from sluicegate._stores.redis.pipeline.batch import Batch
from sluicegate._stores.redis.pipeline.guard import Guard
from sluicegate._stores.redis.pipeline.queue import Queue
from sluicegate._stores.redis.pipeline.waiter import Command, Failed, Waiter


class Pipeline(ABC):
    """Base class of the thread and asyncio pipelines.

    Args:
        pool: redis-py's connection pool.
        timeout: Seconds within which each caller has its outcome.
        max_waiting: Callers that may wait in the queue.
        keeps: Whether to keep the connection while there is no work: borrowing it anew takes a tenth of a call.
        connects_within: Seconds that connecting may take, ``timeout`` or more. Callers do not wait for longer than they
            would, and the next ones find a connection.
        guard: Keeps callers off while the server is down; None for probes.
    """

    def __init__(
        self, pool: Any, timeout: float, max_waiting: int, *, keeps: bool, connects_within: float, guard: Guard | None
    ) -> None:
        self._guard = guard
        self._pool = pool
        self._timeout = timeout
        self._connects_within = connects_within
        self._keeps = keeps
        self._queue = Queue(max_waiting)
        self._in_flight: deque[Batch] = deque()  # in the order of their replies

    def _late(self, waiter: Waiter) -> StoreError:
        effect = waiter.verb.effect
        if waiter.sent:
            return lost(DriverTimeout(f"no reply within {self._timeout} s"), effect)
        return unavailable(DriverTimeout(f"not sent within {self._timeout} s"), effect)

    def _give_up(self, waiter: Waiter, error: StoreError) -> None:
        """Let a caller fail that waits no longer. If its request was sent, it may be counted."""
        if waiter.sent:
            waiter.outcome = Failed(error)
        else:
            self._queue.leave(waiter, error)

    def _first_waiters(self) -> Iterator[Waiter]:
        """Yield the first caller that waits of each batch in flight, then of the queue."""
        for batch in self._in_flight:
            yield from islice((waiter for waiter in batch.waiters if waiter.outcome is None), 1)
        if first := self._queue.first():
            yield first

    def _next_command(self) -> Command | None:
        """Take the next batch that needs the server out of the queue, and return its command. It is in flight then."""
        while self._queue:
            batch = Batch(self._queue.take_batch(), self._wake)
            try:
                command = batch.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, only these callers get it
                batch.fail(error)
                continue
            if command:
                self._in_flight.append(batch)
                return command
        return None

    def _hand_over(self, reply: Any, refusal: Exception | None) -> Command | None:
        """Pass a reply or a refusal to the oldest batch. Returns its next command; it is the last in flight then."""
        batch = self._in_flight.popleft()
        try:
            command = batch.on_reply(reply) if refusal is None else batch.on_refusal(refusal)
        except SluicegateError as error:
            batch.fail(error)
            return None
        except Exception as cause:  # noqa: BLE001 - a reply that cannot be read is as good as lost
            batch.fail((refused if isinstance(cause, REFUSALS) else lost)(cause, batch.effect))
            return None
        if command:
            self._in_flight.append(batch)
        return command

    @abstractmethod
    def _wake(self, waiter: Waiter) -> None:
        """Wake a caller, if it sleeps."""

    def _lose_all(self, why: BaseException) -> None:
        """Let all callers in flight fail: the connection has ended, and with it their replies."""
        while self._in_flight:
            batch = self._in_flight.popleft()
            batch.fail(lost(why, batch.effect))

    def _refuse_all(self, why: BaseException) -> None:
        """Let all callers in the queue fail: there is no connection."""
        for effect, waiters in groupby(self._queue.waiting(), lambda waiter: waiter.verb.effect):
            error = why if isinstance(why, SluicegateError) else unavailable(why, effect)
            for waiter in waiters:
                self._queue.leave(waiter, error)
                self._wake(waiter)

    def _result(self, waiter: Waiter) -> Any:
        """Return the result of a caller, or raise its error; the guard takes note of either."""
        outcome = waiter.outcome
        guard = self._guard
        if isinstance(outcome, StoreError):  # of this caller alone
            error: Exception = outcome
        elif isinstance(outcome, Failed):
            # Each caller raises an error of its own: one that many raise would gather the tracebacks of all.
            error = copy(outcome.error) if isinstance(outcome.error, SluicegateError) else outcome.error
            error.__cause__ = outcome.error.__cause__
        else:
            if guard is not None and guard.health.unsure:
                guard.health.answered()
            return outcome
        if isinstance(error, StoreError):
            error.args = (f"{error} (server: {address(self._pool)})",)
            if guard is not None:
                guard.failed(error, waiter.seen, self._timeout)
        raise error
