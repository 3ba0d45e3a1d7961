"""A wire: a connection of redis-py's, connected and signed in by it, whose replies are handed on as they come.

redis-py reads a reply by a stream that a task awaits; so each reply costs a task that reads, woken once more than those
who asked. A wire takes the place of that stream while the connection is lent, and gives it back in the end. This is the
one place that knows what redis-py keeps to itself: ``_writer``, the other end of its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import hiredis
from redis.exceptions import ConnectionError as DriverError
from redis.exceptions import NoScriptError, ResponseError

from sluicegate._stores.redis.failures import FAILURES

_UNFINISHED = object()


async def renewed(connection: Any) -> None:
    """Connect anew, where the other end has left while the connection lay in its pool.

    Under RESP3 a pool does not look (redis-py 8.1), and one that was reset it always takes for a good one. Nothing has
    been sent on it, so this repeats no call.
    """
    try:
        left = connection._writer.transport.is_closing() or await connection.can_read()  # noqa: SLF001
    except FAILURES:
        left = True
    if left:
        await connection.disconnect(nowait=True)
        await connection.connect()


class Listener(Protocol):
    """Who is told what comes. None of it may raise."""

    def replied(self, reply: Any, refusal: ResponseError | None) -> None:
        """Take the next reply, or what the server said in place of it."""

    def caught_up(self) -> None:
        """Take note that nothing more has come so far."""

    def cut(self, why: Exception) -> None:
        """Take note that nothing more will come."""


class ReplyProtocol(asyncio.Protocol):
    """See the module.

    Args:
        connection: One that redis-py has connected, on which no reply is awaited.
        listener: Who is told.

    Raises:
        ConnectionError: redis-py's; it is closed already.

    Attributes:
        connection: That connection. It is whole again after `leave`.
    """

    def __init__(self, connection: Any, listener: Listener) -> None:
        self.connection = connection
        self._spent = self._left = False
        self._listener = listener
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001
        self._stream: Any = self._transport.get_protocol()
        if self._stream is None:  # of uvloop, once it is closed
            raise DriverError("the connection is closed")
        self._reader = hiredis.Reader(replyError=_refusal, notEnoughData=_UNFINISHED)
        self._transport.set_protocol(self)

    @property
    def spent(self) -> bool:
        """Whether it is to be replaced once nothing is under way: the server is about to leave, or is a replica."""
        return self._spent or self.connection.should_reconnect()

    @property
    def unfinished(self) -> bool:
        """Whether a part of something has come, whose rest nobody but this would understand."""
        return self._reader.has_data()

    def send(self, command: Sequence[Any]) -> None:
        """Send a command; if that fails, the listener is told later. Never blocks."""
        self._transport.write(hiredis.pack_command(tuple(command)))

    def leave(self) -> None:
        """Let the connection be as it was. The listener is told nothing any more."""
        self._left = True
        self._transport.set_protocol(self._stream)

    def end(self) -> None:
        """Close the connection: what has not left never does, and nobody reads what may still come."""
        self.leave()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reader, listener = self._reader, self._listener
        if self._left:  # an event loop may have looked up whom to tell before
            self._stream.data_received(data)
            return
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _UNFINISHED:
                if isinstance(reply, hiredis.PushNotification):  # no answer to anything
                    self._spent |= reply[:1] == [b"MOVING"]
                elif isinstance(reply, ResponseError):
                    self._spent |= str(reply).startswith("READONLY")
                    listener.replied(None, reply)
                else:
                    listener.replied(reply, None)
        except Exception as error:  # noqa: BLE001 - of hiredis: no protocol, or what Python cannot hold
            listener.cut(DriverError(f"the server does not speak as a Redis server does: {error}"))
        else:
            listener.caught_up()

    def connection_lost(self, error: Exception | None) -> None:
        self._stream.connection_lost(error)
        if not self._left:
            self._listener.cut(error or DriverError("the server closed the connection"))

    def pause_writing(self) -> None:
        """Do nothing: calls under way are few, and each is held already by those who wait for it."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""


def _refusal(text: str) -> ResponseError:
    return (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text)
