"""A policy of each algorithm, counters in memory whose clock moves only when told, and a word against hanging."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import TypeVar

import pytest

from sluicegate import CalendarWindow, FixedWindow, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Request
from sluicegate._stores.fleet import Fleet
from sluicegate._stores.local import Local
from sluicegate.testing import ManualClock

LIMIT = 12

T = TypeVar("T")


def policies(limit: int = LIMIT, **options) -> list[Policy]:
    return [
        SlidingWindow(limit, window=60, **options),
        SlidingWindow(limit, window=60, buckets=6, **{"name": "in-buckets"} | options),
        TokenBucket(limit, window=60, **options),
        FixedWindow(limit, window=60, **options),
        CalendarWindow(limit, every="hour", **options),
    ]


each = pytest.mark.parametrize("policy", policies(), ids=lambda policy: policy.name)


def request(*policies: Policy, cost: int = 1, key: str = "a", commit: bool = True) -> Request:
    return Request(tuple(Charge(policy, key, cost) for policy in policies), commit)


def fleet_of(size: int | None) -> Fleet:
    """A fleet as one of its members knows it; None: it has never heard of others."""
    fleet = Fleet()
    if size is not None:
        fleet.learn(size, [fleet.id.encode(), *(b"other-%d" % n for n in range(1, size))])
    return fleet


def local_of(fleet: Fleet, clock: ManualClock) -> Local:
    """The counters of an instance, whose time is the clock's."""
    local = Local(fleet)
    local._memory = MemoryStore(clock=clock)
    return local


def monotonic(clock: ManualClock) -> SimpleNamespace:
    """What a module gets for `time`, so that it reads the clock."""
    return SimpleNamespace(
        monotonic=lambda: clock.now_us() / 1_000_000,
        monotonic_ns=lambda: clock.now_us() * 1000,
    )


def within_time(call: Callable[[], T]) -> T:
    """Return what a call returns; fail if it waits for a lock that nobody gives back."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(30)
    assert results, "it hangs"
    return results[0]
