"""Sluicegate for the proof kit: the limiter itself, whose methods have the names that the kit calls."""

from __future__ import annotations

from sluicegate import AsyncLimiter, Limiter, SlidingWindow


def memory(limit: int, window_seconds: float) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window_seconds))


def redis(limit: int, window_seconds: float, redis_url: str) -> Limiter:
    return Limiter(SlidingWindow(limit, window=window_seconds), store=redis_url)


def aio_redis(limit: int, window_seconds: float, redis_url: str) -> AsyncLimiter:
    return AsyncLimiter(SlidingWindow(limit, window=window_seconds), store=redis_url)
