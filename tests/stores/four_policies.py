"""Four policies that count by different attributes, and what the tests of several policies share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate import (
    CalendarWindow,
    FixedWindow,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.policy import Policy
from stores.harness import Harness, LimiterAdapter

KEY = {"user": "alice", "tenant": "acme", "endpoint": "/pay"}


def four(user: int = 5, tenant: int = 5, endpoint: int = 5, all_: int = 5) -> list[Policy]:
    """One of each kind, each counted by something else."""
    return [
        TokenBucket(user, window=60, per="user", name="user"),
        SlidingWindow(tenant, window=60, per="tenant", name="tenant"),
        FixedWindow(endpoint, window=60, per=("user", "endpoint"), name="endpoint"),
        CalendarWindow(all_, every="day", shared=True, name="all"),
    ]


def remaining(limiter: LimiterAdapter, key: Mapping[str, str] | str) -> list[int]:
    return [each.remaining for each in limiter.peek(key).decisions]


def all_of(harness: Harness, limiter: LimiterAdapter, key: Mapping[str, str] | str) -> tuple[Any, ...]:
    """Return all that can be seen of what is counted for a key: on a server the bytes, too."""
    return limiter.peek(key).decisions, harness.stored() if harness.kind == "redis" else len(harness.store)


def nothing_stored(harness: Harness) -> bool:
    return not (harness.stored() if harness.kind == "redis" else len(harness.store))
