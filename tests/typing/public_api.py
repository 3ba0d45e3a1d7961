"""The public API as users write it, held by the type checker. It is not run."""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from typing import Literal, assert_type

import redis
import redis.asyncio

from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    AsyncReservation,
    CalendarWindow,
    Concurrency,
    Decision,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    InvalidRate,
    InvalidSpan,
    Limiter,
    MemoryStore,
    Policy,
    RedisStore,
    Reservation,
    SlidingWindow,
    StoreError,
    TokenBucket,
)
from sluicegate.testing import ManualClock

policy = SlidingWindow(100, window=60)
assert_type(policy, SlidingWindow)
assert_type(SlidingWindow.per_minute(100, buckets=6, name="api"), SlidingWindow)
assert_type(policy.limit, int)
assert_type(policy.window, float)
SlidingWindow(5, window=timedelta(hours=1), buckets=None)
SlidingWindow(5, 60)  # type: ignore[call-arg]
SlidingWindow("5", window=60)  # type: ignore[arg-type]

assert_type(policy.with_limit(5), SlidingWindow)
assert_type(policy.worst_case, int)
assert_type(policy.name, str)
assert_type(policy.per, tuple[str, ...])
assert_type(policy.shared, bool)
policy.limit = 5  # type: ignore[misc]

bucket = TokenBucket(100, window=timedelta(minutes=1), burst=20, name="api", per="user")
assert_type(bucket, TokenBucket)
assert_type(bucket.burst, int)
assert_type(bucket.with_limit(5), TokenBucket)
TokenBucket(100, window=60, buckets=6)  # type: ignore[call-arg]
TokenBucket(100, window=60, burst=1.5)  # type: ignore[arg-type]
fixed = FixedWindow(100, window=60, per=("user", "endpoint"))
assert_type(fixed.edges(0), tuple[int, int])
FixedWindow(100, window=60, per=["user"], shared=False)
FixedWindow(100, window=60, burst=5)  # type: ignore[call-arg]
FixedWindow(100, 60)  # type: ignore[call-arg]
TokenBucket(100, 60)  # type: ignore[call-arg]
CalendarWindow(100, "month")  # type: ignore[call-arg]
SlidingWindow("100/min")  # type: ignore[call-arg,arg-type]
SlidingWindow(limit=100, period=60)  # type: ignore[call-arg]
Limiter(100, 60)  # type: ignore[arg-type]
Limiter(limit=100, window=60)  # type: ignore[call-arg]
FixedWindow(100, window=60, per={"user"})  # type: ignore[arg-type]
FixedWindow(100, window=60, per=5)  # type: ignore[arg-type]
quota = CalendarWindow(10_000, every="month", timezone="Europe/Paris", shared=True)
assert_type(quota.every, Literal["hour", "day", "week", "month", "year"])
CalendarWindow(1, every="monthly")  # type: ignore[arg-type]
assert_type(quota.timezone, str)
assert_type(quota.window, float)
weekly = CalendarWindow(100, every="week", weekday="sunday", hour=6)
assert_type(
    weekly.weekday, Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None
)
assert_type(weekly.hour, int | None)
CalendarWindow(100, every="year", month=4, day=6, timezone="Europe/London")
CalendarWindow(100, every="week", weekday="sun")  # type: ignore[arg-type]
CalendarWindow(100, every="month", day="15")  # type: ignore[arg-type]
CalendarWindow(10_000)  # type: ignore[call-arg]
CalendarWindow(10_000, every="month", window=60)  # type: ignore[call-arg]
SlidingWindow.per_hour(100, per=("user", "endpoint"), shared=False)
SlidingWindow.per_hour(100, burst=5)  # type: ignore[call-arg]

limiter = Limiter(policy)
assert_type(Limiter("100/hour;3/minute"), Limiter)
Limiter(bucket, fixed, quota, "3/minute")
Limiter([policy])  # type: ignore[arg-type]
Limiter(policy, store="redis://localhost:6379/0")
Limiter(policy, store=MemoryStore(clock=ManualClock(), max_keys=10))
Limiter(policy, store=RedisStore(redis.Redis(), prefix="mine:"))
Limiter(policy, store=RedisStore.from_url("redis://localhost", timeout=1))
Limiter(policy, store=AsyncRedisStore.from_url("redis://localhost"))  # type: ignore[arg-type]
assert_type(limiter.allow("alice"), bool)
assert_type(limiter.take("alice", cost=5), Decision)
assert_type(limiter.peek("alice"), Decision)
assert_type(limiter.policies, tuple[Policy, ...])
limiter.forget("alice")
limiter.block("alice", 60)
limiter.block("alice", seconds=timedelta(hours=1))
limiter.allow(5)  # type: ignore[arg-type]
assert_type(limiter.allow(), bool)
assert_type(limiter.take(cost=5), Decision)
assert_type(limiter.peek(), Decision)
limiter.forget()  # type: ignore[call-arg]
limiter.take("alice", cost=1.5)  # type: ignore[arg-type]
limiter.block("alice")  # type: ignore[call-arg]
limiter.block("alice", "60")  # type: ignore[arg-type]

