"""The pipeline for threads: the caller that finds it idle leads it, until it has its own outcome.

The leader sends the batches and reads the replies. When it leaves, it names the next leader, one of the callers that
still wait. The others sleep until they have their outcome, are named, or are late. So a lone call needs no switch of
threads.

While the leader waits for a reply it holds no lock, and any caller may send the next batch. Everything that several
threads change is under one lock.

Connecting may take longer than a caller may wait: DNS and the client's own time-outs and retries know no deadline. So a
connection that is idle in the pool is used as it is, and a new one is made in a thread of its own, which then ends. The
callers wait for it until their deadlines. It serves the callers that wait when it comes, or is kept or given back.
"""

from __future__ import annotations

import _thread
import math
import threading
import time
from typing import Any

from hiredis import pack_command
from redis.connection import SSLConnection
from redis.exceptions import ReadOnlyError
from redis.exceptions import RedisError as DriverError
from redis.exceptions import TimeoutError as DriverTimeout

from sluicegate._core.errors import StoreUnavailable
from sluicegate._stores.redis.failures import FAILURES, REFUSALS
from sluicegate._stores.redis.pipeline.base import Pipeline
from sluicegate._stores.redis.pipeline.connections import check_is_real, idle_connection, is_open, is_ping_due
from sluicegate._stores.redis.pipeline.guard import Guard
from sluicegate._stores.redis.pipeline.queue import PATIENCE
from sluicegate._stores.redis.pipeline.waiter import Command, Failed, Verb, Waiter

MAX_ATTEMPTS = 3
"""Attempts to connect at once, at most. One that takes longer than the store's time-out may hang until the client's own
settings end it, so the next caller starts another: the server may be back by then."""

_CLOSE_ENOUGH = 0.98


class _Attempt:
    """An attempt to connect, in a thread of its own."""

    __slots__ = ("running", "started_at")

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.running = False


