"""Policies: named, immutable limits. Values only; their rules are in ``_algorithms``.

Policy               what all have: limit, window, name, and what they count by
  SlidingWindow      exact, in every window
  TokenBucket        a steady flow and a burst
  FixedWindow        windows that start at multiples of their length
  CalendarWindow     hours, days, weeks, months or years of a time zone
  Concurrency        how many run at once
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, ClassVar, Self, TypedDict, Unpack

from sluicegate._core import calendar
from sluicegate._core.errors import InvalidCost, InvalidPolicy, short_repr
from sluicegate._core.instead import explained, of_bucket, of_limit, of_window

MAX_UNITS = 10**11
"""The largest limit and the largest cost: on Redis totals are kept modulo 2^40, and a sum of two stays below it."""

MAX_WINDOW_US = 10 * 366 * 24 * 3600 * 1_000_000
"""Ten years, leap days included, in microseconds."""

MAX_ATTRIBUTES = 8
"""The most attributes that one policy can count by: each lengthens the stored key."""

_EXACT = 2**53  # whole numbers up to this are exact in Lua, whose numbers are doubles
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def is_whole(number: object) -> bool:
    """Return whether ``number`` is a number of units: an int from 1 to 10^11, and not a bool."""
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MAX_UNITS


def checked_cost(cost: int, policy: str | None = None) -> int:
    """Return ``cost``; raise `InvalidCost` unless it is a whole number from 1 to 10^11. ``policy``: whose it is."""
    if not is_whole(cost):
        raise InvalidCost(cost, policy=policy)
    return int(cost)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Policy(ABC):
    """What every policy has. Build one of its subclasses.

    Attributes:
        limit: Units per window, in the long run; the exact bound is ``worst_case``.
        window: The span that units are counted over, seconds.
        burst: The most units allowed at one instant; a higher cost never is.
        name: Its name in decisions, response fields and metrics. A derived one that is passed on as ``name=`` is
            derived anew, as `dataclasses.replace` needs it; ``str(policy.name)`` is kept as it is.
        per: The attributes of a key that it counts by, in order; () for plain keys.
        shared: Whether all keys share one counter.
        window_us: The window in microseconds.
        window_ns: The window in nanoseconds, in which memory counts.
        namespace: What all its stored keys share: algorithm, name and window; not the limit (G10).
        named: Whether it was given a name, be it the derived one.
        forced: Whether what is charged under it has happened already, so that no limit and no block denies it.
    """

    algorithm: ClassVar[str]
    lends: ClassVar[bool] = False
    """Whether its units are permits, which come back when their holder gives them back, and not with time alone."""

    limit: int
    window: float
    name: str
    per: tuple[str, ...]
    shared: bool
    burst: int = field(init=False)
    window_us: int = field(init=False)
    window_ns: int = field(init=False, compare=False)
    namespace: str = field(init=False)
    named: bool = field(init=False, compare=False)
    forced: bool = field(init=False, compare=False)

    @property
    @abstractmethod
    def worst_case(self) -> int:
        """The most units allowed in any span as long as the window, wherever it starts."""

    def with_limit(self, limit: int) -> Self:
        """Return the same policy, on the same counters, with another limit.

        Raises:
            InvalidPolicy: The limit is outside the policy's range.
        """
        return self if limit == self.limit else replace(self, limit=limit)

    def _init(
        self,
        limit: int,
        window_us: int,
        name: str | None,
        per: str | Sequence[str] | None,
        shared: bool,
        *,
        span: str = "",
        in_key: str = "",
    ) -> None:
        """Check and set what all policies have. ``span``: the window in a derived name; ``in_key``: in a stored key."""
        if not is_whole(limit):
            raise InvalidPolicy(
                f"limit must be a whole number from 1 to {MAX_UNITS}, got {short_repr(limit)}"
                f"{of_limit(type(self).__name__, limit)}"
            )
        attributes = _checked_attributes(per)
        if not isinstance(shared, bool):
            raise InvalidPolicy(f"shared must be True or False, got {short_repr(shared)}")
        if attributes and shared:
            raise InvalidPolicy(
                f"per must not be given for a shared policy, which counts all keys together, got {short_repr(per)}"
            )
        derived = f"{self.algorithm}-{span or f'{seconds(window_us)}s'}{_suffix(attributes, shared)}"
        set_ = object.__setattr__
        set_(self, "limit", int(limit))
        set_(self, "burst", int(limit))
        set_(self, "window", window_us / 1_000_000)
        set_(self, "name", _checked_name(name, derived))
        set_(self, "per", attributes)
        set_(self, "shared", shared)
        set_(self, "window_us", window_us)
        set_(self, "window_ns", window_us * 1000)
        set_(self, "namespace", f"{self.algorithm}:{self.name}:{in_key or window_us}")
        set_(self, "named", not isinstance(self.name, _Derived))
        set_(self, "forced", False)

    def __repr__(self) -> str:
        defaults: dict[str, Any] = {"per": (), "shared": False}  # None for all others that have one
        hidden = {"limit"} if self.named else {"limit", "name"}
        names = [each.name for each in fields(self) if each.init and each.name not in hidden]
        given = [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) != defaults.get(name)]
        return f"{type(self).__name__}({', '.join([str(self.limit), *given])})"


# Policies that no one can build, for stores and limiters: on the same counters, without the checks of a constructor.


def suspended(policy: Policy) -> Policy:
    """Return the policy with a limit of 0: it denies all, and no store is to see it."""
    return _changed(policy, 0, 0)


MOST_DEBT = 10**12
"""Units of a log or a count above which nothing is entered any more: below 2^40, the modulus of the logs' totals."""


