"""Sluicegate: an exact rate limiter, in one process or across a fleet. This file only re-exports."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sluicegate._core.codes import SluicegateWarning
from sluicegate._core.decision import Decision
from sluicegate._core.errors import (
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    InvalidRate,
    InvalidSpan,
    InvalidStore,
    LimiterClosed,
    NotAllowed,
    ReservationError,
    SluicegateError,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate._core.event import StoreEvent
from sluicegate._core.policy import CalendarWindow, Concurrency, FixedWindow, Policy, SlidingWindow, TokenBucket
from sluicegate._core.rate import parse_rates
from sluicegate._limiter.async_limiter import AsyncLimiter
from sluicegate._limiter.limiter import Limiter
from sluicegate._limiter.reservation import AsyncReservation, Reservation
from sluicegate._limiter.statistics import Outcomes, Statistics
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.resolve import open_async_store, open_store

if TYPE_CHECKING:
    from sluicegate._stores.redis.store import AsyncRedisStore, RedisStore

__version__ = "0.1.0"

__all__ = [
    "AsyncLimiter",
    "AsyncRedisStore",
    "AsyncReservation",
    "CalendarWindow",
    "Concurrency",
    "Decision",
    "FixedWindow",
    "InvalidCost",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "InvalidSpan",
    "InvalidStore",
    "Limiter",
    "LimiterClosed",
    "MemoryStore",
    "NotAllowed",
    "Outcomes",
    "Policy",
    "RedisStore",
    "Reservation",
    "ReservationError",
    "SlidingWindow",
    "SluicegateError",
    "SluicegateWarning",
    "Statistics",
    "StoreError",
    "StoreEvent",
    "StoreTimeout",
    "StoreUnavailable",
    "TokenBucket",
    "open_async_store",
    "open_store",
    "parse_rates",
]

for _name, _value in list(globals().items()):
    if _name in __all__:  # tracebacks, reprs and help() name the public path
        _value.__module__ = __name__

_NEED_THE_DRIVER = {"AsyncRedisStore", "RedisStore"}
if find_spec("redis") is None:
    __all__ = [name for name in __all__ if name not in _NEED_THE_DRIVER]  # or help(sluicegate) and * would fail


def __getattr__(name: str) -> object:
    # The Redis stores come with their driver, which is an extra: so it is imported when one of them is asked for.
    if name in _NEED_THE_DRIVER:
        from sluicegate._stores.redis import store as redis

        return getattr(redis, name)
    raise AttributeError(f"module 'sluicegate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
