"""Apps that fastapi-limiter limits.

``documented`` is the form in its README, where PyrateLimiter has one bucket for all clients; it counts in memory.
``nearest`` has a bucket for each client, by the factory in PyrateLimiter's README, and an asynchronous client on Redis.
If this file and those two differ, suspect this file first.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    Duration,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    Rate,
    RateItem,
    RedisBucket,
    WallClock,
)
from redis.asyncio import Redis
from routes import LIMIT, MINUTES, REDIS_URL, user_of, with_routes

RATES = [Rate(LIMIT, Duration.MINUTE * n) for n in MINUTES]


class PerClient(BucketFactory):
    """A bucket for each name, kept for good, in memory or on Redis."""

    def __init__(self, rate: Rate) -> None:
        self._rates = [rate]
        self._redis = Redis.from_url(REDIS_URL) if REDIS_URL else None
        self._clock = WallClock() if REDIS_URL else MonotonicClock()
        self._buckets: dict[str, AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._clock.now(), weight=weight)

    async def get(self, item: RateItem) -> AbstractBucket:
        if item.name not in self._buckets:
            bucket = self._buckets[item.name] = await self._made(item.name)
            self.schedule_leak(bucket)
        return self._buckets[item.name]

    async def _made(self, name: str) -> AbstractBucket:
        if self._redis is None:
            return InMemoryBucket(self._rates)
        return await RedisBucket.init(self._rates, self._redis, f"{self._rates[0].interval}:{name}")


def documented() -> FastAPI:
    assert not REDIS_URL
    return with_routes(FastAPI(), dependencies=[Depends(RateLimiter(limiter=Limiter(rate))) for rate in RATES])


def nearest() -> FastAPI:
    limiters = [RateLimiter(limiter=Limiter(PerClient(rate)), identifier=user_of) for rate in RATES]
    return with_routes(FastAPI(), dependencies=[Depends(limiter) for limiter in limiters])
