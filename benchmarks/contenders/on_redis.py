"""The contenders on a server, for threads, all under the same limit."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import limits
import pyrate_limiter
import redis
import throttled
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from peers.pyrate_limiter_adapter import PerNameFactory
from peers.throttled_adapter import quota

from contenders import sorted_set
from contenders.contender import Contender
from sluicegate import Limiter, RedisStore, SlidingWindow

OURS = "sluicegate, allow"
EVALSHA, GET = "redis-py, EVALSHA of return 1", "redis-py, GET"


def asking(kind: Any, url: str, **options: Any) -> Any:
    """Open a store that asks the server about each request, also where it was just denied."""
    # No cache of denials, in the versions that have one.
    if "denial_ttl" in inspect.signature(kind.from_url).parameters:
        options["denial_ttl"] = 0
    return kind.from_url(url, **options)


@contextmanager
def on_redis(url: str, limit: int, window: int) -> Iterator[list[Contender]]:
    """Make every contender; all counters are in the database of the URL."""
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(url))
        store = stack.enter_context(RedisStore.from_url(url))
        sha = client.script_load("return 1")
        policy = SlidingWindow(limit, window=window, name="bench")
        made = [
            Contender(OURS, stack.enter_context(Limiter(policy, store=store)).allow, exact=True),
            Contender(EVALSHA, lambda _: client.evalsha(sha, 0), exact=None),
            Contender(GET, lambda _: client.get("nothing"), exact=None, allowed=lambda _: True),
            Contender(
                sorted_set.NAME, sorted_set.decide(client, limit, window), exact=True, allowed=sorted_set.allowed
            ),
            *_of_limits(url, limit, window),
            *_of_throttled(url, limit, window),
        ]
        pyrate = _pyrate(client, limit, window)
        stack.callback(pyrate.close)
        made.append(Contender("pyrate-limiter", partial(pyrate.try_acquire, blocking=False), exact=True))
        yield made


def _of_limits(url: str, limit: int, window: int) -> list[Contender]:
    item = limits.RateLimitItemPerSecond(limit, window)
    kinds = {
        "limits, moving window": (MovingWindowRateLimiter, True),
        "limits, sliding window counter": (SlidingWindowCounterRateLimiter, False),
        "limits, fixed window": (FixedWindowRateLimiter, False),
    }
    made = []
    for name, (kind, exact) in kinds.items():
        storage = RedisStorage(url, key_prefix=name)  # of its own: two kinds on one key are an error
        made.append(Contender(name, partial(kind(storage).hit, item), exact))
    return made


def _of_throttled(url: str, limit: int, window: int) -> list[Contender]:
    made = []
    for using in ("token_bucket", "sliding_window"):
        store = throttled.RedisStore(server=url)
        limiter = throttled.Throttled(using=using, quota=quota(limit, window), store=store)
        name = f"throttled-py, {using.replace('_', ' ')}"
        made.append(Contender(name, limiter.limit, exact=False, allowed=lambda result: not result.limited))
    return made


def _pyrate(client: redis.Redis, limit: int, window: int) -> pyrate_limiter.Limiter:
    rates = [pyrate_limiter.Rate(limit, window * 1000)]
    make = partial(pyrate_limiter.RedisBucket.init, rates, client)
    return pyrate_limiter.Limiter(PerNameFactory(pyrate_limiter.WallClock(), lambda name: make(f"pyrate:{name}")))
