"""throttled-py with the interface of the proof kit: three of its algorithms, in memory and on Redis, as in its README.

If this file and that README differ, suspect this file first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from throttled import MemoryStore, Quota, RateLimiterType, RateLimitState, RedisStore, Throttled, per_duration


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Peer:
    def __init__(self, throttle: Throttled) -> None:
        self._throttle = throttle

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        result = self._throttle.limit(user_id, cost)
        return Decision(not result.limited, result.state.retry_after, result.state.remaining)

    def peek(self, user_id: str) -> RateLimitState:
        return self._throttle.peek(user_id)

    def wait(self, user_id: str, timeout: float = 30.0) -> bool:
        return not self._throttle.limit(user_id, timeout=timeout).limited


# A string such as "100/s" can have windows of one second, minute, hour, day and week. For others the documentation has
# Quota objects ("Custom Quota"). The burst defaults to the limit in both.
def quota(limit: int, window_seconds: float) -> Quota:
    # throttled-py itself would drop the fraction: 1.5 seconds become 1, and 0.5 become 0, by which it then divides.
    if window_seconds < 1 or window_seconds != int(window_seconds):
        raise ValueError(f"throttled-py: the window must be whole seconds, 1 or more, got {window_seconds}")
    return per_duration(timedelta(seconds=window_seconds), limit)


# A store for each limiter: the default one is shared by all limiters of a process, which the kit grades one by one.
def _in_memory(using: RateLimiterType, limit: int, window_seconds: float) -> Peer:
    return Peer(Throttled(using=using.value, quota=quota(limit, window_seconds), store=MemoryStore()))


def _on_redis(using: RateLimiterType, limit: int, window_seconds: float, redis_url: str) -> Peer:
    return Peer(Throttled(using=using.value, quota=quota(limit, window_seconds), store=RedisStore(server=redis_url)))


def token_bucket_memory(limit: int, window_seconds: float) -> Peer:
    return _in_memory(RateLimiterType.TOKEN_BUCKET, limit, window_seconds)


def token_bucket_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    return _on_redis(RateLimiterType.TOKEN_BUCKET, limit, window_seconds, redis_url)


def sliding_window_memory(limit: int, window_seconds: float) -> Peer:
    return _in_memory(RateLimiterType.SLIDING_WINDOW, limit, window_seconds)


def sliding_window_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    return _on_redis(RateLimiterType.SLIDING_WINDOW, limit, window_seconds, redis_url)


def gcra_memory(limit: int, window_seconds: float) -> Peer:
    return _in_memory(RateLimiterType.GCRA, limit, window_seconds)


def gcra_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    return _on_redis(RateLimiterType.GCRA, limit, window_seconds, redis_url)
