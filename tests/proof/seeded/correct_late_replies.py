"""Correct, on Redis, for one event loop: a connection is kept after a time-out, and the late replies are dropped."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from urllib.parse import urlsplit

# KEYS     the user's requests in the window, each scored by its time, µs
# ARGV     limit, window in µs, a unique name for the request
# Returns  0 if it is allowed, else the wait in µs
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest request is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > window then
  for _, request in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, request)
  end
end
if redis.call('ZCARD', KEYS[1]) >= limit then
  return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window - now
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
return 0
"""


class Connection:
    """A connection that all tasks share: replies come in the order of the calls, so each finds its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        # Callers that gave up stay in the queue, so that their replies are not taken for those of others.
        self._replies: deque[asyncio.Future[bytes]] = deque()
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def is_usable(self) -> bool:
        # A server that leaves 1000 calls unanswered is not only slow.
        return not self._reading.done() and len(self._replies) < 1000

    async def call(self, words: tuple[object, ...]) -> bytes:
        encoded = [str(word).encode() for word in words]
        self._writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded))
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies.append(reply)
        return await reply

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                reply = self._replies.popleft()
                if not reply.done():
                    reply.set_result(line)
        except OSError:
            pass
        finally:
            self._writer.close()
            for reply in self._replies:
                reply.cancel()

    def close(self) -> None:
        self._reading.cancel()


class LateReplies:
    """Allows each user at most ``limit`` requests in any ``window_seconds``; denies what Redis leaves unanswered."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        url = urlsplit(redis_url)
        self._address = (url.hostname or "localhost", url.port or 6379)
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None

    async def allow(self, user_id: str) -> bool:
        words = ("EVAL", SCRIPT, 1, f"window:{user_id}", self._limit, self._window_us, uuid.uuid4().hex)
        call = asyncio.ensure_future(self._call(words))
        # Not `wait_for`: it raises CancelledError alike if the connection was lost and if the caller was cancelled.
        try:
            await asyncio.wait([call], timeout=0.4)
            return call.done() and not call.cancelled() and not call.exception() and call.result() == b":0\r\n"
        finally:
            call.cancel()

    async def _call(self, words: tuple[object, ...]) -> bytes:
        async with self._connecting:
            if self._connection is None or not self._connection.is_usable:
                await self.aclose()
                self._connection = Connection(*await asyncio.open_connection(*self._address))
            connection = self._connection
        return await connection.call(words)

    async def aclose(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
