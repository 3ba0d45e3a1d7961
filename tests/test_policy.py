from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction

import pytest

from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidPolicy,
    InvalidRate,
    InvalidStore,
    Limiter,
    MemoryStore,
    RedisStore,
    SlidingWindow,
    SluicegateError,
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
    assert make(7, name=derived).named is False


def test_the_window_of_a_policy_is_in_seconds():
    assert [kind(1, window=timedelta(minutes=1)).window for kind in (SlidingWindow, TokenBucket, FixedWindow)] == [
        60
    ] * 3
    spans = {every: CalendarWindow(1, every=every).window for every in ("hour", "day", "week", "month", "year")}
    assert spans == {"hour": 3600, "day": 86400, "week": 604800, "month": 31 * 86400, "year": 366 * 86400}


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


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (POLICIES[0], "SlidingWindow(100, window=60.0, name='sliding-window-60s')"),
        (POLICIES[1], "SlidingWindow(100, window=0.5, name='half', shared=True, buckets=6)"),
        (POLICIES[3], "TokenBucket(100, window=60.0, name='token-bucket-60s-per-user', per=('user',), burst=7)"),
        (POLICIES[5], "CalendarWindow(100, name='calendar-window-week-UTC', every='week', timezone='UTC')"),
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
    ],
    ids=repr,
)
def test_a_policy_says_the_most_that_any_span_as_long_as_its_window_can_hold(policy: Policy, worst: int):
    assert policy.worst_case == worst


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_with_another_limit_all_the_rest_of_a_policy_is_as_it_was(policy: Policy):
    other = policy.with_limit(3)
    kept = ("window_us", "name", "per", "shared", "namespace", "named", "buckets", "every", "timezone")
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
    with pytest.raises(InvalidPolicy, match=rf"the name would be {derived}-per-a+, which is not .*: give a name="):
        make(1, per=f"{longest}a")
    assert make(1, per=f"{longest}a", name="short").per == (f"{longest}a",)


@each_kind
def test_a_policy_is_per_an_attribute_or_shared_and_never_both(derived: str, make: Make):
    with pytest.raises(InvalidPolicy, match="a shared policy counts all keys together: it has no per=, got 'user'"):
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


# Two policies on one store


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_two_policies_without_a_name_that_differ_only_in_their_limit_are_refused(limiter):
    store = MemoryStore()
    limiter(SlidingWindow(5, window=60), store=store)
    limiter(SlidingWindow(5, window=60), store=store)  # the same one, for two callers
    limiter(SlidingWindow(6, window=61), store=store)
    limiter(SlidingWindow(6, window=60, name="six"), store=store)
    with pytest.raises(InvalidPolicy, match=r"sliding-window-60s, with limits 5 and 6: .* give each a name="):
        limiter(SlidingWindow(6, window=60), store=store)
    limiter(SlidingWindow(6, window=60), store=MemoryStore())


def test_two_urls_that_are_one_store_are_told_from_two_stores():
    with Limiter(SlidingWindow(5, window=60), store="redis://h:1/0"):
        Limiter(SlidingWindow(6, window=60), store="redis://h:1/1").close()
        with pytest.raises(InvalidPolicy, match="with limits 5 and 6"):
            Limiter(SlidingWindow(6, window=60), store="redis://h:1/0")
    with Limiter(SlidingWindow(6, window=60), store="redis://h:1/0"):
        pass


def test_the_limit_of_a_policy_without_a_name_can_change_once_its_limiter_is_closed():
    store = MemoryStore()
    first, second = (Limiter(SlidingWindow(5, window=60), store=store) for _ in range(2))
    first.close()
    first.close()
    with pytest.raises(InvalidPolicy):
        Limiter(SlidingWindow(6, window=60), store=store)
    second.close()
    Limiter(SlidingWindow(6, window=60), store=store)


