"""A policy of every algorithm, and a decorator that runs a test on each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sluicegate import CalendarWindow, Concurrency, FixedWindow, SlidingWindow, TokenBucket

POLICIES = [
    SlidingWindow(5, window=60),
    TokenBucket(5, window=60),
    FixedWindow(5, window=60),
    CalendarWindow(5, every="hour"),
    Concurrency(5, ttl=60),
]

each = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.algorithm)


def counted(function: Any, calls: Counter[str]) -> Any:
    """Return the function, which counts its calls."""

    def counting(*args: Any) -> Any:
        calls[function.__name__] += 1
        return function(*args)

    return counting
