"""`limits` with the interface of the proof kit: its strategies, in memory and on Redis, used as in its README.

If this file and the documentation of `limits` ("Dive right in") differ, suspect this file first.
"""

from __future__ import annotations

import time

from limits import RateLimitItemPerSecond, aio
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

NAMESPACE = "peer"


class Limits:
    def __init__(self, strategy: RateLimiter, limit: int, window_seconds: float) -> None:
        self._strategy = strategy
        self._item = per_window(limit, window_seconds)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self._strategy.hit(self._item, NAMESPACE, user_id, cost=cost)

    # README: "time.sleep(window.reset_time - time.time())", and then hit() is True. It takes no cost.
    def retry_after(self, user_id: str) -> float:
        stats = self._strategy.get_window_stats(self._item, NAMESPACE, user_id)
        return max(0.0, stats.reset_time - time.time())

    def peek(self, user_id: str) -> bool:
        return self._strategy.test(self._item, NAMESPACE, user_id)


class LimitsAio:
    def __init__(self, storage: aio.storage.RedisStorage, limit: int, window_seconds: float) -> None:
        self._strategy = aio.strategies.MovingWindowRateLimiter(storage)
        self._item = per_window(limit, window_seconds)

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return await self._strategy.hit(self._item, NAMESPACE, user_id, cost=cost)

    async def retry_after(self, user_id: str) -> float:
        stats = await self._strategy.get_window_stats(self._item, NAMESPACE, user_id)
        return max(0.0, stats.reset_time - time.time())

    async def peek(self, user_id: str) -> bool:
        return await self._strategy.test(self._item, NAMESPACE, user_id)


def per_window(limit: int, window_seconds: float) -> RateLimitItemPerSecond:
    # `limits` itself would drop the fraction: 1.5 seconds become 1, and 0.5 become 0.
    if window_seconds < 1 or window_seconds != int(window_seconds):
        raise ValueError(f"limits: the window must be whole seconds, 1 or more, got {window_seconds}")
    return RateLimitItemPerSecond(limit, int(window_seconds))


def moving_window_memory(limit: int, window_seconds: float) -> Limits:
    return Limits(MovingWindowRateLimiter(MemoryStorage()), limit, window_seconds)


def moving_window_redis(limit: int, window_seconds: float, redis_url: str) -> Limits:
    return Limits(MovingWindowRateLimiter(RedisStorage(redis_url)), limit, window_seconds)


def moving_window_aio_redis(limit: int, window_seconds: float, redis_url: str) -> LimitsAio:
    return LimitsAio(aio.storage.RedisStorage(f"async+{redis_url}"), limit, window_seconds)


def sliding_window_counter_memory(limit: int, window_seconds: float) -> Limits:
    return Limits(SlidingWindowCounterRateLimiter(MemoryStorage()), limit, window_seconds)


def sliding_window_counter_redis(limit: int, window_seconds: float, redis_url: str) -> Limits:
    return Limits(SlidingWindowCounterRateLimiter(RedisStorage(redis_url)), limit, window_seconds)


def fixed_window_memory(limit: int, window_seconds: float) -> Limits:
    return Limits(FixedWindowRateLimiter(MemoryStorage()), limit, window_seconds)


def fixed_window_redis(limit: int, window_seconds: float, redis_url: str) -> Limits:
    return Limits(FixedWindowRateLimiter(RedisStorage(redis_url)), limit, window_seconds)
