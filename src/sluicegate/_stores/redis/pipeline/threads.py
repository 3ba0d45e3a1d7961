"""The line of a store for threads: the caller that finds it idle leads it, until it has its own answer.

Who leads sends what waits, and reads the replies; then another one leads. Meanwhile others may send, too.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from hiredis import pack_command
from redis.connection import SSLConnection
from redis.exceptions import RedisError as DriverError
from redis.exceptions import TimeoutError as DriverTimeout

from sluicegate._core.errors import StoreUnavailable
from sluicegate._stores.redis.failures import FAILURES, REFUSALS
from sluicegate._stores.redis.pipeline.base import Line, result
from sluicegate._stores.redis.pipeline.queue import PATIENCE, Command, Failed, Verb, Waiter

_NEARLY = 0.98


class ThreadPipeline(Line):
    """See the module. To connect takes as long as the client's own settings let it; who is late then takes nothing."""

    def __init__(self, pool: Any, timeout: float, most_waiting: int, *, keeps: bool) -> None:
        super().__init__(pool, timeout, most_waiting, keeps=keeps)
        self._connection: Any = None
        self._patient = 0.0  # seconds that the connection's socket waits, unless it is told otherwise
        self._reading = False  # whoever leads waits for a reply: meanwhile others may send
        self._broken: BaseException | None = None  # why nothing more can be sent on the connection
        self._lock = threading.RLock()
        self._leader: Waiter | None = None
        self._inside: set[int] = set()  # threads that ask

    def ask(self, verb: Verb, asked: Any, charges: int) -> Any:
        """Return the result of what is asked.

        Raises:
            StoreUnavailable: Nothing was taken: it could not be sent, or too many wait.
            StoreTimeout: The outcome is unknown.
        """
        thread = threading.get_ident()
        if thread in self._inside:  # called in the middle of it, by a signal's handler or a finalizer
            return ThreadPipeline(self._pool, self._timeout, 1, keeps=False).ask(verb, asked, charges)
        waiter = Waiter(verb, asked, charges, time.monotonic() + self._timeout)
        refused = False
        try:
            self._inside.add(thread)
            with self._lock:
                try:
                    self._queue.enter(waiter)
                except StoreUnavailable:
                    refused = True
                    raise
                if self._leader is None:
                    self._leader = waiter
                else:
                    waiter.bell = threading.Lock()
                    waiter.bell.acquire()
                    if self._may_send():
                        self._depart()
            if self._leader is not waiter:
                self._sleep(waiter)
            if self._leader is waiter:
                self._lead(waiter)
        except BaseException:
            if not refused:  # but interrupted: it must not leave the others without one who leads
                with self._lock:
                    self._interrupted(waiter)
            raise
        finally:
            self._inside.discard(thread)
        return result(waiter)

    def _may_send(self) -> bool:
        """Tell whether one who does not lead may send what waits."""
        return self._reading and self._broken is None and self._queue.may_join(self._under_way)

    def _interrupted(self, waiter: Waiter) -> None:
        """Leave in the middle of anything. What other threads can see of it is set right."""
        self._reading = self._reading and self._leader is not waiter
        if self._leader is waiter:
            self._break(DriverError("the thread that was to read it was interrupted"))
        if waiter.outcome is None:
            waiter.outcome = Failed(self._late(waiter))
        self._queue.recount()
        self._pass_on(waiter)
        if self._leader is not None:
            self._tell(self._leader)

    def _sleep(self, waiter: Waiter) -> None:
        """Wait for the outcome, or to be the one who leads."""
        patience = PATIENCE
        while not waiter.bell.acquire(timeout=max(min(waiter.deadline - time.monotonic(), patience), 0)):
            with self._lock:
                if waiter.outcome is not None or self._leader is waiter:
                    return
                if time.monotonic() >= waiter.deadline:
                    self._give_up(waiter, self._late(waiter))
                    return
                if self._may_send():
                    self._depart()
            patience = math.inf if waiter.sent else 2 * patience

    def _lead(self, own: Waiter) -> None:
        """Run the line until its leader has an outcome, then let another one go on."""
        if not self._under_way:
            self._look_after()
        while own.outcome is None:
            if not own.sent and time.monotonic() >= own.deadline:
                with self._lock:
                    self._give_up(own, self._late(own))
            elif self._connection is None:
                self._open()
            elif not self._departed() and own.outcome is None:
                self._read(own)
        with self._lock:
            self._pass_on(own)

    def _look_after(self) -> None:
        """Part with a connection that was closed meanwhile, before anything is sent on it."""
        if self._connection is not None:
            try:
                closed = self._connection.should_reconnect() or self._connection.can_read()
            except FAILURES:
                closed = True
            if closed:
                with self._lock:
                    self._break(DriverError("it was closed"))

    def _open(self) -> None:
        if self._under_way:  # left by one who was interrupted: none of them is on the new connection
            with self._lock:
                self._broken = None
                self._lose_all(DriverError("it was interrupted"))
        try:
            self._connection = self._pool.get_connection()
        except FAILURES as error:
            with self._lock:
                self._refuse_all(error)
        else:
            usual = self._connection.socket_timeout
            self._patient = min(usual or self._timeout, self._timeout)
            if usual != self._patient:  # to send to a server that does not read takes as long, and all others wait
                self._connection.update_current_socket_timeout(self._patient)

    def _departed(self) -> bool:
        """Send what may leave now. Returns whether that was something, and more waits."""
        with self._lock:
            departs = self._broken is None and self._queue.may_join(self._under_way)
            if departs:
                self._depart()
            return departs and len(self._queue) > 0

    def _depart(self) -> None:
        try:
            if command := self._next_command():
                self._send(command)
        except BaseException:  # what is under way was not sent, or in part
            self._broken = DriverError("it was interrupted")
            self._connection.disconnect()
            raise

    def _send(self, command: Command) -> None:
        """Send what is under way now. If it fails, whoever reads next is told."""
        connection = self._connection
        try:
            # No health check between calls: its reply would be taken for one of theirs.
            connection.send_packed_command([pack_command(tuple(command))], check_health=len(self._under_way) == 1)
        except FAILURES as error:
            self._broken = error
            connection.disconnect()

    def _read(self, own: Waiter) -> None:
        """Read the next reply, for as long as the leader can wait for it."""
        reply = refusal = failure = None
        # Nobody sends beside one who reads where it is TLS: OpenSSL keeps one state for both, and no lock.
        self._reading = not isinstance(self._connection, SSLConnection)
        try:
            if self._broken is not None:
                raise self._broken
            reply = self._connection.read_response(disconnect_on_error=False, **self._patience(own))
        except REFUSALS as error:
            refusal = error
        except FAILURES as error:
            failure = error
        with self._lock:
            self._reading = False
            if failure is None:
                if command := self._landed(reply, refusal):
                    self._send(command)
            elif (
                self._broken is not None
                or not isinstance(failure, DriverTimeout)
                or time.monotonic() >= self._under_way[0].deadline
            ):
                self._break(failure)
            if failure is not None and own.outcome is None and time.monotonic() >= own.deadline:
                self._give_up(own, self._late(own))

    def _patience(self, own: Waiter) -> dict[str, float]:
        """Return the time-out to read with; the socket's own where that is nearly it, for to set another costs."""
        left = max(own.deadline - time.monotonic(), 0.001)
        return {} if _NEARLY * self._patient <= left <= self._patient else {"timeout": left}

    def _break(self, why: BaseException) -> None:
        """End the connection, and all that is under way on it."""
        connection, self._connection = self._connection, None
        self._broken = None
        self._lose_all(why)
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def _pass_on(self, own: Waiter) -> None:
        if self._leader is not own:
            return
        heir = next(self._firsts(), None)
        self._leader = heir  # in one step: there is never more than one
        if heir is not None:
            self._tell(heir)
            return
        if self._under_way:
            self._break(DriverTimeout("nobody waits for it any more"))
        elif self._connection is not None and not self._keeps:
            connection, self._connection = self._connection, None
            if connection.socket_timeout != self._patient:
                connection.update_current_socket_timeout(-1)  # its own again
            self._pool.release(connection)

    def _tell(self, waiter: Waiter) -> None:
        if waiter.bell is not None and waiter.bell.locked():
            waiter.bell.release()
