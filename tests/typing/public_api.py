"""The public API as users write it, held by the type checker. It is not run."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import assert_type

import redis
import redis.asyncio

from headgate import (
    AsyncLimiter,
    AsyncRedisStore,
    Decision,
    InvalidCost,
    InvalidKey,
    Limiter,
    MemoryStore,
    RedisStore,
    SlidingWindow,
    StoreError,
)
from headgate.testing import ManualClock

policy = SlidingWindow(100, window=60)
assert_type(policy, SlidingWindow)
assert_type(SlidingWindow.per_minute(100, buckets=6, name="api"), SlidingWindow)
assert_type(policy.limit, int)
assert_type(policy.window, float)
SlidingWindow(5, window=timedelta(hours=1), buckets=None)
SlidingWindow(5, 60)  # type: ignore[call-arg]
SlidingWindow("5", window=60)  # type: ignore[arg-type]

limiter = Limiter(policy)
Limiter(policy, store="redis://localhost:6379/0")
Limiter(policy, store=MemoryStore(clock=ManualClock(), max_keys=10))
Limiter(policy, store=RedisStore(redis.Redis(), prefix="mine:"))
Limiter(policy, store=RedisStore.from_url("redis://localhost", timeout=1))
Limiter(policy, store=AsyncRedisStore.from_url("redis://localhost"))  # type: ignore[arg-type]
assert_type(limiter.allow("alice"), bool)
assert_type(limiter.take("alice", cost=5), Decision)
assert_type(limiter.peek("alice"), Decision)
limiter.allow(5)  # type: ignore[arg-type]
limiter.take("alice", cost=1.5)  # type: ignore[arg-type]
with limiter as entered:
    assert_type(entered, Limiter)

decision = limiter.take("alice")
assert_type(decision.allowed, bool)
assert_type(decision.policy, str)
assert_type(decision.limit, int)
assert_type(decision.remaining, int)
assert_type(decision.retry_after, float)
assert_type(decision.reset_after, float)
assert_type(decision.decisions, tuple[Decision, ...])
decision.allowed = True  # type: ignore[misc]

try:
    limiter.take("alice")
except InvalidKey as error:
    assert_type(error.attribute, str | None)
except InvalidCost as error:
    assert_type(error.cost, object)
except StoreError:
    pass


async def tasks() -> None:
    AsyncLimiter(policy, store=MemoryStore())
    AsyncLimiter(policy, store=AsyncRedisStore(redis.asyncio.Redis()))
    AsyncLimiter(policy, store=RedisStore.from_url("redis://localhost"))  # type: ignore[arg-type]
    async with AsyncLimiter(policy, store="redis://localhost") as limiter:
        assert_type(await limiter.allow("alice"), bool)
        assert_type(await limiter.take("alice", 2), Decision)
        assert_type(await limiter.peek("alice"), Decision)
        forgotten: Awaitable[None] = limiter.forget("alice")
        await forgotten
