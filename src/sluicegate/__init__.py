"""Sluicegate: an exact rate limiter, in one process or across a fleet. This file only re-exports."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sluicegate.decision import Decision
from sluicegate.errors import (
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    InvalidRate,
    InvalidSpan,
    InvalidStore,
    SluicegateError,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate.limiter import AsyncLimiter, Limiter
from sluicegate.policy import CalendarWindow, FixedWindow, SlidingWindow, TokenBucket
from sluicegate.store import MemoryStore

if TYPE_CHECKING:
    from sluicegate.store.redis import AsyncRedisStore, RedisStore

__version__ = "0.1.0"

__all__ = [
    "AsyncLimiter",
    "AsyncRedisStore",
    "CalendarWindow",
    "Decision",
    "FixedWindow",
    "InvalidCost",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "InvalidSpan",
    "InvalidStore",
    "Limiter",
    "MemoryStore",
    "RedisStore",
    "SlidingWindow",
    "SluicegateError",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
    "TokenBucket",
]

_NEED_THE_DRIVER = {"AsyncRedisStore", "RedisStore"}
if find_spec("redis") is None:
    __all__ = [name for name in __all__ if name not in _NEED_THE_DRIVER]  # or help(sluicegate) and * would fail


def __getattr__(name: str) -> object:
    # The Redis stores come with their driver, which is an extra: it is imported by whoever asks for one of them.
    if name in _NEED_THE_DRIVER:
        from sluicegate.store import redis

        return getattr(redis, name)
    raise AttributeError(f"module 'sluicegate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
