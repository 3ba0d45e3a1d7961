"""fastapi-limiter as a service: ``/ping?user_id=...``.

PEER_LIMIT and PEER_WINDOW (seconds) set the limit. PEER_REDIS_URL sets the server to count on; without it the service
counts in memory.

PEER_FORM=readme is the form in its README, ``Depends(RateLimiter(limiter=Limiter(Rate(...))))``, with an ``identifier``
"such as userid". There PyrateLimiter has one bucket for all names, so the identifier has no effect. Without PEER_FORM
each name has its own bucket, by the factory in PyrateLimiter's README; fastapi-limiter's README does not show it.
If this file and those two differ, suspect this file first.
"""

from __future__ import annotations

import os

from fastapi import Depends, FastAPI, Request
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    RateItem,
    RedisBucket,
    WallClock,
)
from pyrate_limiter_adapter import PerNameFactory, rates
from redis.asyncio import Redis

RATES = rates(int(os.environ["PEER_LIMIT"]), float(os.environ["PEER_WINDOW"]))


class PerNameOnRedis(BucketFactory):
    """The same with an asynchronous client, so that the event loop does not wait for Redis."""

    def __init__(self, redis_url: str) -> None:
        self._clock = WallClock()
        self._redis = Redis.from_url(redis_url)
        self._buckets: dict[str, AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._clock.now(), weight=weight)

    async def get(self, item: RateItem) -> AbstractBucket:
        if item.name not in self._buckets:
            bucket = self._buckets[item.name] = await RedisBucket.init(RATES, self._redis, f"peer:{item.name}")
            self.schedule_leak(bucket)
        return self._buckets[item.name]


def made_as_asked() -> Limiter:
    if os.environ.get("PEER_FORM") == "readme":
        return Limiter(RATES)
    if redis_url := os.environ.get("PEER_REDIS_URL"):
        return Limiter(PerNameOnRedis(redis_url))
    return Limiter(PerNameFactory(MonotonicClock(), lambda _: InMemoryBucket(RATES)))


async def user_id(request: Request) -> str:
    return request.query_params.get("user_id", "")


app = FastAPI()


@app.get("/ping", dependencies=[Depends(RateLimiter(limiter=made_as_asked(), identifier=user_id))])
async def ping() -> dict[str, str]:
    return {"message": "pong"}
