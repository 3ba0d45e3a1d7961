"""Limiters that keep a connection after a time-out: its late reply is read by the next caller, and so on for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import uuid
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio

# KEYS the user's requests, by time; ARGV limit, window in µs, a unique name for the request
# Sent again, a request that was allowed is allowed again, and counted once.
SCRIPT = """
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then
  return 1
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest request is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > tonumber(ARGV[2]) then
  for _, request in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, request)
  end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""
SECONDS = 0.3  # that a call may last; then the request is denied


class Calls:
    """What a call of the script is made of."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._url = redis_url
        url = urlsplit(redis_url)
        self._address = (url.hostname or "localhost", url.port or 6379)

    def _words(self, user_id: str) -> tuple[str, ...]:
        arguments = (str(self._limit), str(self._window_us), uuid.uuid4().hex)
        return ("EVAL", SCRIPT, "1", f"window:{user_id}", *arguments)

    def _encoded(self, user_id: str) -> bytes:
        words = [word.encode() for word in self._words(user_id)]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class SocketKept(Calls):
    """A reply that comes after the time-out stays in the socket: each caller then reads the reply of an earlier one."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._received = b""
        self._seconds = SECONDS

    def allow(self, user_id: str) -> bool:
        if not self._lock.acquire(timeout=SECONDS):
            return False
        try:
            return self._call(self._encoded(user_id)) == b":1"
        except TimeoutError:
            return False
        except OSError:
            self.close()
            return False
        finally:
            self._lock.release()

    def _call(self, call: bytes) -> bytes:
        if self._socket is None:
            self._socket, self._received = socket.create_connection(self._address, timeout=self._seconds), b""
        self._socket.sendall(call)
        return self._line(self._socket)

    def _line(self, connection: socket.socket) -> bytes:
        while b"\r\n" not in self._received:
            received = connection.recv(4096)
            if not received:
                raise ConnectionResetError
            self._received += received
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


class SentAgain(SocketKept):
    """A call is sent again on the socket where it timed out: two replies come, and the next caller reads the second."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._seconds = SECONDS / 3

    def _call(self, call: bytes) -> bytes:
        for _ in range(3):
            try:
                return super()._call(call)
            except TimeoutError:
                continue
        raise ConnectionResetError  # three time-outs: open another socket


class DriverConnectionKept(Calls):
    """The driver is told to keep a connection that timed out: the thread's next request gets the reply of its last."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._pool = redis.ConnectionPool.from_url(redis_url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
        self._own = threading.local()  # a connection for each thread needs no lock

    def allow(self, user_id: str) -> bool:
        connection = self._connection()
        try:
            connection.send_command(*self._words(user_id))
            return bool(connection.read_response(disconnect_on_error=False) == 1)
        except redis.TimeoutError:
            return False  # only slow: to connect again would make it worse
        except redis.RedisError:
            connection.disconnect()
            return False

    def _connection(self) -> Any:
        if not hasattr(self._own, "connection"):
            self._own.connection = self._pool.make_connection()
        return self._own.connection


class StreamKept(Calls):
    """`wait_for` cancels the reading, but not the call: its reply is the first thing that the next caller reads."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def allow(self, user_id: str) -> bool:
        try:
            return await asyncio.wait_for(self._call(user_id), SECONDS)
        except TimeoutError:
            return False
        except (OSError, asyncio.IncompleteReadError):
            await self.aclose()
            return False

    async def _call(self, user_id: str) -> bool:
        async with self._lock:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(self._encoded(user_id))
            return await reader.readuntil(b"\r\n") == b":1\r\n"

    async def aclose(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


class GoesBackToPool(Calls):
    """A connection is returned to the pool before its reply has arrived: its next user reads that reply."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._idle: asyncio.Queue[redis.asyncio.Connection] = asyncio.Queue()
        for _ in range(8):
            host, port = self._address
            self._idle.put_nowait(redis.asyncio.Connection(host=host, port=port))

    async def allow(self, user_id: str) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._call(user_id)
        except TimeoutError:
            return False

    async def _call(self, user_id: str) -> bool:
        connection = await self._idle.get()
        try:
            await connection.send_command(*self._words(user_id))
            return bool(await connection.read_response(disconnect_on_error=False) == 1)
        except redis.RedisError:
            await connection.disconnect()
            return False
        finally:
            self._idle.put_nowait(connection)

    async def aclose(self) -> None:
        while not self._idle.empty():
            await self._idle.get_nowait().disconnect()


class LeavesItsReply(Calls):
    """A task reads all replies into a queue, and a caller that times out leaves its own there for the next caller."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._lock = asyncio.Lock()
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def allow(self, user_id: str) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                writer = await self._connected()
                writer.write(self._encoded(user_id))
                return await self._replies.get() == b":1\r\n"  # callers are served in the order of their calls
        except (TimeoutError, OSError):
            return False

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._lock:
            if self._writer is None or self._reading is None or self._reading.done():
                reader, self._writer = await asyncio.open_connection(*self._address)
                self._replies = asyncio.Queue()
                self._reading = asyncio.create_task(self._read(reader, self._writer, self._replies))
            return self._writer

    @staticmethod
    async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: asyncio.Queue[bytes]) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                replies.put_nowait(line)
        writer.close()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