REFUSED_BESIDE = [
    (TokenBucket(5, window=60), TokenBucket(6, window=60), "limits 5 and 6"),
    (TokenBucket(5, window=60), TokenBucket(5, window=60, burst=6), "bursts 5 and 6"),
    (FixedWindow(5, window=60), FixedWindow(6, window=60), "limits 5 and 6"),
    (monthly(5), monthly(6), "limits 5 and 6"),
    (SlidingWindow(5, window=60, per="user"), SlidingWindow(6, window=60, per="user"), "limits 5 and 6"),
    (SlidingWindow(5, window=60, shared=True), SlidingWindow(6, window=60, shared=True), "limits 5 and 6"),
    (
        SlidingWindow(5, window=60, name="a", per="user"),
        SlidingWindow(5, window=60, name="a", per="ip"),
        "both named a and count by different attributes, user and ip",
    ),
    (
        TokenBucket(5, window=60, name="a", per=("user", "ip")),
        TokenBucket(5, window=60, name="a", per=("ip", "user")),
        "both named a and count by different attributes, user, ip and ip, user",
    ),
    (
        SlidingWindow(5, window=60, name="a"),
        SlidingWindow(5, window=60, name="a", shared=True),
        r"both named a, and one counts by a plain key, the other by nothing \(it is shared\)",
    ),
    (
        FixedWindow(5, window=60, name="a", per=("user", "ip")),
        FixedWindow(5, window=60, name="a"),
        "both named a, and one counts by user, ip, the other by a plain key",
    ),
]


@pytest.mark.parametrize(("one", "other", "said"), REFUSED_BESIDE, ids=lambda each: getattr(each, "name", ""))
def test_policies_that_would_share_a_counter_unseen_are_refused(one: Policy, other: Policy, said: str):
    store = MemoryStore()
    with Limiter(one, store=store):
        Limiter(one, store=store).close()
        Limiter(other, store=MemoryStore()).close()
        with pytest.raises(InvalidPolicy, match=f"{said}.*: .* give each a name="):
            Limiter(other, store=store)
    Limiter(other, store=store).close()


ALLOWED_BESIDE = [
    (SlidingWindow(5, window=60), TokenBucket(6, window=60)),
    (SlidingWindow(5, window=60), SlidingWindow(6, window=61)),
    (SlidingWindow(5, window=60), SlidingWindow(5, window=60, buckets=6)),
    (SlidingWindow(5, window=60), SlidingWindow(6, window=60, per="user")),
    (SlidingWindow(5, window=60, name="one"), SlidingWindow(6, window=60, name="one")),
    (SlidingWindow(5, window=60, name="one"), SlidingWindow(5, window=60, name="one", per="user")),
    (TokenBucket(5, window=60, name="one"), TokenBucket(5, window=60, burst=9, name="one")),
    (CalendarWindow(5, every="day"), CalendarWindow(6, every="day", timezone="Asia/Tokyo")),
    (CalendarWindow(5, every="day", name="a"), CalendarWindow(6, every="week", name="a")),
]


@pytest.mark.parametrize(("one", "other"), ALLOWED_BESIDE, ids=repr)
def test_policies_that_share_nothing_or_by_their_own_name_are_taken(one: Policy, other: Policy):
    store = MemoryStore()
    with Limiter(one, store=store), Limiter(other, store=store):
        pass


def test_a_limiter_that_was_refused_leaves_nothing_behind():
    store, third = MemoryStore(), SlidingWindow(5, window=3)
    first, second = SlidingWindow(5, window=1), SlidingWindow(5, window=2)
    with Limiter(third, store=store):
        with pytest.raises(InvalidPolicy, match="limits 5 and 6"):
            Limiter(first, second, third.with_limit(6), store=store)
        with pytest.raises(InvalidPolicy, match="exempt must be"):
            Limiter(first, second, store=store, exempt="alice")
        with pytest.raises(InvalidPolicy, match="limits must be"):
            Limiter(first, second, store=store, limits=5)
        with pytest.raises(InvalidPolicy, match="enabled must be"):
            Limiter(first, second, store=store, enabled="yes")
        with pytest.raises(InvalidPolicy, match="both named"):
            Limiter(first, second, second, store=store)
        Limiter(first.with_limit(6), second.with_limit(6), store=store).close()
    Limiter(third.with_limit(6), store=store).close()


def test_all_policies_of_a_limiter_are_free_again_when_it_is_closed():
    store, several = MemoryStore(), [SlidingWindow(5, window=1), TokenBucket(5, window=1), FixedWindow(5, window=1)]
    Limiter(*several, store=store).close()
    Limiter(*(policy.with_limit(6) for policy in several), store=store).close()


