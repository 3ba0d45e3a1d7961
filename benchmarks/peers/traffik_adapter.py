"""traffik with the interface of the proof kit: its sliding window log, in memory and on Redis, as in its README.

It limits requests of Starlette, so each call makes one, and the throttle's identifier reads the user's name from it. If
this file and that README differ, suspect this file first.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from traffik import HTTPThrottle, Rate
from traffik.backends.base import ThrottleBackend
from traffik.backends.inmemory import InMemoryBackend
from traffik.backends.redis.aioredis import RedisBackend
from traffik.registry import ThrottleRegistry
from traffik.strategies import SlidingWindowLog
from traffik.throttles import get_wait

NAMESPACE = "peer"


class Decision(NamedTuple):
    allowed: bool
    retry_after: float


class Peer:
    def __init__(self, backend: ThrottleBackend, rate: Rate) -> None:
        self._throttle = HTTPThrottle(
            uid="ping",
            rate=rate,
            identifier=user_id,
            strategy=SlidingWindowLog(),
            backend=backend,
            skip_handler=True,  # "Use this when you want to check `get_wait()`/`is_throttled()` yourself"
            registry=ThrottleRegistry(),  # the default one is shared by all throttles of a process
        )

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return (await self.take(user_id, cost)).allowed

    async def take(self, user_id: str, cost: int = 1) -> Decision:
        wait_ms = get_wait(await self._throttle.hit(request_of(user_id), cost=cost))
        return Decision(not wait_ms, wait_ms / 1000)

    async def peek(self, user_id: str) -> bool:
        return await self._throttle.check(request_of(user_id))


def request_of(user_id: str) -> Request:
    query = f"user_id={quote(user_id, safe='')}".encode()
    return Request({"type": "http", "method": "GET", "path": "/ping", "query_string": query, "headers": []})


async def user_id(request: Request) -> str:
    return request.query_params.get("user_id", "")


def per_window(limit: int, window_seconds: float) -> Rate:
    window_ms = round(window_seconds * 1000)
    if window_ms < 1 or window_ms / 1000 != window_seconds:
        raise ValueError(f"traffik: the window must be whole milliseconds, 1 or more, got {window_seconds} s")
    return Rate(limit=limit, milliseconds=window_ms)


async def sliding_window_log_memory(limit: int, window_seconds: float) -> Peer:
    rate, backend = per_window(limit, window_seconds), InMemoryBackend(namespace=NAMESPACE)
    await backend.initialize()
    return Peer(backend, rate)


async def sliding_window_log_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    rate, backend = per_window(limit, window_seconds), RedisBackend(redis_url, namespace=NAMESPACE)
    await backend.initialize()
    return Peer(backend, rate)