def boundless(policy: Policy) -> Policy:
    """Return the policy so that a charge under it is entered whatever the limit, and under a block.

    A log or a count takes up to 10^12 units so, a bucket up to 2^53 unit microseconds; it drains as before.
    """
    if isinstance(policy, TokenBucket):
        other = _changed(policy, policy.limit, _EXACT // policy.window_us)
    else:
        other = _changed(policy, MOST_DEBT, MOST_DEBT)
    object.__setattr__(other, "forced", True)
    return other


def most_level(policy: TokenBucket) -> int:
    """Return what a bucket may hold at most, units times window in microseconds: what fits in whole units in 2^53."""
    return _EXACT // policy.window_us * policy.window_us


def with_share(policy: Policy, limit: int, burst: int) -> Policy:
    """Return the policy with a share of its limit and of its burst, both 1 or more; only a bucket tells them apart."""
    return _changed(policy, limit if isinstance(policy, TokenBucket) else burst, burst)


def _changed(policy: Policy, limit: int, burst: int) -> Policy:
    other = copy(policy)
    object.__setattr__(other, "limit", limit)
    object.__setattr__(other, "burst", burst)
    return other


class _Options(TypedDict, total=False):
    buckets: int | None
    name: str | None
    per: str | Sequence[str] | None
    shared: bool


@dataclass(frozen=True, slots=True, init=False, repr=False)
class SlidingWindow(Policy):
    """Allow at most ``limit`` units in any window, wherever it starts: exact, with no edge to wait for.

    For every instant t of the store's clock, at most ``limit`` units were allowed in (t - window, t] (G1), and a
    request is denied only if allowing it would break that (G2).

    Args:
        limit: Units per window, a whole number from 1 to 10^11.
        window: The span that units are counted over, seconds or a ``timedelta``; 1 µs to 10 years, in whole µs.
        buckets: None keeps one entry for each allowed request. A whole number B from 1 to 10^6 rounds the time of
            each entry up to a multiple of window/B instead: at most B + 1 entries, however large the limit. The limit
            is never exceeded, and a unit is held at most window/B longer.
        name: ``[A-Za-z0-9._-]{1,64}``. Without one: ``sliding-window-60s`` for a window of 60 seconds, with
            ``-per-user`` or ``-shared`` appended if it applies; never the limit, so that changing it keeps the history.
            The same name with the same window is the same counter wherever it is used.
        per: The attribute of a key, or up to 8 of them, to count by: keys are then mappings from attributes to values
            instead of plain text.
        shared: One counter for all keys.

    Raises:
        InvalidPolicy: An argument is outside its range.
    """

    algorithm: ClassVar[str] = "sliding-window"

    buckets: int | None
    grain_us: int = field(init=False)
    grain_ns: int = field(init=False, compare=False)

    @explained
    def __init__(
        self,
        limit: int,
        *,
        window: float | timedelta,
        buckets: int | None = None,
        name: str | None = None,
        per: str | Sequence[str] | None = None,
        shared: bool = False,
    ) -> None:
        window_us = _microseconds(window)
        self._init(limit, window_us, name, per, shared)
        if buckets is not None and not (is_whole(buckets) and buckets <= 1_000_000):
            raise InvalidPolicy(f"buckets must be None or a whole number from 1 to 1000000, got {short_repr(buckets)}")
        object.__setattr__(self, "buckets", buckets)
        # Rounded up: B grains must cover the window, or B + 1 entries would not.
        grain_us = 1 if buckets is None else -(-window_us // buckets)
        object.__setattr__(self, "grain_us", grain_us)
        object.__setattr__(self, "grain_ns", grain_us * 1000)

    @property
    def worst_case(self) -> int:
        """The limit: no window holds more."""
        return self.limit

    @classmethod
    def per_second(cls, limit: int, **options: Unpack[_Options]) -> SlidingWindow:
        """Allow ``limit`` units in any second; ``options`` are the other arguments of `SlidingWindow`."""
        return cls(limit, window=1, **options)

    @classmethod
    def per_minute(cls, limit: int, **options: Unpack[_Options]) -> SlidingWindow:
        """Allow ``limit`` units in any 60 seconds; ``options`` are the other arguments of `SlidingWindow`."""
        return cls(limit, window=60, **options)

    @classmethod
    def per_hour(cls, limit: int, **options: Unpack[_Options]) -> SlidingWindow:
        """Allow ``limit`` units in any 3 600 seconds; ``options`` are the other arguments of `SlidingWindow`."""
        return cls(limit, window=3600, **options)

    @classmethod
    def per_day(cls, limit: int, **options: Unpack[_Options]) -> SlidingWindow:
        """Allow ``limit`` units in any 86 400 seconds; ``options`` are the other arguments of `SlidingWindow`."""
        return cls(limit, window=86400, **options)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class TokenBucket(Policy):
    """Allow a steady flow of ``limit`` units per window, and up to ``burst`` at once after a silence.

    In any window at most burst + limit - 1 units are allowed. A key takes 22 bytes, whatever its traffic.

    Args:
        limit: Units that come back in one window, a whole number from 1 to 10^11.
        window: The span in which they come back, evenly; seconds or a ``timedelta``, 1 µs to 10 years.
        burst: The most units allowed at one instant, a whole number from 1 to 10^11; the limit by default. Limit
            times window and burst times window, in microseconds, are at most 2^53, so that no unit is rounded away.
        name: As for `SlidingWindow`; ``token-bucket-60s`` by default.
        per: As for `SlidingWindow`.
        shared: One counter for all keys.

    Raises:
        InvalidPolicy: An argument is outside its range, or a product is.
    """

    algorithm: ClassVar[str] = "token-bucket"

    burst: int

    @explained
    def __init__(
        self,
        limit: int,
        *,
        window: float | timedelta,
        burst: int | None = None,
        name: str | None = None,
        per: str | Sequence[str] | None = None,
        shared: bool = False,
    ) -> None:
        window_us = _microseconds(window)
        self._init(limit, window_us, name, per, shared)
        if burst is not None and not is_whole(burst):
            raise InvalidPolicy(f"burst must be a whole number from 1 to {MAX_UNITS}, got {short_repr(burst)}")
        for what, units in (("limit", limit), ("burst", burst or limit)):
            if units * window_us > _EXACT:
                raise InvalidPolicy(
                    f"{what} times window must be at most 2^53 unit microseconds, got {units} units times {window_us} "
                    f"µs: {what} can be {_EXACT // window_us} at most with this window"
                    f"{of_bucket(limit, window_us, burst or limit, _EXACT)}"
                )
        object.__setattr__(self, "burst", int(burst or limit))

    @property
    def worst_case(self) -> int:
        """A full burst, plus what is refilled before the window has passed: one unit less than the limit."""
        return self.burst + self.limit - 1

    def with_limit(self, limit: int) -> Self:
        """Return the same policy with another limit. A burst that equals the limit follows it."""
        if limit == self.limit:
            return self
        return replace(self, limit=limit, burst=limit if self.burst == self.limit else self.burst)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class FixedWindow(Policy):
    """Allow at most ``limit`` units in each window; windows start at multiples of their length on the store's clock.

    The cheapest to count, with the weakest promise: around an edge up to 2 x limit units pass within one window's
    length, so 100 a minute may be 200 in two seconds. A key takes 26 bytes, whatever its traffic.

    Args:
        limit: Units per window, a whole number from 1 to 10^11.
        window: The length of each window, seconds or a ``timedelta``, 1 µs to 10 years. A minute starts on the minute.
        name: As for `SlidingWindow`; ``fixed-window-60s`` by default.
        per: As for `SlidingWindow`.
        shared: One counter for all keys.

    Raises:
        InvalidPolicy: An argument is outside its range.
    """

    algorithm: ClassVar[str] = "fixed-window"

    @explained
    def __init__(
        self,
        limit: int,
        *,
        window: float | timedelta,
        name: str | None = None,
        per: str | Sequence[str] | None = None,
        shared: bool = False,
    ) -> None:
        window_us = _microseconds(window)
        self._init(limit, window_us, name, per, shared)

    @property
    def worst_case(self) -> int:
        """The limit at the end of one window, and at the start of the next."""
        return 2 * self.limit

    def edges(self, at_us: int) -> tuple[int, int]:
        """Return the start and the end of the window that an instant is in, µs since 1970."""
        start = at_us - at_us % self.window_us
        return start, start + self.window_us


@dataclass(frozen=True, slots=True, init=False, repr=False)
class CalendarWindow(Policy):
    """Allow at most ``limit`` units in each hour, day, week, month or year of a time zone: for quotas.

    A window starts when clocks in the zone first show its start or jump past it, so a day on which clocks change has 23
    or 25 hours. Around an edge up to 2 x limit units pass within a short time. A key takes 26 bytes, whatever its
    traffic.

    A window that starts elsewhere is another window, so it counts apart, under the same explicit name, too (G10).

    Args:
        limit: Units per window, a whole number from 1 to 10^11.
        every: ``hour``, ``day``, ``week``, ``month`` or ``year``.
        timezone: The IANA name of the zone, such as ``Europe/Paris``; ``UTC`` by default.
        weekday: The first day of a week, such as ``sunday``; Monday by default.
        month: The first month of a year, 1 to 12; January by default.
        day: The first day of a month, or of a year in its first month, 1 to 31; the 1st by default. A month that does
            not have it starts on its last day: 31 is the end of every month.
        hour: The hour at which a day, a week, a month or a year starts, 0 to 23; midnight by default. If clocks skip
            it on that day, the window starts when they do; if they show it twice, at the first.
        name: As for `SlidingWindow`; ``calendar-window-month-Europe-Paris`` by default, and with ``day=15``
            ``calendar-window-month-day15-Europe-Paris``.
        per: As for `SlidingWindow`.
        shared: One counter for all keys.

    Attributes:
        window: The longest usual length of a window, seconds: 31 days for a month.
        weekday, month, day, hour: None if the window starts at the usual place, also if that was written out.
        cycle: The windows as the calendar takes them.

    Raises:
        InvalidPolicy: An argument is outside its range or does not go with ``every``, or this machine has no data for
            the zone.
    """

    algorithm: ClassVar[str] = "calendar-window"

    window: float = field(init=False)
    every: calendar.Every
    timezone: str
    weekday: calendar.Weekday | None
    month: int | None
    day: int | None
    hour: int | None
    cycle: calendar.Cycle = field(init=False, compare=False)

    @explained
    def __init__(
        self,
        limit: int,
        *,
        every: calendar.Every,
        timezone: str = "UTC",
        weekday: calendar.Weekday | None = None,
        month: int | None = None,
        day: int | None = None,
        hour: int | None = None,
        name: str | None = None,
        per: str | Sequence[str] | None = None,
        shared: bool = False,
    ) -> None:
        cycle = calendar.checked_cycle(every, timezone, weekday=weekday, month=month, day=day, hour=hour)
        for attribute, value in {**cycle._asdict(), "cycle": cycle}.items():
            object.__setattr__(self, attribute, value)
        span, in_key = f"{cycle.span}-{cycle.timezone.replace('/', '-')}", f"{cycle.span}@{cycle.timezone}"
        self._init(limit, calendar.span_us(cycle.every), name, per, shared, span=span, in_key=in_key)

    @property
    def worst_case(self) -> int:
        """The limit at the end of one window, in a short window, and at the start of the next."""
        return 3 * self.limit

    def edges(self, at_us: int) -> tuple[int, int]:
        """Return the start and the end of the window that an instant is in, µs since 1970."""
        _, start, end, _ = calendar.edges(self.cycle, at_us)
        return start, end


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Concurrency(Policy):
    """Allow at most ``limit`` permits at once: held through ``reserve``, and released when its block ends.

    A permit is lent for ``ttl`` seconds, and renewed by its holder's process every third of that for as long as the
    block runs. The permits of a process that died come back ``ttl`` after their last renewal, and not before.

    Its ``retry_after`` is the longest possible: until permits come back of which nobody renews any. Most come back
    sooner, when their holders are done.

    Args:
        limit: Permits that may be held at once, a whole number from 1 to 10^11.
        ttl: Seconds (or a ``timedelta``) for which a permit is lent, 1 µs to 10 years; 30 by default. A holder that is
            paused for longer loses its permits, see `Reservation.lost`.
        name: As for `SlidingWindow`; ``concurrency-30s`` by default.
        per: As for `SlidingWindow`.
        shared: One counter for all keys.

    Attributes:
        window: The ``ttl``.

    Raises:
        InvalidPolicy: An argument is outside its range.
    """

    algorithm: ClassVar[str] = "concurrency"
    lends: ClassVar[bool] = True

    window: float = field(init=False)
    ttl: float

    @explained
    def __init__(
        self,
        limit: int,
        *,
        ttl: float | timedelta = 30,
        name: str | None = None,
        per: str | Sequence[str] | None = None,
        shared: bool = False,
    ) -> None:
        ttl_us = _microseconds(ttl, "ttl")
        self._init(limit, ttl_us, name, per, shared)
        object.__setattr__(self, "ttl", self.window)

    @property
    def worst_case(self) -> int:
        """The limit: no more permits are held at any instant."""
        return self.limit


def seconds(window_us: int) -> str:
    """Return microseconds as text in seconds, without trailing zeros."""
    whole, rest = divmod(window_us, 1_000_000)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


def _microseconds(window: float | timedelta, what: str = "window") -> int:
    seconds = window.total_seconds() if isinstance(window, timedelta) else window
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    # Compared before it is multiplied: NaN fails the comparison, and an int too large for a float does no harm.
    window_us = round(seconds * 1_000_000) if is_number and 0 < seconds <= MAX_WINDOW_US else 0
    if not 1 <= window_us <= MAX_WINDOW_US:
        raise InvalidPolicy(
            f"{what} must be a number of seconds (or a timedelta) from 0.000001 to {MAX_WINDOW_US // 1_000_000} "
            f"(ten years), got {short_repr(window)}{of_window(window, what)}"
        )
    return window_us


class _Derived(str):
    """A name that was derived: `dataclasses.replace` passes it on, and it is then derived anew."""

    __slots__ = ()


def _checked_name(name: str | None, derived: str) -> str:
    if name is None or isinstance(name, _Derived):
        if not _NAME.match(derived):
            raise InvalidPolicy(f"the derived name {derived} is not 1 to 64 of A-Z a-z 0-9 . _ -: give a name=")
        return _Derived(derived)
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidPolicy(f"name must be 1 to 64 of A-Z a-z 0-9 . _ -, got {short_repr(name)}")
    return str.__str__(name)  # a subclass of str becomes plain str


_TO_NAME = '; write per="user", and give its value with each key: take({"user": ...})'


def _checked_attributes(per: str | Sequence[str] | None) -> tuple[str, ...]:
    if per is None:
        return ()
    attributes = (per,) if isinstance(per, str) else per
    is_list = isinstance(attributes, (tuple, list)) and len(attributes) <= MAX_ATTRIBUTES
    if not (is_list and all(isinstance(each, str) and _NAME.match(each) for each in attributes)):
        raise InvalidPolicy(
            f"per must be the name of an attribute, or a tuple of up to {MAX_ATTRIBUTES}, each 1 to 64 of A-Z a-z 0-9 "
            f". _ -, got {short_repr(per)}{_TO_NAME if callable(per) else ''}"
        )
    if len(set(attributes)) < len(attributes):
        raise InvalidPolicy(f"per must name each attribute once, got {short_repr(per)}")
    return tuple(map(str.__str__, attributes))


def _suffix(per: tuple[str, ...], shared: bool) -> str:
    return "-shared" if shared else "".join(f"-{word}" for word in ("per", *per)) if per else ""
