"""The line of a store for the tasks of one event loop: callers wait, and whatever has come for them wakes them.

No task leads. A call leaves in the turn of the loop in which it is asked for, if nothing is under way; its answer is
handed out in the turn in which the reply comes; and what those ask who are woken by it leaves together at that turn's
end. Tasks are made to borrow a connection and to give it back, for these two wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from functools import partial
from operator import attrgetter
from typing import Any

from redis.exceptions import RedisError as DriverError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as DriverTimeout

from sluicegate._stores.redis.pipeline.base import Line, result
from sluicegate._stores.redis.pipeline.queue import Command, Verb, Waiter
from sluicegate._stores.redis.pipeline.reply_protocol import ReplyProtocol, renewed

_deadline = attrgetter("deadline")


class AsyncPipeline(Line):
    """See the module. It belongs to the loop that runs when it is made."""

    def __init__(self, pool: Any, timeout: float, most_waiting: int, *, keeps: bool) -> None:
        super().__init__(pool, timeout, most_waiting, keeps=keeps)
        self._loop = asyncio.get_running_loop()
        self._wire: ReplyProtocol | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._departure: asyncio.Handle | None = None  # at the end of this turn
        self._nudge: asyncio.TimerHandle | None = None  # when what waits has been patient for long enough
        self._alarm: asyncio.TimerHandle | None = None  # when the first is late; one serves all

    async def ask(self, verb: Verb, asked: Any, charges: int) -> Any:
        """Return the result of what is asked; see `ThreadPipeline.ask`."""
        loop = self._loop
        waiter = Waiter(verb, asked, charges, loop.time() + self._timeout, loop.create_future())
        self._queue.enter(waiter)
        if self._alarm is None:
            self._alarm = loop.call_at(waiter.deadline, self._wake_late_ones)
        if self._departure is None:
            self._see_off()
        try:
            await waiter.bell
        except asyncio.CancelledError:
            if waiter.outcome is None:
                self._give_up(waiter, self._late(waiter))
            raise
        return result(waiter)

    async def aclose(self) -> None:
        """Give back what is borrowed, unless calls are under way: it is given back when they are over."""
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._wire is not None and not self._under_way:
            self._part(self._wire)
        if self._errands:
            await asyncio.wait(self._errands)

    def _tell(self, waiter: Waiter) -> None:
        if not waiter.bell.done():  # it is once the caller was cancelled
            waiter.bell.set_result(None)

    # Calls leave

    def _see_off(self) -> None:
        """See that what waits leaves as soon as it may."""
        if self._wire is None:
            self._connect()
        elif not self._under_way:
            self._depart()
        else:
            self._wait_to_join()

    def _wait_to_join(self) -> None:
        """See that what waits joins the calls under way as soon as it may."""
        joins_at = self._queue.joins_at(self._under_way)
        patience = max(joins_at - time.monotonic(), 0)
        if not patience:
            self._depart_soon()
        elif self._nudge is None and joins_at < math.inf:
            self._nudge = self._loop.call_later(patience, self._nudged)

    def _nudged(self) -> None:
        self._nudge = None
        if self._queue and self._departure is None:
            self._see_off()

    def _depart_soon(self) -> None:
        """Depart in a moment, with all who ask until then."""
        if self._departure is None:
            self._departure = self._loop.call_soon(self._depart)

    def _depart(self) -> None:
        """Send what may leave now; rest if there is nothing to do."""
        self._departure = None
        wire = self._wire
        if wire is None:
            if self._queue:
                self._connect()
        elif wire.spent:
            if not self._under_way:
                self._part(wire, ended=True)
                self._depart()
        else:
            if self._queue.may_join(self._under_way) and (command := self._next_command()):
                self._send(wire, command)
            if self._under_way:
                if self._queue:
                    self._wait_to_join()
            elif self._wire is wire and not self._keeps:
                self._part(wire)

    def _send(self, wire: ReplyProtocol, command: Command) -> None:
        """Send what is under way now."""
        try:
            wire.send(command)
        except Exception as error:  # noqa: BLE001 - whatever it is, what comes next would be taken for its answer
            self.cut(error)

    # Replies come

    def replied(self, reply: Any, refusal: ResponseError | None) -> None:
        wire = self._wire
        if wire is None:  # it was cut by what came before, in the same piece
            return
        if not self._under_way:
            self.cut(DriverError("an answer came that nobody had asked for"))
        elif command := self._landed(reply, refusal):
            self._send(wire, command)

    def caught_up(self) -> None:
        self._depart_soon()

    def cut(self, why: Exception) -> None:
        if (wire := self._wire) is not None:
            self._lose_all(why)
            self._part(wire, ended=True)
            self._depart_soon()

    def _wake_late_ones(self) -> None:
        """Answer all whose time is over. Of each flight the first is the first that is late."""
        self._alarm = None
        now = self._loop.time()
        while (waiter := min(self._firsts(), key=_deadline, default=None)) is not None and waiter.deadline <= now:
            self._give_up(waiter, self._late(waiter))
            self._tell(waiter)
        if self._under_way and self._under_way[0].deadline <= now:
            self.cut(DriverTimeout(f"nothing came within {self._timeout} s"))
        ends = [waiter.deadline for waiter in self._firsts()]
        if self._under_way:  # though nobody may wait for it any more
            ends.append(self._under_way[0].deadline)
        if ends:
            # Not for each by itself: of ten thousand that wait many are late within a millisecond.
            self._alarm = self._loop.call_at(max(min(ends), now + 0.001), self._wake_late_ones)

    # Connections are borrowed and given back

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._borrow())
            self._connecting.add_done_callback(self._connected)

    async def _borrow(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._pool.get_connection()
                try:
                    await renewed(connection)
                    self._wire = ReplyProtocol(connection, self)
                except BaseException:
                    self._give_back(connection, ended=True)
                    raise
        except TimeoutError:
            self._refuse_all(DriverTimeout(f"it did not connect within {self._timeout} s"))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for it are told
            self._refuse_all(error)

    def _connected(self, _: asyncio.Task[None]) -> None:
        """Go on; also where it was cancelled, as by one who cancels all tasks."""
        self._connecting = None
        self._depart()

    def _part(self, wire: ReplyProtocol, *, ended: bool = False) -> None:
        self._wire = None
        ended = ended or wire.unfinished
        try:
            if ended:
                wire.end()
            else:
                wire.leave()
        finally:
            self._give_back(wire.connection, ended=ended)

    def _give_back(self, connection: Any, *, ended: bool) -> None:
        errand = self._loop.create_task(_release(self._pool, connection, ended=ended))
        self._errands.add(errand)
        errand.add_done_callback(partial(self._released, connection, ended))

    def _released(self, connection: Any, ended: bool, errand: asyncio.Task[None]) -> None:
        self._errands.discard(errand)
        if errand.cancelled():  # it would count as in use for ever
            self._give_back(connection, ended=ended)
        else:
            errand.exception()  # of the driver, on a connection that nobody waits for


async def _release(pool: Any, connection: Any, *, ended: bool) -> None:
    try:
        if ended or connection.should_reconnect():
            await connection.disconnect(nowait=True)
    finally:
        with contextlib.suppress(KeyError, ValueError):  # it was given back already, by an errand that was cancelled
            await pool.release(connection)
