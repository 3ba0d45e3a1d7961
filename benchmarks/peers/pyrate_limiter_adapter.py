"""PyrateLimiter with the interface of the proof kit: a bucket for each key, in memory and on Redis.

``Limiter(Rate(...))`` has one bucket for all names. Its README, under "Custom routing with BucketFactory", says what to
do "when items must be routed to different buckets (per user, ...)"; the factory below is its ``PerNameFactory``, which
keeps every bucket that it made. If this file and that README differ, suspect this file first.
"""

from __future__ import annotations

from collections.abc import Callable

from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    Rate,
    RateItem,
    RedisBucket,
    RedisStateStore,
    StateBucket,
    WallClock,
)
from redis import Redis


class PerNameFactory(BucketFactory):
    def __init__(self, clock: MonotonicClock | WallClock, make: Callable[[str], AbstractBucket]) -> None:
        self._clock = clock
        self._make = make
        self._buckets: dict[str, AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._clock.now(), weight=weight)

    def get(self, item: RateItem) -> AbstractBucket:
        if item.name not in self._buckets:
            bucket = self._buckets[item.name] = self._make(item.name)
            self.schedule_leak(bucket)  # as BucketFactory.create() does, which cannot call RedisBucket.init()
        return self._buckets[item.name]


class Pyrate:
    def __init__(self, factory: PerNameFactory) -> None:
        self._limiter = Limiter(factory)

    # README, "Quickstart": "Non-blocking: returns False immediately when the bucket is full". It also returns False
    # when another thread holds the limiter's lock; vutran1710/PyrateLimiter#234 says that this is intended. There is no
    # third form: with a time-out it waits for the bucket as well.
    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self._limiter.try_acquire(user_id, weight=cost, blocking=False)

    def wait(self, user_id: str, timeout: float = 30.0) -> bool:
        return self._limiter.try_acquire(user_id, timeout=timeout)

    def close(self) -> None:
        self._limiter.close()


def rates(limit: int, window_seconds: float) -> list[Rate]:
    window_ms = round(window_seconds * 1000)
    if window_ms < 1 or window_ms / 1000 != window_seconds:
        raise ValueError(f"PyrateLimiter: the window must be whole milliseconds, 1 or more, got {window_seconds} s")
    return [Rate(limit, window_ms)]


def log_memory(limit: int, window_seconds: float) -> Pyrate:
    own = rates(limit, window_seconds)
    return Pyrate(PerNameFactory(MonotonicClock(), lambda _: InMemoryBucket(own)))


# The docstring of WallClock: "Use it for any bucket whose state is shared through Redis".
def log_redis(limit: int, window_seconds: float, redis_url: str) -> Pyrate:
    own, redis = rates(limit, window_seconds), Redis.from_url(redis_url)
    return Pyrate(PerNameFactory(WallClock(), lambda name: RedisBucket.init(own, redis, f"peer:log:{name}")))


def gcra_memory(limit: int, window_seconds: float) -> Pyrate:
    own = rates(limit, window_seconds)
    return Pyrate(PerNameFactory(MonotonicClock(), lambda _: StateBucket(own)))


def gcra_redis(limit: int, window_seconds: float, redis_url: str) -> Pyrate:
    own, redis = rates(limit, window_seconds), Redis.from_url(redis_url)
    return Pyrate(
        PerNameFactory(WallClock(), lambda name: StateBucket(own, store=RedisStateStore(redis, f"peer:gcra:{name}")))
    )
