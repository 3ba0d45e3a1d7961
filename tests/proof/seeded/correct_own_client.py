"""Correct, on Redis, for one event loop: its own client, which closes a connection whose reply did not come in time."""

from __future__ import annotations

import asyncio
import uuid
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

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class OwnClient:
    """Allows each user at most ``limit`` requests in any ``window_seconds``; denies what Redis leaves unanswered."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        url = urlsplit(redis_url)
        self._address = (url.hostname or "localhost", url.port or 6379)
        self._few = asyncio.Semaphore(16)
        self._idle: list[Streams] = []

    async def allow(self, user_id: str) -> bool:
        try:
            async with asyncio.timeout(0.4), self._few:
                return await self._call(user_id) == b":0\r\n"
        except (OSError, EOFError, TimeoutError):
            return False

    async def _call(self, user_id: str) -> bytes:
        words = ("EVAL", SCRIPT, 1, f"window:{user_id}", self._limit, self._window_us, uuid.uuid4().hex)
        encoded = [str(word).encode() for word in words]
        call = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
        reader, writer = await self._connection()
        try:
            writer.write(b"*%d\r\n%b" % (len(encoded), call))
            reply = await reader.readuntil(b"\r\n")
        except BaseException:
            writer.close()  # the reply may still come, and nobody else may read it
            raise
        self._idle.append((reader, writer))
        return reply

    async def _connection(self) -> Streams:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self._address)

    async def aclose(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()
