"""redlimit with the interface of the proof kit: its sliding window on Redis, as in its README; it has no other store.

If this file and that README differ, suspect this file first.
"""

from __future__ import annotations

from redis.asyncio import Redis
from redlimit import Decision, SlidingWindow


class Peer:
    def __init__(self, limiter: SlidingWindow) -> None:
        self._limiter = limiter

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return (await self.take(user_id, cost)).allowed

    async def take(self, user_id: str, cost: int = 1) -> Decision:
        return await self._limiter.consume(user_id, cost=cost)


def whole(window_seconds: float) -> int:
    # Its window is an int; its scripts would drop a fraction of the TTL.
    if window_seconds < 1 or window_seconds != int(window_seconds):
        raise ValueError(f"redlimit: the window must be whole seconds, 1 or more, got {window_seconds}")
    return int(window_seconds)


async def sliding_window_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    window = whole(window_seconds)
    return Peer(SlidingWindow(Redis.from_url(redis_url), limit=limit, window=window))