def test_errors_come_whole_through_a_pickle():
    for attempt in (
        lambda: SlidingWindow(0, window=1),
        lambda: CalendarWindow(1, every="day", timezone="Europe/Pari"),
        lambda: Limiter("often"),
        lambda: Limiter(SlidingWindow(1, window=1, per="user")).take({"ip": "a"}),
        lambda: Limiter(SlidingWindow(1, window=1, per="user")).take("a"),
        lambda: Limiter(SlidingWindow(1, window=1)).take("a", {"other": 1}),
        lambda: Limiter(SlidingWindow(1, window=1)).block("a", -1),
        lambda: Limiter(SlidingWindow(1, window=1)).take("a", 0),
        lambda: Limiter(SlidingWindow(1, window=1)).take(b"a"),
        lambda: Limiter(SlidingWindow(1, window=1), store="nowhere"),
    ):
        with pytest.raises(SluicegateError) as caught:
            attempt()
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), vars(again)) == (type(caught.value), str(caught.value), vars(caught.value))


def test_a_store_that_wraps_another_is_the_one_that_is_asked():
    asked = []

    class Wrapped:
        def __init__(self) -> None:
            self._inner = MemoryStore()

        def __getattr__(self, name: str):
            return getattr(self._inner, name)

        def decide(self, requests, *, commit=True):
            asked.extend(requests)
            return self._inner.decide(requests, commit=commit)

    limiter = Limiter(SlidingWindow(1, window=60), store=Wrapped())
    assert [limiter.allow("a"), limiter.allow("a")] == [True, False]
    assert len(asked) == 2


def test_a_verb_that_is_overridden_or_patched_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch):
    class Deaf(Limiter):
        def take(self, key, cost=1):
            return super().peek(key, cost)

    assert [Deaf(SlidingWindow(1, window=60)).allow("a") for _ in range(3)] == [True] * 3
    monkeypatch.setattr(Limiter, "allow", lambda *_: "patched")
    assert Limiter(SlidingWindow(1, window=60)).allow("a") == "patched"


def test_allow_is_documented_on_every_limiter():
    limiter = Limiter(SlidingWindow(1, window=60))
    assert limiter.allow.__doc__ == Limiter.allow.__doc__
    assert limiter.allow.__qualname__ == "Limiter.allow"


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["huge", "-huge"])
def test_a_number_too_long_to_print_is_refused_like_any_other(number: int):
    with pytest.raises(InvalidPolicy, match="bits"):
        SlidingWindow(number, window=60)
    with pytest.raises(InvalidPolicy, match="bits"):
        SlidingWindow(1, window=number)
    with pytest.raises(InvalidCost, match="bits"):
        Limiter(SlidingWindow(1, window=60)).take("a", number)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("policy", [None, 5, b"100/minute", [SlidingWindow(1, window=1)], SlidingWindow], ids=repr)
def test_what_is_no_policy_is_refused(limiter, policy):
    with pytest.raises(InvalidPolicy, match="policy must be one such as SlidingWindow"):
        limiter(policy)
    with pytest.raises(InvalidPolicy, match="policy must be one such as SlidingWindow"):
        limiter("100/hour", policy)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_a_rate_string_is_a_policy_and_no_policy_at_all_is_refused(limiter):
    assert limiter("100/minute").policies == (SlidingWindow(100, window=60),)
    with pytest.raises(InvalidRate, match="at character 1"):
        limiter("often")
    with pytest.raises(InvalidPolicy, match=r"or a rate such as .*, got none"):
        limiter()


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    "store",
    ["", "localhost", "http://x", "redis", "redis://", "redis://h:port/0", 5, object(), MemoryStore],
    ids=lambda store: repr(store).partition(" at 0x")[0],
)
def test_what_is_no_store_is_refused(limiter, store):
    with pytest.raises(InvalidStore, match="store must be "):
        limiter(SlidingWindow(5, window=60), store=store)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@h:port/0",
        "http://:s3cret@h/0",
        "redis://:s3cret@h/zero",
        "redis://:s3cret/x@h/0",
        "redis://:s3cret@h?socket_timeout=soon",
        "redis://:s3cret@h?nonsense=1",
        "redis://:s3cret@h?protocol=9",
        "redis://:s3cret@h?retry_on_error=1",
        "rediss://:s3cret@h?ssl_cert_reqs=xx",
        "redis://:s3cret@[::1",
        "redis://:s3cret@\u2100@x/0",
        "user:s3cret@localhost:6379",
        "redis:/user:s3cret@localhost",
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str):
    with pytest.raises(InvalidStore) as caught:
        Limiter(SlidingWindow(5, window=60), store=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "got redis:// and no more: it lacks a host, as in redis://localhost:6379/0"),
        ("valkey://", "got valkey:// and no more: it lacks a host, as in valkey://localhost:6379/0"),
        ("unix://", "got unix:// and no more: it lacks a path, as in unix:///run/redis.sock"),
        ("http://h", "got one that begins with http://"),
        ("localhost:6379", "got other text"),
        ("redis://h?nonsense=1", "has an option that redis-py does not know"),
        ("redis://h?socket_timeout=soon", "has a value that redis-py cannot read"),
        ("redis://h?retry_on_error=1", "must be a URL without options for retries: no call is sent twice"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str):
    with pytest.raises(InvalidStore, match=re.escape(said)):
        Limiter("5/s", store=url)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limiter("5/s"),
        lambda: AsyncLimiter("5/s"),
        lambda: Limiter("5/s", store="redis://h"),
        MemoryStore,
        lambda: RedisStore.from_url("redis://h"),
        lambda: AsyncRedisStore.from_url("redis://h"),
    ],
    ids=["limiter", "async-limiter", "limiter-on-redis", "memory", "redis", "async-redis"],
)
@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda carry: carry.__name__)
def test_what_counts_stays_in_its_process(make: Callable[[], object], carry: Callable[[object], object]):
    made = make()
    with pytest.raises(
        TypeError, match=f"a {type(made).__name__} stays in its process and cannot be pickled or copied"
    ):
        carry(made)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://h:1/2", "valkey://h", "valkeys://h", "unix:///tmp/s", "memory://"]
)
def test_every_scheme_that_is_promised_is_read(url: str):
    Limiter(SlidingWindow(5, window=60), store=url).close()


