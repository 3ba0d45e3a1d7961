"""Sluicegate's own limiters in the form that the kit grades."""

from __future__ import annotations

from sluicegate import AsyncLimiter, Limiter, SlidingWindow

# Longer than the default, and shorter than the second that `resilience/outage` leaves: the gradings keep the machine so
# busy that an answer may take 0.1 s. With "local" this instance then decides by itself what is judged as the store's.
DEADLINE = 0.5


def memory(limit: int, window: float) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window))


def memory_async(limit: int, window: float) -> AsyncLimiter:
    return AsyncLimiter(SlidingWindow(limit, window=window))


def redis(limit: int, window: float, redis_url: str) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window), store=redis_url, deadline=DEADLINE)


def redis_async(limit: int, window: float, redis_url: str) -> AsyncLimiter:
    return AsyncLimiter(SlidingWindow(limit, window=window), store=redis_url, deadline=DEADLINE)


# For servers that stall on purpose. "local" would decide by this instance's share meanwhile, which is not the exact
# limit: a judge of that would rightly find the units too many.


def redis_closed(limit: int, window: float, redis_url: str) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window), store=redis_url, deadline=DEADLINE, on_outage="closed")


def redis_async_closed(limit: int, window: float, redis_url: str) -> AsyncLimiter:
    return AsyncLimiter(SlidingWindow(limit, window=window), store=redis_url, deadline=DEADLINE, on_outage="closed")


def redis_raise(limit: int, window: float, redis_url: str) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window), store=redis_url, deadline=DEADLINE, on_outage="raise")
