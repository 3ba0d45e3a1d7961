"""The contenders in memory, all under the same limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import aiolimiter
import limits
import pyrate_limiter
import throttled
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from peers.pyrate_limiter_adapter import PerNameFactory
from peers.throttled_adapter import quota

from contenders.contender import Contender
from contenders.floors import DEQUE, FLOOR, BareDeque, Floor
from sluicegate import AsyncLimiter, Limiter, SlidingWindow

OURS, TAKE, TASKS = "sluicegate, allow", "sluicegate, take", "sluicegate, AsyncLimiter.allow"
MOVING = "limits, moving window"


@contextmanager
def in_memory(limit: int, window: float, keys: int = 1_024) -> Iterator[list[Contender]]:
    """Make every contender that knows such a window. ``keys`` is what each should hold, where that is to be said."""
    made = [*floors(limit, window), *ours(limit, window)]
    limiter = pyrate(limit, window)
    made.append(Contender("pyrate-limiter", partial(limiter.try_acquire, blocking=False), exact=True))
    if window == int(window):
        made += [*of_limits(limit, int(window)), *of_throttled(limit, int(window), keys)]
    made.append(Contender("aiolimiter", _by_key(limit, window), exact=False, awaited=True, allowed=lambda _: True))
    try:
        yield made
    finally:
        limiter.close()


def floors(limit: int, window: float) -> list[Contender]:
    return [
        Contender(FLOOR, Floor().allow, exact=None),
        Contender(DEQUE, BareDeque(limit, window).allow, exact=None),
    ]


def ours(limit: int, window: float) -> list[Contender]:
    policy = SlidingWindow(limit, window=window)
    return [
        Contender(OURS, Limiter(policy).allow, exact=True),
        Contender(TAKE, Limiter(policy).take, exact=True),
        Contender(TASKS, AsyncLimiter(policy).allow, exact=True, awaited=True),
    ]


def of_limits(limit: int, window: int) -> list[Contender]:
    item = limits.RateLimitItemPerSecond(limit, window)
    kinds = {
        MOVING: (MovingWindowRateLimiter, True),
        "limits, sliding window counter": (SlidingWindowCounterRateLimiter, False),
        "limits, fixed window": (FixedWindowRateLimiter, False),
    }
    return [Contender(name, partial(kind(MemoryStorage()).hit, item), exact) for name, (kind, exact) in kinds.items()]


def of_throttled(limit: int, window: int, keys: int) -> list[Contender]:
    made = []
    for using in ("token_bucket", "sliding_window"):
        store = throttled.MemoryStore(options={"MAX_SIZE": keys})
        limiter = throttled.Throttled(using=using, quota=quota(limit, window), store=store)
        name = f"throttled-py, {using.replace('_', ' ')}"
        made.append(Contender(name, limiter.limit, exact=False, allowed=lambda result: not result.limited))
    return made


def pyrate(limit: int, window: float) -> pyrate_limiter.Limiter:
    """Make one with a bucket for each key, as its README has it."""
    rates = [pyrate_limiter.Rate(limit, max(round(window * 1000), 1))]
    make = partial(pyrate_limiter.InMemoryBucket, rates)
    return pyrate_limiter.Limiter(PerNameFactory(pyrate_limiter.MonotonicClock(), lambda _: make()))


def _by_key(limit: int, window: float):
    # One of aiolimiter's serves one key. It has no way to deny: it waits.
    made: dict[str, aiolimiter.AsyncLimiter] = {}

    async def acquire(key: str) -> None:
        limiter = made.get(key)
        if limiter is None:
            limiter = made[key] = aiolimiter.AsyncLimiter(limit, window)
        await limiter.acquire()

    return acquire