key = {"user": "alice", "endpoint": "/pay"}
assert_type(limiter.allow(key), bool)
assert_type(limiter.take(key, cost={"api": 5}), Decision)
assert_type(limiter.peek({"user": "alice"}, {"api": 5, "fixed": 1}), Decision)
limiter.forget({"user": "alice"})
limiter.block({"user": "alice"}, 3600.0)
limiter.allow({"user": 5})  # type: ignore[dict-item]
limiter.allow(("alice", "/pay"))  # type: ignore[arg-type]
limiter.take(key, {"api": 1.5})  # type: ignore[dict-item]
limiter.take(key, [5])  # type: ignore[arg-type]


def by_plan(key: str | Mapping[str, str]) -> int | None:
    return 1000 if key == "alice" else None


def by_policy(key: str | Mapping[str, str]) -> dict[str, int]:
    return {"api": 1000}


async def from_a_database(key: str | Mapping[str, str]) -> int | None:
    return 1000


def in_words(key: str | Mapping[str, str]) -> str:
    return "1000"


def is_probe(key: str | Mapping[str, str]) -> bool:
    return isinstance(key, str) and key.startswith("probe-")


Limiter(policy, limits=by_plan, limits_ttl=60)
Limiter(bucket, fixed, limits=by_policy)
Limiter(policy, limits=lambda _: 5)
Limiter(policy, limits=in_words)  # type: ignore[arg-type]
Limiter(policy, limits=from_a_database)  # type: ignore[arg-type]
Limiter(policy, limits=5)  # type: ignore[arg-type]
Limiter(policy, exempt={"root"})
Limiter(policy, exempt=["root"], enabled=False)
Limiter(bucket, exempt={"user": {"root"}})
Limiter(policy, exempt=is_probe)
Limiter(policy, exempt=5)  # type: ignore[arg-type]
Limiter(policy, enabled=None)  # type: ignore[arg-type]
assert_type(limiter.enabled, bool)
limiter.enabled = False
limiter.enabled = "off"  # type: ignore[assignment]
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
assert_type(decision.source, Literal["store", "denial-cache", "fallback", "bypass"])
assert_type(bool(decision), bool)
decision.as_dict()["retry_after"]
decision.allowed = True  # type: ignore[misc]

try:
    limiter.take("alice")
except InvalidKey as error:
    assert_type(error.attribute, str | None)
    assert_type(error.policy, str | None)
except InvalidCost as error:
    assert_type(error.cost, object)
    assert_type(error.policy, str | None)
except InvalidSpan as error:
    assert_type(error.span, object)
except InvalidRate as error:
    assert_type(error.text, str)
    assert_type(error.position, int)
except StoreError:
    pass


async def tasks() -> None:
    AsyncLimiter("100/hour;3/minute", bucket, limits=by_policy, exempt={"user": ["root"]}, enabled=False)
    AsyncLimiter(policy, limits=from_a_database, limits_ttl=0)
    AsyncLimiter(policy, limits=in_words)  # type: ignore[arg-type]
    AsyncLimiter(policy, store=MemoryStore())
    AsyncLimiter(policy, store=AsyncRedisStore(redis.asyncio.Redis()))
    AsyncLimiter(policy, store=RedisStore.from_url("redis://localhost"))  # type: ignore[arg-type]
    async with AsyncLimiter(policy, store="redis://localhost") as limiter:
        assert_type(await limiter.allow("alice"), bool)
        assert_type(await limiter.take("alice", 2), Decision)
        assert_type(await limiter.peek("alice"), Decision)
        assert_type(await limiter.take({"user": "alice"}, {"api": 5}), Decision)
        await limiter.block({"user": "alice"}, timedelta(hours=1))
        assert_type(limiter.enabled, bool)
        limiter.enabled = False
        await limiter.allow(5)  # type: ignore[arg-type]
        forgotten: Awaitable[None] = limiter.forget("alice")
        await forgotten


jobs = Concurrency(5, ttl=timedelta(seconds=30), per="tenant")
assert_type(jobs, Concurrency)
assert_type(jobs.ttl, float)
Concurrency(5, 30)  # type: ignore[call-arg]
Concurrency(5, window=30)  # type: ignore[call-arg]


@Limiter("100/minute").limited("api", timeout=5)
def call_out(text: str, *, times: int = 1) -> bytes:
    return text.encode() * times


assert_type(call_out("a", times=2), bytes)
call_out(1)  # type: ignore[arg-type]


def wait_and_reserve() -> None:
    limiter = Limiter("100/minute", jobs, max_waiting=100)
    assert_type(limiter.wait("alice", 5, timeout=timedelta(seconds=1), overtake=True), Decision)
    with limiter.reserve("alice", {"tokens": 4000}, wait=True, timeout=5, charge_when="failure") as reservation:
        assert_type(reservation, Reservation)
        assert_type(reservation.decision, Decision)
        assert_type(reservation.lost, bool)
        reservation.settle({"tokens": 1234})
        reservation.cancel()
    limiter.reserve("alice", charge_when="never")  # type: ignore[arg-type]
    limiter.charge("alice", 12)
    with limiter.limited({"tenant": "acme"}, timeout=1) as decision:
        assert_type(decision, Decision)


async def wait_and_reserve_in_tasks() -> None:
    limiter = AsyncLimiter("100/minute", jobs)
    assert_type(await limiter.wait("alice", timeout=1), Decision)
    async with limiter.reserve("alice", 5, on_lost=lambda: None) as reservation:
        assert_type(reservation, AsyncReservation)
    await limiter.charge("alice")

    @limiter.limited(lambda text: text)
    async def call(text: str) -> int:
        return len(text)

    task = asyncio.create_task(call("a"))
    assert_type(await task, int)