def test_a_store_of_the_wrong_form_is_refused_with_the_right_one_named():
    with pytest.raises(InvalidStore, match="to be awaited: give it to an AsyncLimiter"):
        Limiter(SlidingWindow(5, window=60), store=AsyncRedisStore.from_url("redis://h"))
    with pytest.raises(InvalidStore, match="would block the event loop: give an AsyncLimiter an AsyncRedisStore"):
        AsyncLimiter(SlidingWindow(5, window=60), store=RedisStore.from_url("redis://h"))


def test_a_client_of_the_wrong_form_is_refused():
    import redis
    import redis.asyncio

    cluster = object.__new__(redis.RedisCluster)  # made in the usual way it would connect
    for store, client, said in (
        (RedisStore, redis.asyncio.Redis(), r"got one of type redis\.asyncio\..*; give it to AsyncRedisStore"),
        (AsyncRedisStore, redis.Redis(), r"got one of type redis\..*; give it to RedisStore"),
        (RedisStore, cluster, "RedisCluster; this version does not support clusters"),
        (RedisStore, "h", r"got one of type str; for a URL there is RedisStore\.from_url"),
        (RedisStore, 5, "got one of type int$"),
    ):
        with pytest.raises(InvalidStore, match=f"client must be a redis.*{said}"):
            store(client)


@pytest.mark.parametrize("timeout", [0, "1", timedelta(seconds=1), None, True, float("nan")], ids=repr)
def test_an_option_of_a_store_that_is_none_is_refused_by_its_name(timeout: object):
    import redis

    for make in (
        lambda: RedisStore(redis.Redis(), timeout=timeout),
        lambda: RedisStore.from_url("redis://h", timeout=timeout),
        lambda: AsyncRedisStore.from_url("redis://h", timeout=timeout),
    ):
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0, an hour at most, got"):
            make()
    with pytest.raises(ValueError, match="prefix must be printable text"):
        RedisStore(redis.Redis(), prefix="")


def test_a_limiter_on_a_store_that_no_one_can_refer_to_weakly_can_be_closed():
    class Slotted:
        __slots__ = ()

        def decide(self, requests, *, commit=True): ...
        def forget(self, counters): ...
        def block(self, counters, span_us): ...
        def close(self): ...

    Limiter("1/minute", store=Slotted()).close()


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_make_and_close_limiters_on_one_store_do_not_meet():
    store, failures = MemoryStore(), []

    def work(n: int) -> None:
        try:
            for m in range(150):
                Limiter(
                    SlidingWindow(1, window=60, name=f"p{n}-{m % 7}"), SlidingWindow(5, window=1), store=store
                ).close()
        except Exception as failure:  # noqa: BLE001 - it is shown below
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_allow_is_told_with_a_key_and_a_cost_and_no_more():
    for limiter in (Limiter("5/minute"), Limiter("5/minute", "5/hour"), Limiter("5/minute", exempt={"a"})):
        assert list(inspect.signature(limiter.allow).parameters) == ["key", "cost"]
