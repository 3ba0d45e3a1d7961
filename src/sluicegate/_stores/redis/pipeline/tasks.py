"""The pipeline for the tasks of one event loop: a state machine that callers, replies and timers drive.

No task leads it. A request that arrives while nothing is in flight is sent at once, in the same iteration of the loop.
Replies resolve the futures of their callers in the iteration in which they arrive, and requests made by the woken tasks
go out as one batch at its end. Only borrowing a connection and giving it back have to wait, and each is a task.

The states, and what leads from one to another:

    from        to          when
    IDLE        CONNECTING  a request waits
    CONNECTING  READY       a connection is borrowed
    CONNECTING  IDLE        that failed, took longer than the time-out, or was cancelled
    READY       BUSY        a batch is sent
    READY       IDLE        the connection is released: no request waits and it is not kept; or it is closed
    BUSY        READY       the last reply in flight has arrived
    BUSY        DRAINING    the server is about to leave, or is a replica now
    BUSY        IDLE        the connection is lost, and with it all that is in flight
    DRAINING    IDLE        the last reply in flight has arrived, or the connection is lost
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from operator import attrgetter
from typing import Any

from redis.exceptions import RedisError as DriverError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as DriverTimeout

from sluicegate._core.errors import StoreError
from sluicegate._stores.redis.pipeline.base import Pipeline
from sluicegate._stores.redis.pipeline.guard import Guard
from sluicegate._stores.redis.pipeline.reply_protocol import ReplyProtocol, ensure_connected
from sluicegate._stores.redis.pipeline.waiter import Command, Failed, Verb, Waiter


class State(Enum):
    """What an `AsyncPipeline` is doing; the module lists the transitions."""

    leads_to: tuple[State, ...]

    IDLE = auto()
    """No connection."""

    CONNECTING = auto()
    """A task borrows a connection."""

    READY = auto()
    """A connection, and nothing in flight on it."""

    BUSY = auto()
    """Batches are in flight."""

    DRAINING = auto()
    """Replies are still awaited on the connection, and no new batch is sent on it."""


TRANSITIONS = {
    State.IDLE: {State.CONNECTING},
    State.CONNECTING: {State.READY, State.IDLE},
    State.READY: {State.BUSY, State.IDLE},
    State.BUSY: {State.READY, State.DRAINING, State.IDLE},
    State.DRAINING: {State.IDLE},
}
for _start, _ends in TRANSITIONS.items():
    _start.leads_to = tuple(_ends)  # to look a state up by its hash takes longer

_deadline = attrgetter("deadline")


class AsyncPipeline(Pipeline):
    """Carries the requests of tasks to the server and back; see `Pipeline` for its arguments.

    It belongs to the event loop that runs when it is made.
    """

    def __init__(
        self, pool: Any, timeout: float, max_waiting: int, *, keeps: bool, connects_within: float, guard: Guard | None
    ) -> None:
        super().__init__(pool, timeout, max_waiting, keeps=keeps, connects_within=connects_within, guard=guard)
        self.state = State.IDLE
        self._loop = asyncio.get_running_loop()
        self._protocol: ReplyProtocol | None = None  # on the connection that is borrowed, if one is
        self._connecting: asyncio.Task[None] | None = None
        self._clean_up: set[asyncio.Task[None]] = set()  # each gives a connection back
        self._sending: asyncio.Handle | None = None  # at the end of this iteration of the loop
        self._join_timer: asyncio.TimerHandle | None = None  # when the queue has been patient for long enough
        self._deadline_timer: asyncio.TimerHandle | None = None  # when the first caller is late; one serves all

    async def run(
        self, verb: Verb, argument: Any, charges: int, unheard: Callable[[Any, Any], None] | None = None
    ) -> Any:
        """Run a verb for one caller, and return its result.

        ``unheard`` is called with the argument and the result if the task is late or cancelled when that comes.

        Raises:
            StoreUnavailable: Nothing was taken: the request was not sent.
            StoreTimeout: The outcome is unknown.
        """
        loop = self._loop
        waiter = Waiter(verb, argument, charges, loop.time() + self._timeout, loop.create_future())
        waiter.unheard = unheard
        if self._guard is not None:
            waiter.seen = self._guard.admit(verb.effect)
        self._queue.add(waiter)
        if self._deadline_timer is None:
            self._deadline_timer = loop.call_at(waiter.deadline, self._on_deadline)
        if self._sending is None:
            self._schedule_send()
        try:
            await waiter.wake_up
        except asyncio.CancelledError:
            if waiter.outcome is None:
                self._give_up(waiter, self._late(waiter))
            elif unheard is not None and not isinstance(waiter.outcome, (Failed, StoreError)):
                unheard(argument, waiter.outcome)
            raise
        return self._result(waiter)

    async def aclose(self) -> None:
        """Keep no connection from now on. The one in use is given back, after the replies to what is in flight."""
        self._keeps = False
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._protocol is not None and not self._in_flight:
            self._release_connection(self._protocol, close=self._protocol.draining)
        if self._clean_up:
            await asyncio.wait(self._clean_up)

    def abandon(self) -> None:
        """Close the connection: the store was collected, so nobody can call any more. The client goes with the store.

        What is in flight all the same was left by callers that were cancelled; the connection is given back after it.
        """
        self._keeps = False
        if self._protocol is not None and not self._in_flight:
            self._release_connection(self._protocol, close=True)

    def _enter(self, state: State) -> None:
        """Change the state. Nothing else does."""
        assert state in self.state.leads_to, f"{self.state} -> {state}"  # noqa: S101 - guards our own logic
        self.state = state

    def _wake(self, waiter: Waiter) -> None:
        if not waiter.wake_up.done():  # it is, once the caller was cancelled
            waiter.wake_up.set_result(None)

    # Sending

    def _schedule_send(self) -> None:
        """Send what waits as soon as it may be sent: now, at the end of this iteration, or when it has been patient."""
        if self.state is State.IDLE:
            self._connect()
        elif self.state is State.READY:
            self._send_waiting()
        elif self.state is not State.CONNECTING:
            self._schedule_join()

    def _schedule_join(self) -> None:
        joins_at = self._queue.joins_at(self._in_flight)
        patience = max(joins_at - time.monotonic(), 0)
        if not patience:
            self._send_soon()
        elif self._join_timer is None and joins_at < math.inf:
            self._join_timer = self._loop.call_later(patience, self._on_join)

    def _on_join(self) -> None:
        self._join_timer = None
        if self._queue and self._sending is None:
            self._schedule_send()

    def _send_soon(self) -> None:
        """Send at the end of this iteration of the loop, with all requests that are made until then."""
        if self._sending is None:
            self._sending = self._loop.call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        """Send what may be sent now, and release the connection if there is nothing more to do on it."""
        self._sending = None
        protocol = self._protocol
        if protocol is not None and (protocol.draining or self.state is State.DRAINING):
            self._drain(protocol)
        elif protocol is not None:
            self._send_next(protocol)
        if self._queue and self.state is State.IDLE:
            self._connect()

    def _drain(self, protocol: ReplyProtocol) -> None:
        if self.state is State.BUSY:
            self._enter(State.DRAINING)
        if not self._in_flight:
            self._release_connection(protocol, close=True)

    def _send_next(self, protocol: ReplyProtocol) -> None:
        if self._queue.may_join(self._in_flight) and (command := self._next_command()):
            if self.state is State.READY:
                self._enter(State.BUSY)
            self._send(protocol, command)
        if self._in_flight:
            if self._queue:
                self._schedule_join()
        elif self._protocol is protocol and not self._keeps:
            self._release_connection(protocol)

    def _send(self, protocol: ReplyProtocol, command: Command) -> None:
        """Send the command of the last batch in flight."""
        try:
            protocol.send(command)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next reply would be taken for this one's
            self.on_connection_lost(error)

    # Replies

    def on_reply(self, reply: Any, refusal: ResponseError | None) -> None:
        protocol = self._protocol
        if protocol is None:  # lost by an earlier reply in the same piece of data
            return
        if not self._in_flight:
            self.on_connection_lost(DriverError("unexpected reply: nothing was in flight"))
        elif command := self._hand_over(reply, refusal):
            self._send(protocol, command)
        elif not self._in_flight and self.state is State.BUSY:
            self._enter(State.READY)

    def on_replies_read(self) -> None:
        self._send_soon()

    def on_connection_lost(self, why: Exception) -> None:
        if self._protocol is not None:
            self._lose_all(why)
            self._release_connection(self._protocol, close=True)
            self._send_soon()

    # Deadlines

    def _on_deadline(self) -> None:
        """Let all callers fail whose time is over. The first of each batch is the first of it that is late."""
        self._deadline_timer = None
        now = self._loop.time()
        while (
            waiter := min(self._first_waiters(), key=_deadline, default=None)
        ) is not None and waiter.deadline <= now:
            self._give_up(waiter, self._late(waiter))
            self._wake(waiter)
        if self._in_flight and self._in_flight[0].deadline <= now:
            self.on_connection_lost(DriverTimeout(f"no reply within {self._timeout} s"))
        ends = [waiter.deadline for waiter in self._first_waiters()]
        if self._in_flight:  # also if none of its callers waits any more
            ends.append(self._in_flight[0].deadline)
        if ends:
            # Not at once for each: of ten thousand callers, many are late within a millisecond.
            self._deadline_timer = self._loop.call_at(max(min(ends), now + 0.001), self._on_deadline)

    # Connections

    def _connect(self) -> None:
        if self._connecting is not None:  # it ended in this iteration of the loop: its callback goes on
            return
        self._enter(State.CONNECTING)
        self._connecting = self._loop.create_task(self._borrow_connection())
        self._connecting.add_done_callback(self._on_connecting_done)

    async def _borrow_connection(self) -> None:
        try:
            async with asyncio.timeout(self._connects_within):
                connection = await self._pool.get_connection()
                try:
                    await ensure_connected(connection)
                    self._protocol = ReplyProtocol(connection, self)
                except BaseException:
                    self._give_back(connection, close=True)
                    raise
                self._enter(State.READY)
        except TimeoutError:
            self._refuse_all(DriverTimeout(f"not connected within {self._connects_within} s"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers that wait for it get it
            self._refuse_all(error)

    def _on_connecting_done(self, _: asyncio.Task[None]) -> None:
        """Go on; also if the task was cancelled, as by a program that cancels all tasks."""
        self._connecting = None
        if self._protocol is None and self.state is State.CONNECTING:
            self._enter(State.IDLE)
        self._send_waiting()

    def _release_connection(self, protocol: ReplyProtocol, *, close: bool = False) -> None:
        self._enter(State.IDLE)
        self._protocol = None
        close = close or protocol.unfinished
        try:
            if close:
                protocol.end()
            else:
                protocol.leave()
        finally:
            self._give_back(protocol.connection, close=close)

    def _give_back(self, connection: Any, *, close: bool) -> None:
        task = self._loop.create_task(_release(self._pool, connection, close=close))
        self._clean_up.add(task)
        task.add_done_callback(partial(self._on_given_back, connection, close))

    def _on_given_back(self, connection: Any, close: bool, task: asyncio.Task[None]) -> None:
        self._clean_up.discard(task)
        if task.cancelled():  # the pool would count the connection as in use for ever
            self._give_back(connection, close=close)
        else:
            task.exception()  # the driver's, on a connection that nobody waits for


async def _release(pool: Any, connection: Any, *, close: bool) -> None:
    try:
        if close or connection.should_reconnect():
            await connection.disconnect(nowait=True)
    finally:
        with contextlib.suppress(KeyError, ValueError):  # a task that was cancelled has given it back already
            await pool.release(connection)
