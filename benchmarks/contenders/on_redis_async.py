"""The contenders on a server, for tasks, all under the same limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import limits
import pyrate_limiter
import redis.asyncio
import throttled.asyncio
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from peers.pyrate_limiter_adapter import PerNameFactory
from peers.throttled_adapter import quota

from contenders import sorted_set
from contenders.contender import Contender
from contenders.on_redis import EVALSHA
from sluicegate import AsyncLimiter, AsyncRedisStore, SlidingWindow

OURS = "sluicegate, AsyncLimiter.allow"
PLENTY = 100  # what redis-py's pool holds; it raises for one connection more
_WAIT = 60  # seconds that a pool may let a task wait for a connection


@asynccontextmanager
async def on_redis_async(url: str, limit: int, window: int, tasks: int) -> AsyncIterator[list[Contender]]:
    """Make every contender for so many tasks; all counters are in the database of the URL.

    For more tasks than redis-py's pool holds, the peers and the client's own calls have a pool that lets a task wait:
    with the usual one they raise. Ours is as it comes.
    """
    kind = "BlockingConnectionPool" if tasks > PLENTY else "ConnectionPool"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(AsyncRedisStore.from_url(url))
        client = await stack.enter_async_context(redis.asyncio.Redis.from_pool(_pool(kind, url)))
        sha = await client.script_load("return 1")
        limiter = AsyncLimiter(SlidingWindow(limit, window=window, name="bench"), store=store)
        await stack.enter_async_context(limiter)
        made = [
            Contender(OURS, limiter.allow, exact=True, awaited=True),
            Contender(EVALSHA, lambda _: client.evalsha(sha, 0), exact=None, awaited=True),
            Contender(
                sorted_set.NAME,
                sorted_set.decide(client, limit, window),
                exact=True,
                awaited=True,
                allowed=sorted_set.allowed,
            ),
            *_of_limits(url, limit, window, kind),
            *_of_throttled(url, limit, window, kind),
        ]
        pyrate = _pyrate(client, limit, window)
        stack.callback(pyrate.close)
        ask = partial(pyrate.try_acquire_async, blocking=False)
        made.append(Contender("pyrate-limiter", ask, exact=True, awaited=True))
        yield made


def _settings(kind: str) -> dict[str, int]:
    return {"max_connections": PLENTY} | ({"timeout": _WAIT} if kind == "BlockingConnectionPool" else {})


def _pool(kind: str, url: str) -> Any:
    return getattr(redis.asyncio, kind).from_url(url, **_settings(kind))


def _of_limits(url: str, limit: int, window: int, pool: str) -> list[Contender]:
    # With redis-py: coredis, the other client that it knows, is slower at this.
    item = limits.RateLimitItemPerSecond(limit, window)
    kinds = {
        "limits, moving window": (MovingWindowRateLimiter, True),
        "limits, sliding window counter": (SlidingWindowCounterRateLimiter, False),
        "limits, fixed window": (FixedWindowRateLimiter, False),
    }
    made = []
    for name, (kind, exact) in kinds.items():
        own = _pool(pool, url)
        # A prefix of its own: two kinds on one key are an error.
        storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=name, connection_pool=own)
        made.append(Contender(name, partial(kind(storage).hit, item), exact, awaited=True))
    return made


def _of_throttled(url: str, limit: int, window: int, pool: str) -> list[Contender]:
    made = []
    options = {
        "CONNECTION_POOL_CLASS": f"redis.asyncio.{pool}",
        "CONNECTION_POOL_KWARGS": _settings(pool),
        "REUSE_CONNECTION": True,
    }
    for using in ("token_bucket", "sliding_window"):
        store = throttled.asyncio.RedisStore(server=url, options=dict(options))
        limiter = throttled.asyncio.Throttled(using=using, quota=quota(limit, window), store=store)
        name = f"throttled-py, {using.replace('_', ' ')}"
        made.append(
            Contender(name, limiter.limit, exact=False, awaited=True, allowed=lambda result: not result.limited)
        )
    return made


class _PerName(PerNameFactory):
    async def get(self, item: pyrate_limiter.RateItem) -> pyrate_limiter.AbstractBucket:
        bucket = self._buckets.get(item.name)
        if bucket is None:
            bucket = self._buckets[item.name] = await self._make(item.name)
            self.schedule_leak(bucket)
        return bucket


def _pyrate(client: redis.asyncio.Redis, limit: int, window: int) -> pyrate_limiter.Limiter:
    rates = [pyrate_limiter.Rate(limit, window * 1000)]
    make = partial(pyrate_limiter.RedisBucket.init, rates, client)
    return pyrate_limiter.Limiter(_PerName(pyrate_limiter.WallClock(), lambda name: make(f"pyrate:{name}")))
