"""Policies: named, immutable limits. Values only; what they do is in ``algorithms``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from headgate.errors import InvalidCost, InvalidPolicy, shown

MAX_UNITS = 10**11
"""The largest limit and the largest cost: totals are kept modulo 2^40, and a sum of two stays below it."""

MAX_WINDOW_US = 10 * 366 * 24 * 3600 * 1_000_000
"""Ten years, leap days included, in microseconds."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def is_whole(number: object) -> bool:
    """Tell whether ``number`` counts units: an int that is no bool, from 1 to 10^11."""
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MAX_UNITS


def checked_cost(cost: int) -> int:
    """Return ``cost``; raise `InvalidCost` unless it is a whole number from 1 to 10^11."""
    if not is_whole(cost):
        raise InvalidCost(cost)
    return int(cost)


@dataclass(frozen=True, slots=True, init=False)
class SlidingWindow:
    """At most ``limit`` units in every window, wherever it starts: exact, with no edge to wait for.

    For every instant t of the store's clock, what was allowed in (t - window, t] is at most ``limit`` (G1), and a
    request is denied only where allowing it would break that (G2).

    Args:
        limit: Units per window, a whole number from 1 to 10^11.
        window: The span they are counted over, seconds or a ``timedelta``; 1 µs to 10 years, kept in microseconds.
        buckets: None keeps one entry for each allowed request. A whole number B from 1 to 10^6 rounds the time of
            each entry up to a multiple of window/B instead: at most B + 1 entries however large the limit, never over
            it, and a unit is held at most window/B longer.
        name: ``[A-Za-z0-9._-]{1,64}``. Without one: ``sliding-window-60s`` for a window of 60 seconds; never the
            limit, so that changing it keeps the history. One name with one window is one counter wherever it is used.

    Raises:
        InvalidPolicy: An argument is outside its range.
    """

    algorithm: ClassVar[str] = "sliding-window"

    limit: int
    window: float
    buckets: int | None = None
    name: str = ""
    window_us: int = field(init=False, repr=False)
    grain_us: int = field(init=False, repr=False)
    # What a stored key is under: algorithm, name and window, but neither the limit nor the buckets (G10).
    namespace: str = field(init=False, repr=False)
    named: bool = field(init=False, repr=False, compare=False)

    def __init__(
        self, limit: int, *, window: float | timedelta, buckets: int | None = None, name: str | None = None
    ) -> None:
        if not is_whole(limit):
            raise InvalidPolicy(f"limit must be a whole number from 1 to {MAX_UNITS}, got {shown(limit)}")
        window_us = _microseconds(window)
        if buckets is not None and not (is_whole(buckets) and buckets <= 1_000_000):
            raise InvalidPolicy(f"buckets must be None or a whole number from 1 to 1000000, got {shown(buckets)}")
        set_ = object.__setattr__
        set_(self, "limit", int(limit))
        set_(self, "window", window_us / 1_000_000)
        set_(self, "window_us", window_us)
        set_(self, "buckets", buckets)
        # Rounded up: B grains must cover the window, or B + 1 entries would not.
        set_(self, "grain_us", 1 if buckets is None else -(-window_us // buckets))
        unnamed = f"{self.algorithm}-{_seconds(window_us)}s"
        set_(self, "name", unnamed if name is None else _checked_name(name))
        set_(self, "namespace", f"{self.algorithm}:{self.name}:{window_us}")
        set_(self, "named", self.name != unnamed)

    @classmethod
    def per_second(cls, limit: int, *, buckets: int | None = None, name: str | None = None) -> SlidingWindow:
        """Allow ``limit`` units in any second."""
        return cls(limit, window=1, buckets=buckets, name=name)

    @classmethod
    def per_minute(cls, limit: int, *, buckets: int | None = None, name: str | None = None) -> SlidingWindow:
        """Allow ``limit`` units in any 60 seconds."""
        return cls(limit, window=60, buckets=buckets, name=name)

    @classmethod
    def per_hour(cls, limit: int, *, buckets: int | None = None, name: str | None = None) -> SlidingWindow:
        """Allow ``limit`` units in any 3 600 seconds."""
        return cls(limit, window=3600, buckets=buckets, name=name)

    @classmethod
    def per_day(cls, limit: int, *, buckets: int | None = None, name: str | None = None) -> SlidingWindow:
        """Allow ``limit`` units in any 86 400 seconds."""
        return cls(limit, window=86400, buckets=buckets, name=name)


def _microseconds(window: float | timedelta) -> int:
    seconds = window.total_seconds() if isinstance(window, timedelta) else window
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    # Compared before it is multiplied: NaN fails it, and an int too large for a float is no matter.
    window_us = round(seconds * 1_000_000) if is_number and 0 < seconds <= MAX_WINDOW_US else 0
    if not 1 <= window_us <= MAX_WINDOW_US:
        raise InvalidPolicy(
            f"window must be a number of seconds (or a timedelta) from 0.000001 to {MAX_WINDOW_US // 1_000_000} "
            f"(ten years), got {shown(window)}"
        )
    return window_us


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidPolicy(f"name must be 1 to 64 of A-Z a-z 0-9 . _ -, got {shown(name)}")
    return name


def _seconds(window_us: int) -> str:
    whole, rest = divmod(window_us, 1_000_000)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")
