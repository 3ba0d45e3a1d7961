"""Policies: values, their names, and what no policy can be."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from enum import IntEnum, StrEnum
from fractions import Fraction

import pytest

from sluicegate import (
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidPolicy,
    Limiter,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.policy import MAX_ATTRIBUTES, Policy
from sluicegate.testing import ManualClock

Make = Callable[..., Policy]


def monthly(limit: int, **options) -> CalendarWindow:
    return CalendarWindow(limit, every="month", timezone="Europe/Paris", **options)


def minutely(kind: type[SlidingWindow | TokenBucket | FixedWindow]) -> Make:
    return lambda limit, **options: kind(limit, window=60, **options)


KINDS = {
    "sliding-window-60s": minutely(SlidingWindow),
    "token-bucket-60s": minutely(TokenBucket),
    "fixed-window-60s": minutely(FixedWindow),
    "calendar-window-month-Europe-Paris": monthly,
}
each_kind = pytest.mark.parametrize(("derived", "make"), KINDS.items(), ids=list(KINDS))

POLICIES = [
    SlidingWindow(100, window=60),
    SlidingWindow(100, window=0.5, buckets=6, name="half", shared=True),
    TokenBucket(100, window=60),
    TokenBucket(100, window=60, burst=7, per="user"),
    FixedWindow(100, window=timedelta(hours=1), per=("user", "endpoint")),
    CalendarWindow(100, every="week"),
    CalendarWindow(100, every="month", timezone="Europe/Paris", name="quota", per="tenant"),
    CalendarWindow(100, every="week", weekday="sunday", hour=6, shared=True),
    CalendarWindow(100, every="month", day=31, timezone="Europe/Paris", name="billed", per="tenant"),
    CalendarWindow(100, every="year", month=4, day=6, timezone="Europe/London"),
]


# Values


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (60, "sliding-window-60s"),
        (60.0, "sliding-window-60s"),
        (timedelta(minutes=1), "sliding-window-60s"),
        (0.5, "sliding-window-0.5s"),
        (1e-6, "sliding-window-0.000001s"),
        (86400, "sliding-window-86400s"),
        (1.1, "sliding-window-1.1s"),
    ],
)
def test_a_policy_without_a_name_is_named_after_its_window_and_never_its_limit(window, name: str):
    assert SlidingWindow(7, window=window).name == name == SlidingWindow(8, window=window).name


@each_kind
def test_a_derived_name_says_the_kind_the_window_and_whose_units_are_counted(derived: str, make: Make):
    assert make(7).name == make(8).name == make(7, per=()).name == derived
    assert make(7, per="user").name == make(7, per=["user"]).name == f"{derived}-per-user"
    assert make(7, per=("user", "endpoint")).name == f"{derived}-per-user-endpoint"
    assert make(7, shared=True).name == f"{derived}-shared"
    assert make(7, shared=True, name="all").name == "all"


@each_kind
def test_what_a_policy_was_given_can_be_read_from_it(derived: str, make: Make):
    policy = make(7, name="mine", per=["user", "endpoint"])
    assert (policy.limit, policy.burst, policy.name) == (7, 7, "mine")
    assert (policy.per, policy.shared, policy.named) == (("user", "endpoint"), False, True)
    assert (make(7).per, make(7).shared, make(7).named) == ((), False, False)
    assert make(7, shared=True).shared is True
    assert make(7, name=derived).named is True  # given, though it is the derived one
    assert make(7, name=derived) == make(7)


def test_the_window_of_a_policy_is_in_seconds():
    assert [kind(1, window=timedelta(minutes=1)).window for kind in (SlidingWindow, TokenBucket, FixedWindow)] == [
        60
    ] * 3
    spans = {every: CalendarWindow(1, every=every).window for every in ("hour", "day", "week", "month", "year")}
    assert spans == {"hour": 3600, "day": 86400, "week": 604800, "month": 31 * 86400, "year": 366 * 86400}
    assert CalendarWindow(1, every="month", day=31, hour=6).window == 31 * 86400


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_policy_is_a_value_that_cannot_change(policy: Policy):
    again = eval(repr(policy))
    assert again == policy == pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == copy.copy(policy)
    assert len({policy, again}) == 1
    assert again.named == policy.named == pickle.loads(pickle.dumps(policy)).named
    for attribute in ("limit", "window", "name", "per", "shared", "burst", "window_us", "namespace"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(policy, attribute, getattr(policy, attribute))
    with pytest.raises((AttributeError, TypeError)):
        policy.nonsense = 1


@each_kind
def test_policies_that_differ_in_anything_are_not_equal(derived: str, make: Make):
    policy = make(100, per="user")
    others = [make(101, per="user"), make(100), make(100, per="tenant"), make(100, per=("user", "tenant"))]
    others += [make(100, shared=True), make(100, per="user", name="other")]
    others += [other(100, per="user", name=policy.name) for name, other in KINDS.items() if name != derived]
    assert len({policy, *others}) == 1 + len(others)
    assert policy == make(100, per=("user",)) == make(100, per="user", name=policy.name)


def test_policies_of_one_kind_that_differ_in_an_option_of_their_own_are_not_equal():
    assert SlidingWindow(100, window=60) == SlidingWindow.per_minute(100) == SlidingWindow(100, window=timedelta(0, 60))
    assert SlidingWindow(100, window=60) != SlidingWindow(100, window=60, buckets=6)
    assert (
        TokenBucket(100, window=60, burst=100) == TokenBucket(100, window=60) != TokenBucket(100, window=60, burst=99)
    )
    assert CalendarWindow(5, every="day") == CalendarWindow(5, every="day", timezone="UTC")
    assert CalendarWindow(5, every="day") != CalendarWindow(5, every="week", name="calendar-window-day-UTC")
    assert CalendarWindow(5, every="day", name="a") != CalendarWindow(5, every="day", name="a", timezone="Asia/Tokyo")
    for every, start in (
        ("week", {"weekday": "sunday"}),
        ("month", {"day": 2}),
        ("year", {"month": 2}),
        ("day", {"hour": 1}),
    ):
        usual = CalendarWindow(5, every=every, name="a")
        assert usual != CalendarWindow(5, every=every, name="a", **start) == replace(usual, **start)


@pytest.mark.parametrize(
    ("start", "name", "key"),
    [
        ({"every": "week", "weekday": "sunday"}, "week-sunday-Europe-Paris", "week-sunday@Europe/Paris"),
        ({"every": "month", "day": 15}, "month-day15-Europe-Paris", "month-day15@Europe/Paris"),
        ({"every": "day", "hour": 6}, "day-hour6-Europe-Paris", "day-hour6@Europe/Paris"),
        (
            {"every": "year", "month": 4, "day": 6, "hour": 1},
            "year-month4-day6-hour1-Europe-Paris",
            "year-month4-day6-hour1@Europe/Paris",
        ),
    ],
    ids=str,
)
def test_where_a_window_starts_is_part_of_its_derived_name_and_of_its_stored_key(
    start: dict[str, str | int], name: str, key: str
):
    policy = CalendarWindow(5, timezone="Europe/Paris", **start)
    assert policy.name == f"calendar-window-{name}"
    assert policy.namespace == f"calendar-window:calendar-window-{name}:{key}"
    assert CalendarWindow(5, timezone="Europe/Paris", name="a", **start).namespace == f"calendar-window:a:{key}"
    assert replace(policy, per="user", name=None).name == f"calendar-window-{name}-per-user"


@pytest.mark.parametrize(
    ("every", "start"),
    [
        ("day", {"hour": 0}),
        ("week", {"weekday": "monday", "hour": 0}),
        ("month", {"day": 1, "hour": 0}),
        ("year", {"month": 1, "day": 1, "hour": 0}),
    ],
)
def test_the_usual_start_written_out_is_the_same_policy(every: str, start: dict[str, str | int]):
    usual, written = CalendarWindow(5, every=every), CalendarWindow(5, every=every, **start)
    assert usual == written
    assert (usual.name, usual.namespace, repr(usual)) == (written.name, written.namespace, repr(written))
    assert {getattr(written, name) for name in start} == {None}


def test_a_start_is_written_in_one_way_whatever_type_it_came_as():
    class Word(StrEnum):
        SUNDAY = "sunday"

    class Number(IntEnum):
        SIX = 6

    weekly = CalendarWindow(5, every="week", weekday=Word.SUNDAY, hour=Number.SIX)
    assert (type(weekly.weekday), type(weekly.hour)) == (str, int)
    assert weekly.name == "calendar-window-week-sunday-hour6-UTC"


def test_a_policy_with_a_start_is_replaced_in_part_like_any_other():
    billed = CalendarWindow(5, every="month", day=15, timezone="Europe/Paris")
    assert replace(billed, name=None, day=16) == CalendarWindow(5, every="month", day=16, timezone="Europe/Paris")
    assert replace(billed, name=None, day=None) == CalendarWindow(5, every="month", timezone="Europe/Paris")
    with pytest.raises(InvalidPolicy, match='day must not be given with every="week", got 15; write weekday= or hour='):
        replace(billed, every="week")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (POLICIES[0], "SlidingWindow(100, window=60.0)"),
        (POLICIES[1], "SlidingWindow(100, window=0.5, name='half', shared=True, buckets=6)"),
        (POLICIES[3], "TokenBucket(100, window=60.0, per=('user',), burst=7)"),
        (POLICIES[5], "CalendarWindow(100, every='week', timezone='UTC')"),
        (
            CalendarWindow(100, every="week", weekday="sunday", hour=6, name="weekly"),
            "CalendarWindow(100, name='weekly', every='week', timezone='UTC', weekday='sunday', hour=6)",
        ),
    ],
    ids=lambda given: given.name if isinstance(given, Policy) else "",
)
def test_a_policy_is_shown_as_it_could_be_written(policy: Policy, said: str):
    assert repr(policy) == said
    assert repr(Limiter(policy)) == f"Limiter({said})"


@pytest.mark.parametrize(
    ("policy", "window"),
    [
        (SlidingWindow.per_second(5), 1),
        (SlidingWindow.per_minute(5), 60),
        (SlidingWindow.per_hour(5, buckets=60), 3600),
        (SlidingWindow.per_day(5, name="day"), 86400),
        (SlidingWindow.per_day(5, per="user"), 86400),
        (SlidingWindow.per_day(5, shared=True), 86400),
    ],
)
def test_the_named_windows_are_what_they_say(policy: SlidingWindow, window: float):
    assert (policy.limit, policy.window) == (5, window)


@pytest.mark.parametrize(
    ("policy", "worst"),
    [
        (SlidingWindow(10, window=60), 10),
        (SlidingWindow(10, window=60, buckets=1), 10),
        (TokenBucket(10, window=60), 19),
        (TokenBucket(10, window=60, burst=1), 10),
        (TokenBucket(1, window=60, burst=10), 10),
        (FixedWindow(10, window=60), 20),
        (CalendarWindow(10, every="month"), 30),
        (CalendarWindow(10, every="month", day=31), 30),
    ],
    ids=repr,
)
def test_a_policy_says_the_most_that_any_span_as_long_as_its_window_can_hold(policy: Policy, worst: int):
    assert policy.worst_case == worst


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_with_another_limit_all_the_rest_of_a_policy_is_as_it_was(policy: Policy):
    other = policy.with_limit(3)
    kept = ("window_us", "name", "per", "shared", "namespace", "named", "buckets", "cycle")
    assert [getattr(other, name, None) for name in kept] == [getattr(policy, name, None) for name in kept]
    assert (type(other), other.limit) == (type(policy), 3)
    assert other.with_limit(100) == policy == policy.with_limit(100)
    with pytest.raises(InvalidPolicy, match="limit must be a whole number from 1 to 100000000000, got 0"):
        policy.with_limit(0)


def test_a_burst_follows_another_limit_only_when_it_was_the_limit():
    assert TokenBucket(100, window=60).with_limit(3).burst == 3
    assert TokenBucket(100, window=60, burst=100).with_limit(300).burst == 300
    assert TokenBucket(100, window=60, burst=7).with_limit(3).burst == 7
    with pytest.raises(InvalidPolicy, match="limit can be 150119987 at most with this window"):
        TokenBucket(100, window=60, burst=7).with_limit(150119988)


@each_kind
def test_a_policy_can_be_replaced_in_part(derived: str, make: Make):
    policy = make(100, per="user")
    assert dataclasses.replace(policy, name="other") == make(100, per="user", name="other")
    assert dataclasses.replace(policy, name=None, per=None, shared=True) == make(100, shared=True)
    with pytest.raises(InvalidPolicy, match="limit must be"):
        dataclasses.replace(policy, limit=0)


# What no policy can be


@each_kind
def test_a_name_that_would_be_too_long_is_refused_and_the_advice_is_to_give_one(derived: str, make: Make):
    longest = "a" * (64 - len(f"{derived}-per-"))
    assert len(make(1, per=longest).name) == 64
    with pytest.raises(InvalidPolicy, match=rf"the derived name {derived}-per-a+ is not .*: give a name="):
        make(1, per=f"{longest}a")
    assert make(1, per=f"{longest}a", name="short").per == (f"{longest}a",)


@each_kind
def test_a_policy_is_per_an_attribute_or_shared_and_never_both(derived: str, make: Make):
    with pytest.raises(
        InvalidPolicy, match="per must not be given for a shared policy, which counts all keys together, got 'user'"
    ):
        make(1, per="user", shared=True)
    for shared in (1, "yes", None):
        with pytest.raises(InvalidPolicy, match="shared must be True or False, got "):
            make(1, shared=shared)


NO_ATTRIBUTES = ["", ("",), ("user", ""), "a b", "a,b", "a:b", "{a}", "é", "a\n", "a" * 65, b"user", {"user"}, 5, True]
NO_ATTRIBUTES += [("user", 5), ("user", None), [["user"]], {"user": 1}, (letter for letter in "ab"), tuple("abcdefghi")]


@each_kind
@pytest.mark.parametrize("per", NO_ATTRIBUTES, ids=lambda per: repr(per)[:20])
def test_what_no_key_could_be_counted_by_is_refused(derived: str, make: Make, per):
    with pytest.raises(InvalidPolicy, match=r"per must be the name of an attribute, or a tuple of up to 8, .* got "):
        make(1, per=per, name="mine")


@each_kind
def test_eight_attributes_are_taken_and_none_of_them_twice(derived: str, make: Make):
    most = tuple("abcdefgh")
    assert len(most) == MAX_ATTRIBUTES
    assert make(1, per=most).per == most
    with pytest.raises(InvalidPolicy, match=r"per must name each attribute once, got \('user', 'ip', 'user'\)"):
        make(1, per=("user", "ip", "user"))


@pytest.mark.parametrize("every", ["", "minute", "Month", "months", "quarter", None, 1, [], ("day",)], ids=repr)
def test_a_window_that_no_calendar_has_is_refused(every):
    with pytest.raises(InvalidPolicy, match="every must be one of hour, day, week, month, year, got "):
        CalendarWindow(1, every=every)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"every": "month", "weekday": "sunday"}, "weekday must not be given with every=.month., got 'sunday'"),
        ({"every": "week", "weekday": "Sunday"}, r"got 'Sunday'; did you mean sunday\?"),
        ({"every": "month", "day": 32}, "day must be a whole number from 1 to 31, got 32"),
        ({"every": "month", "day": True}, "day must be a whole number from 1 to 31, got True"),
        ({"every": "year", "month": "april"}, "month must be a whole number from 1 to 12, got 'april'"),
        ({"every": "day", "hour": 24}, "hour must be a whole number from 0 to 23, got 24"),
        ({"every": "hour", "hour": 6}, "hour must not be given with every=.hour., got 6; use every=.day. or"),
    ],
    ids=str,
)
def test_a_start_that_no_such_window_has_is_refused(window: dict[str, str | int], said: str):
    with pytest.raises(InvalidPolicy, match=said):
        CalendarWindow(1, **window)


def test_a_start_that_makes_the_derived_name_too_long_asks_for_a_name():
    start = {"every": "year", "month": 4, "day": 6, "hour": 6, "timezone": "America/Argentina/Buenos_Aires"}
    with pytest.raises(
        InvalidPolicy, match=r"the derived name .*-month4-day6-hour6-America-.* is not .*: give a name="
    ):
        CalendarWindow(1, **start)
    assert CalendarWindow(1, name="fiscal", **start).name == "fiscal"


NO_ZONES = ["", "Paris", "europe/paris", "Europe/Pari", "localtime", "../UTC", "/etc/passwd", "posix/UTC", "+01:00"]


@pytest.mark.parametrize(
    "zone", [*NO_ZONES, "UTC\0", "A" * 10**6, None, 1, b"UTC", []], ids=lambda zone: repr(zone)[:20]
)
def test_a_time_zone_that_is_not_known_is_refused(zone):
    with pytest.raises(
        InvalidPolicy, match="timezone must be the name of an IANA time zone, such as Europe/Paris"
    ) as caught:
        CalendarWindow(1, every="day", timezone=zone)
    assert len(str(caught.value)) < 300


def test_a_time_zone_that_is_nearly_right_is_proposed():
    with pytest.raises(InvalidPolicy, match=r"got 'Europe/Pari': did you mean Europe/Paris\?"):
        CalendarWindow(1, every="day", timezone="Europe/Pari")


@pytest.mark.parametrize("burst", [0, -1, 1.0, True, "5", 10**11 + 1, float("nan")], ids=repr)
def test_a_burst_that_is_no_whole_number_is_refused(burst):
    with pytest.raises(InvalidPolicy, match="burst must be a whole number from 1 to 100000000000, got "):
        TokenBucket(1, window=0.000001, burst=burst)


# A bucket keeps its level in units times microseconds, which have to be exact where numbers are doubles.

WINDOWS_US = [2**20, 60_000_000, 7_777_777, 86_400_000_000, 10 * 366 * 86_400_000_000]


@pytest.mark.parametrize("window_us", WINDOWS_US)
def test_a_product_past_2_53_is_refused_and_the_message_says_the_largest_that_is_not(window_us: int):
    window, most = timedelta(microseconds=window_us), 2**53 // window_us
    for given, what in (({"limit": most + 1, "burst": 1}, "limit"), ({"limit": 1, "burst": most + 1}, "burst")):
        said = f"got {most + 1} units times {window_us} µs: {what} can be {most} at most with this window"
        with pytest.raises(InvalidPolicy, match=rf"{what} times window must be at most 2\^53 unit .*{said}"):
            TokenBucket(window=window, **given)
    with pytest.raises(InvalidPolicy, match=f"limit can be {most} at most"):
        TokenBucket(most + 1, window=window)
    TokenBucket(most, window=window, burst=most)


@pytest.mark.parametrize("window_us", WINDOWS_US)
def test_the_largest_bucket_is_counted_to_the_unit(window_us: int):
    most, clock = 2**53 // window_us, ManualClock()
    limiter = Limiter(TokenBucket(most, window=timedelta(microseconds=window_us)), store=MemoryStore(clock=clock))
    assert limiter.allow("a", most)
    assert not limiter.allow("a")
    passed = window_us // 3 + 1
    clock.advance(passed / 1_000_000)
    back = int(Fraction(most, window_us) * passed)
    assert limiter.peek("a", most).remaining == back
    assert not limiter.allow("a", back + 1)
    assert limiter.allow("a", back)
    assert limiter.peek("a").remaining == 0


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["huge", "-huge"])
def test_a_number_too_long_to_print_is_refused_like_any_other(number: int):
    with pytest.raises(InvalidPolicy, match="bits"):
        SlidingWindow(number, window=60)
    with pytest.raises(InvalidPolicy, match="bits"):
        SlidingWindow(1, window=number)
    with pytest.raises(InvalidCost, match="bits"):
        Limiter(SlidingWindow(1, window=60)).take("a", number)