class ThreadPipeline(Pipeline):
    """Carries the requests of threads to the server and back; see `Pipeline` for its arguments."""

    def __init__(
        self, pool: Any, timeout: float, max_waiting: int, *, keeps: bool, connects_within: float, guard: Guard | None
    ) -> None:
        super().__init__(pool, timeout, max_waiting, keeps=keeps, connects_within=connects_within, guard=guard)
        self._connection: Any = None
        self._socket_timeout = 0.0  # seconds, of the connection's socket while it is borrowed
        self._attempts: list[_Attempt] = []  # to connect, the newest last
        self._reading = False  # the leader waits for a reply: meanwhile others may send
        self._broken: BaseException | None = None  # why nothing more can be sent on the connection
        self._lock = threading.RLock()
        self._leader: Waiter | None = None
        self._inside: set[int] = set()  # threads in the middle of a call

    def run(self, verb: Verb, argument: Any, charges: int) -> Any:
        """Run a verb for one caller, and return its result.

        Raises:
            StoreUnavailable: Nothing was taken: the request was not sent.
            StoreTimeout: The outcome is unknown.
        """
        thread = threading.get_ident()
        if thread in self._inside:
            # A signal handler or finalizer calls in the middle of this thread's own call, which cannot go on before it
            # returns: so it gets a pipeline, and a connection, of its own.
            connects_within, guard = self._connects_within, self._guard
            nested = ThreadPipeline(
                self._pool, self._timeout, 1, keeps=False, connects_within=connects_within, guard=guard
            )
            return nested.run(verb, argument, charges)
        waiter = Waiter(verb, argument, charges, time.monotonic() + self._timeout)
        if self._guard is not None:
            waiter.seen = self._guard.admit(verb.effect)
        is_queued = True
        try:
            self._inside.add(thread)
            with self._lock:
                try:
                    self._queue.add(waiter)
                except StoreUnavailable:
                    is_queued = False
                    raise
                if self._leader is None:
                    self._leader = waiter
                else:
                    waiter.wake_up = threading.Lock()
                    waiter.wake_up.acquire()
                    if self._may_send():
                        self._send_next()
            if self._leader is not waiter:
                self._sleep(waiter)
            if self._leader is waiter:
                self._lead(waiter)
        except BaseException:
            if is_queued:  # an interrupt, anywhere above: the others must not be left without a leader
                with self._lock:
                    self._leave_interrupted(waiter)
            raise
        finally:
            self._inside.discard(thread)
        return self._result(waiter)

    def close(self) -> None:
        """Keep no connection from now on. One that is still being made is closed when it comes."""
        with self._lock:
            self._keeps = False  # a caller that still waits connects once more
            self._attempts.clear()
            if self._leader is not None:
                self._wake(self._leader)

    # Waiting

    def _sleep(self, waiter: Waiter) -> None:
        """Wait until the caller has its outcome, or is the leader."""
        patience = PATIENCE
        while not waiter.wake_up.acquire(timeout=max(min(waiter.deadline - time.monotonic(), patience), 0)):
            with self._lock:
                if waiter.outcome is not None or self._leader is waiter:
                    return
                if time.monotonic() >= waiter.deadline:
                    self._give_up(waiter, self._late(waiter))
                    return
                # The leader is asleep in a read, so a batch that has been patient for long enough is sent from here.
                if self._may_send():
                    self._send_next()
            patience = math.inf if waiter.sent else 2 * patience

    def _wake(self, waiter: Waiter) -> None:
        if waiter.wake_up is not None and waiter.wake_up.locked():
            waiter.wake_up.release()

    def _leave_interrupted(self, waiter: Waiter) -> None:
        """Leave in the middle of anything, and repair what other threads can see of it."""
        self._reading = self._reading and self._leader is not waiter
        if self._leader is waiter:
            # A reply may have been read in part.
            self._break(DriverError("the thread that was to read the reply was interrupted"))
            # One whose thread does not run yet may never do so. If it does, its connection is closed.
            self._attempts = [attempt for attempt in self._attempts if attempt.running]
        if waiter.outcome is None:
            waiter.outcome = Failed(self._late(waiter))
        self._queue.recount()
        self._pass_on(waiter)
        if self._leader is not None:
            self._wake(self._leader)

    # Leading

    def _lead(self, own: Waiter) -> None:
        """Run the pipeline until its leader has an outcome, then let another caller lead."""
        if not self._in_flight:
            self._check_connection()
        while own.outcome is None:
            if not own.sent and time.monotonic() >= own.deadline:
                with self._lock:
                    self._give_up(own, self._late(own))
            elif self._connection is None:
                self._open(own)
            elif not self._sent_with_more_to_send() and own.outcome is None:
                self._read(own)
        with self._lock:
            self._pass_on(own)

    def _pass_on(self, own: Waiter) -> None:
        """Let the caller that has waited longest lead; if nobody waits, rest."""
        if self._leader is not own:
            return
        next_leader = next(self._first_waiters(), None) if self._in_flight or self._queue else None
        self._leader = next_leader  # in one step: an interrupt here leaves either leader, and never two
        if next_leader is not None:
            self._wake(next_leader)
        elif self._in_flight:
            # All of them are late or interrupted. Without a leader nobody would read their replies.
            self._break(DriverTimeout("no caller waits for the reply any more"))
        elif not self._keeps:
            self._release_connection()

    # Connections

    def _check_connection(self) -> None:
        """Drop a kept connection that was closed meanwhile, before anything is sent on it."""
        connection = self._connection
        if connection is None:
            return
        if not is_open(connection):
            with self._lock:
                self._break(DriverError("the connection was closed"))
        elif is_ping_due(connection):
            # The driver's ping may take as long as connecting does, so `_connect` sends it.
            with self._lock:
                self._release_connection()

    def _open(self, own: Waiter) -> None:
        """Borrow a connection; if none is idle, wait until one is made, or the leader's time is over."""
        with self._lock:
            if self._in_flight:  # left by an interrupted leader: their replies do not come on another connection
                self._broken = None
                self._lose_all(DriverError("the thread that was to read the reply was interrupted"))
            if self._connection is not None:
                return
            if (connection := idle_connection(self._pool)) is not None:
                self._use(connection)
                return
            if own.wake_up is None:
                own.wake_up = threading.Lock()
            own.wake_up.acquire(blocking=False)  # locked from here on, whether or not it was
            self._start_connecting()
        own.wake_up.acquire(timeout=max(own.deadline - time.monotonic(), 0))

    def _start_connecting(self) -> None:
        """Connect in a thread of its own, unless one does so already."""
        if self._attempts:
            is_hanging = time.monotonic() - self._attempts[-1].started_at >= self._connects_within
            if not is_hanging or len(self._attempts) >= MAX_ATTEMPTS:
                return
        attempt = _Attempt()
        self._attempts.append(attempt)
        try:
            # Not `threading.Thread`: it takes a lock that a signal handler, calling in the middle, would wait for.
            _thread.start_new_thread(self._connect, (attempt,))
        except RuntimeError as error:  # there are too many threads, or the interpreter is shutting down
            self._attempts.remove(attempt)
            self._refuse_all(error)

    def _connect(self, attempt: _Attempt) -> None:
        """Make a connection, in a thread of its own, and hand it to the pipeline or back to the pool."""
        attempt.running = True
        connection = failure = None
        try:
            connection = self._pool.get_connection()
            check_is_real(connection)
            connection.check_health()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the callers that wait for it get it
            failure = error
        with self._lock:
            is_newest = self._attempts[-1:] == [attempt]
            is_abandoned = attempt not in self._attempts  # by `close` or an interrupt
            if not is_abandoned:
                self._attempts.remove(attempt)
            if failure is None and not is_abandoned and self._is_wanted():
                self._use(connection)
            elif connection is not None:
                if failure is not None or is_abandoned:
                    connection.disconnect()
                self._pool.release(connection)
            if failure is not None and is_newest and self._connection is None:  # otherwise callers may yet be served
                self._refuse_all(failure)
            if self._leader is not None:
                self._wake(self._leader)

    def _is_wanted(self) -> bool:
        """Tell whether a connection that has just been made is of use."""
        return self._connection is None and (self._keeps or self._leader is not None)

    def _use(self, connection: Any) -> None:
        """Make a borrowed connection the pipeline's, with the store's time-out."""
        own_timeout = connection.socket_timeout
        self._socket_timeout = min(own_timeout or self._timeout, self._timeout)
        # Also for sending: while a server does not read, the sender holds the lock and all other callers wait.
        if own_timeout != self._socket_timeout:
            connection.update_current_socket_timeout(self._socket_timeout)
        self._connection = connection

    def _release_connection(self) -> None:
        """Give the connection back to its pool, as it was."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if connection.socket_timeout != self._socket_timeout:
                connection.update_current_socket_timeout(-1)  # its own again
            self._pool.release(connection)

    def _break(self, why: BaseException) -> None:
        """Close the connection, and lose all that is in flight on it."""
        connection, self._connection = self._connection, None
        self._broken = None
        self._lose_all(why)
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    # Sending

    def _may_send(self) -> bool:
        """Tell whether a caller that does not lead may send the next batch."""
        return self._reading and self._broken is None and self._queue.may_join(self._in_flight)

    def _sent_with_more_to_send(self) -> bool:
        """Send the next batch if it may be sent now. Returns whether it was, and more callers wait."""
        with self._lock:
            may_send = self._broken is None and self._queue.may_join(self._in_flight)
            if may_send:
                self._send_next()
            return may_send and len(self._queue) > 0

    def _send_next(self) -> None:
        try:
            if command := self._next_command():
                self._send(command)
        except BaseException:  # an interrupt: the last batch in flight was not sent, or in part
            self._broken = DriverError("the thread that sent the request was interrupted")
            self._connection.disconnect()
            raise

    def _send(self, command: Command) -> None:
        """Send the command of the last batch in flight. If that fails, the leader finds out when it reads."""
        connection = self._connection
        try:
            if not connection.is_connected:  # closed by another thread: sending would connect, and lose those in flight
                raise DriverError("the connection was closed")
            # No ping in between: its reply would be read as the reply to a batch. See `_check_connection`.
            connection.send_packed_command([pack_command(tuple(command))], check_health=False)
        except FAILURES as error:
            self._broken = error
            connection.disconnect()

    # Reading

    def _read(self, own: Waiter) -> None:
        """Read the next reply, for as long as the leader can wait for it."""
        reply = refusal = failure = None
        # Over TLS nobody sends while the leader reads: OpenSSL keeps one state for both directions, without a lock.
        self._reading = not isinstance(self._connection, SSLConnection)
        try:
            if self._broken is not None:
                raise self._broken
            reply = self._connection.read_response(disconnect_on_error=False, **self._read_timeout(own))
        except REFUSALS as error:
            refusal = error
        except FAILURES as error:
            failure = error
        with self._lock:
            self._reading = False
            if not self._in_flight:  # an interrupted sender has taken the leader's batch out of the queue, and lost it
                failure = failure or DriverError("unexpected reply: nothing was in flight")
            if failure is None:
                if command := self._hand_over(reply, refusal):
                    self._send(command)
                elif not self._in_flight and isinstance(refusal, ReadOnlyError):
                    # Its name may be that of another server by now.
                    self._break(DriverError("the server is a replica"))
            elif (
                self._broken is not None
                or not isinstance(failure, DriverTimeout)
                or not self._in_flight
                or time.monotonic() >= self._in_flight[0].deadline
            ):
                self._break(failure)
            # Otherwise only the leader is late: nothing of a reply has come, and the next leader reads on.
            if failure is not None and own.outcome is None and time.monotonic() >= own.deadline:
                self._give_up(own, self._late(own))

    def _read_timeout(self, own: Waiter) -> dict[str, float]:
        """Return the time-out to read with. The socket's own is kept if it is close: changing it costs two calls."""
        left = max(own.deadline - time.monotonic(), 0.001)
        return {} if _CLOSE_ENOUGH * self._socket_timeout <= left <= self._socket_timeout else {"timeout": left}
