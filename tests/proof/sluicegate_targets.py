"""Sluicegate's own limiters in the form that the kit grades."""

from __future__ import annotations

from sluicegate import AsyncLimiter, Limiter, SlidingWindow


def memory(limit: int, window: float) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window))


def memory_async(limit: int, window: float) -> AsyncLimiter:
    return AsyncLimiter(SlidingWindow(limit, window=window))


def redis(limit: int, window: float, redis_url: str) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window), store=redis_url)


def redis_async(limit: int, window: float, redis_url: str) -> AsyncLimiter:
    return AsyncLimiter(SlidingWindow(limit, window=window), store=redis_url)


KNOWN_FAILURES = {"resilience/outage/killed", "resilience/outage/paused"}
"""During an outage a limiter raises: whether to fail open or closed is the caller's choice."""
