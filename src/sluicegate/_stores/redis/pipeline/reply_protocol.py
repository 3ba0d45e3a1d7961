"""An asyncio protocol that hands on replies as they arrive, on a connection that redis-py has made.

redis-py reads replies from a stream, in a task that has to be woken for each of them, in addition to the caller. This
protocol takes the stream's place on the transport while the connection is borrowed, and gives it back afterwards.
redis-py still connects: addresses, TLS, passwords, databases, Sentinel.

This is the one place that uses a private name of redis-py's asyncio connection: ``_writer``, for its transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import hiredis
from redis.exceptions import ConnectionError as DriverError
from redis.exceptions import NoScriptError, ResponseError

from sluicegate._stores.redis.clients import not_real
from sluicegate._stores.redis.failures import FAILURES

_UNFINISHED = object()


async def ensure_connected(connection: Any) -> None:
    """Connect again if the server has closed the connection while it was idle.

    redis-py's pool (8.1) does not notice that under RESP3, nor a connection that was reset. No command has been sent on
    it, so none is sent twice.
    """
    try:
        closed = connection._writer.transport.is_closing() or await connection.can_read()  # noqa: SLF001
    except FAILURES:
        closed = True
    if closed:
        await connection.disconnect(nowait=True)
        await connection.connect()


class Listener(Protocol):
    """Receives the replies. None of its methods may raise."""

    def on_reply(self, reply: Any, refusal: ResponseError | None) -> None:
        """Take the next reply, or the server's refusal in its place."""

    def on_replies_read(self) -> None:
        """Take note that all replies that have arrived so far were handed on."""

    def on_connection_lost(self, why: Exception) -> None:
        """Take note that no more replies will arrive."""


class ReplyProtocol(asyncio.Protocol):
    """Hands the replies on a connection to a listener.

    Args:
        connection: A connected connection of redis-py, on which no reply is outstanding.
        listener: Receives the replies.

    Raises:
        ConnectionError: redis-py's; the connection is closed.
        InvalidStore: It only imitates a connection.

    Attributes:
        connection: The connection. redis-py can use it again after `leave`.
    """

    def __init__(self, connection: Any, listener: Listener) -> None:
        self.connection = connection
        self._draining = self._left = False
        self._listener = listener
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001
        if not hasattr(self._transport, "set_protocol"):
            raise not_real("redis.asyncio.Redis", connection)
        self._stream: Any = self._transport.get_protocol()
        if self._stream is None:  # uvloop's, once it is closed
            raise DriverError("the connection is closed")
        self._reader = hiredis.Reader(replyError=_refusal, notEnoughData=_UNFINISHED)
        self._transport.set_protocol(self)

    @property
    def draining(self) -> bool:
        """Whether to send nothing more on it: the server is about to leave, or is a replica now."""
        return self._draining or self.connection.should_reconnect()

    @property
    def unfinished(self) -> bool:
        """Whether part of a message has arrived. Only this reader could make sense of the rest."""
        return self._reader.has_data()

    def send(self, command: Sequence[Any]) -> None:
        """Send a command; never blocks. The listener learns later if that fails."""
        self._transport.write(hiredis.pack_command(tuple(command)))

    def leave(self) -> None:
        """Give the transport back to redis-py's stream. The listener gets nothing more."""
        self._left = True
        self._transport.set_protocol(self._stream)

    def end(self) -> None:
        """Close the connection at once: what is still in its buffers is never sent."""
        self.leave()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reader, listener = self._reader, self._listener
        if self._left:  # an event loop may have looked up its protocol before
            self._stream.data_received(data)
            return
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _UNFINISHED:
                if isinstance(reply, hiredis.PushNotification):  # not a reply to anything
                    self._draining |= reply[:1] == [b"MOVING"]
                elif isinstance(reply, ResponseError):
                    self._draining |= str(reply).startswith("READONLY")
                    listener.on_reply(None, reply)
                else:
                    listener.on_reply(reply, None)
        except Exception as error:  # noqa: BLE001 - hiredis': invalid protocol, or a value that Python cannot hold
            listener.on_connection_lost(DriverError(f"invalid reply: {error}"))
        else:
            listener.on_replies_read()

    def connection_lost(self, error: Exception | None) -> None:
        self._stream.connection_lost(error)
        if not self._left:
            self._listener.on_connection_lost(error or DriverError("the server closed the connection"))

    def pause_writing(self) -> None:
        """Do nothing: few batches are in flight, and their callers already wait."""

    def resume_writing(self) -> None:
        """Do nothing: see `pause_writing`."""


def _refusal(text: str) -> ResponseError:
    return (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text)
