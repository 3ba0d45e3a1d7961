"""What is outside the ranges gives its typed error, and nothing is charged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from sluicegate import (
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    InvalidSpan,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.policy import Policy
from stores.harness import Harness, LimiterAdapter

NOT_WHOLE = [0, -1, -5, 10**11 + 1, 1.0, 1.5, math.nan, math.inf, -math.inf, True, False, "1", "", None, [], Decimal(1)]
NOT_A_WINDOW = [
    0,
    -1,
    -0.5,
    1e-7,
    4e-7,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "60",
    None,
    [],
    10 * 366 * 86400 + 1,
    1e300,
]
NOT_TEXT = [None, 1, 1.5, True, b"alice", ["alice"], {"user": "alice"}, {"a"}, ("a",), object]
SURROGATES = ["\ud800", "a\udfffb", "\udc80", "ab" * 200 + "\ud83d"]
NOT_A_SPAN = [-1, -1e-9, math.nan, math.inf, -math.inf, True, False, "60", None, [], Decimal(1), 1e300, 10**1000]
NOT_A_SPAN += [10 * 366 * 86400 + 1, timedelta(seconds=-1), timedelta(days=3661), timedelta.max]

MAKE: dict[str, Callable[..., Policy]] = {
    "sliding": lambda limit, **options: SlidingWindow(limit, window=60, **options),
    "bucket": lambda limit, **options: TokenBucket(limit, window=60, **options),
    "fixed": lambda limit, **options: FixedWindow(limit, window=60, **options),
    "calendar": lambda limit, **options: CalendarWindow(limit, every="day", **options),
}
each_kind = pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))


def short_repr(value: object) -> str:
    return repr(value)[:40]


def all_kinds(harness: Harness) -> LimiterAdapter:
    return harness.limiter(*(make(10) for make in MAKE.values()))


def nothing_stored(harness: Harness) -> bool:
    return not (harness.stored() if harness.kind == "redis" else len(harness.store))


@pytest.mark.parametrize("cost", NOT_WHOLE, ids=short_repr)
def test_a_cost_that_is_no_whole_number_from_1_to_10_11_is_refused_and_nothing_is_charged(harness: Harness, cost):
    for limiter in (harness.limiter(SlidingWindow(10, window=60, name="one")), all_kinds(harness)):
        limiter.take("a", 3)
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidCost, match="cost must be a whole number from 1 to 100000000000, got ") as caught:
                ask("a", cost)
            assert caught.value.cost is cost
            with pytest.raises(InvalidCost):
                ask("new", cost)
        assert [each.remaining for each in limiter.peek("a").decisions] == [7] * len(limiter.peek("a").decisions)
        assert limiter.peek("new").reset_after == 0.0


@pytest.mark.parametrize("key", NOT_TEXT, ids=short_repr)
def test_a_key_that_is_no_text_is_refused_by_every_verb(harness: Harness, key):
    for limiter in (harness.limiter(SlidingWindow(10, window=60)), all_kinds(harness)):
        for ask in (
            limiter.take,
            limiter.allow,
            limiter.peek,
            limiter.forget,
            lambda key, on=limiter: on.block(key, 9),
        ):
            with pytest.raises(InvalidKey, match="key must be a str, got "):
                ask(key)
    assert nothing_stored(harness)


def test_a_mapping_is_refused_with_the_advice_how_a_policy_counts_by_attributes(harness: Harness):
    limiter = all_kinds(harness)
    for ask in (limiter.take, limiter.peek, limiter.forget, lambda key: limiter.block(key, 9)):
        with pytest.raises(InvalidKey, match=r"got one of type dict: .* for a mapping give it a per=$") as caught:
            ask({"user": "alice"})
        assert caught.value.policy == "sliding-window-60s"


@pytest.mark.parametrize("key", SURROGATES, ids=short_repr)
def test_a_lone_surrogate_is_refused_and_not_shown_by_every_verb(harness: Harness, key):
    plain = harness.limiter(SlidingWindow(10, window=60)), all_kinds(harness)
    parts = harness.limiter(*(make(10, per="user") for make in MAKE.values()))
    for limiter, asked in (*((limiter, key) for limiter in plain), (parts, {"user": key})):
        for ask in (
            limiter.take,
            limiter.allow,
            limiter.peek,
            limiter.forget,
            lambda key, on=limiter: on.block(key, 9),
        ):
            with pytest.raises(InvalidKey, match="lone surrogate") as caught:
                ask(asked)
            assert re.fullmatch(
                r"(key|attribute user of the key) must be valid Unicode text, got one with a lone surrogate at \d+",
                str(caught.value),
            )
    assert nothing_stored(harness)


@pytest.mark.parametrize("seconds", NOT_A_SPAN, ids=short_repr)
def test_a_block_that_is_no_span_up_to_10_years_is_refused_and_changes_nothing(harness: Harness, seconds):
    limiter = all_kinds(harness)
    with pytest.raises(
        InvalidSpan, match=r"seconds must be a number .* from 0 to 316224000 .ten years., got "
    ) as caught:
        limiter.block("new", seconds)
    assert caught.value.span is seconds
    assert len(str(caught.value)) < 250
    assert nothing_stored(harness)
    limiter.take("a", 3)
    limiter.block("a", 60)
    with pytest.raises(InvalidSpan):
        limiter.block("a", seconds)
    assert limiter.peek("a").retry_after == 60


def test_the_longest_and_the_shortest_blocks_work(harness: Harness):
    limiter = all_kinds(harness)
    for seconds in (10 * 366 * 86400, timedelta(days=3660), 0.000001, 1, timedelta(microseconds=1)):
        limiter.block("a", seconds)
        span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        assert limiter.take("a").retry_after == span
    limiter.block("a", 1e-9)  # never less than a microsecond: 0 would end a block
    assert limiter.take("a").retry_after == 0.000001
    for nothing in (0, 0.0, -0.0, timedelta(0)):
        limiter.block("a", nothing)
        assert limiter.peek("a").remaining == 10


@each_kind
@pytest.mark.parametrize("limit", NOT_WHOLE, ids=short_repr)
def test_a_limit_that_is_no_whole_number_from_1_to_10_11_is_refused(limit, make):
    with pytest.raises(InvalidPolicy, match="limit must be a whole number from 1 to 100000000000, got "):
        make(limit)


@pytest.mark.parametrize("kind", [SlidingWindow, TokenBucket, FixedWindow])
@pytest.mark.parametrize("window", NOT_A_WINDOW, ids=short_repr)
def test_a_window_that_is_no_span_from_1_microsecond_to_10_years_is_refused(window, kind):
    with pytest.raises(InvalidPolicy, match="window must be a number of seconds"):
        kind(10, window=window)


@pytest.mark.parametrize("buckets", [0, -1, 1.0, True, "6", math.inf, 10**6 + 1], ids=short_repr)
def test_buckets_that_are_no_whole_number_are_refused(buckets):
    with pytest.raises(InvalidPolicy, match="buckets must be None or a whole number from 1 to 1000000, got "):
        SlidingWindow(10, window=60, buckets=buckets)


@each_kind
@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "{a}", "é", "a" * 65, "a\n", 1, b"a"], ids=short_repr)
def test_a_name_that_could_not_be_a_header_or_a_label_is_refused(name, make):
    with pytest.raises(InvalidPolicy, match="name must be 1 to 64 of"):
        make(10, name=name)


def test_what_came_is_shown_shortened():
    with pytest.raises(InvalidPolicy) as caught:
        SlidingWindow("9" * 10**6, window=60)
    assert len(str(caught.value)) < 200


def test_the_widest_and_the_narrowest_policies_work(harness: Harness):
    harness.advance(1)
    for policy in (
        SlidingWindow(1, window=0.000001),
        SlidingWindow(10**11, window=timedelta(days=3650)),
        SlidingWindow(10**11, window=timedelta(microseconds=1), buckets=1, name="one-bucket"),
        SlidingWindow(10**11, window=86400, buckets=10**6),
        SlidingWindow(3, window=Fraction(1, 3).__float__()),
    ):
        limiter = harness.limiter(policy)
        decision = limiter.take("a", policy.limit)
        assert decision.allowed, policy
        assert decision.remaining == 0
        assert not limiter.allow("a")
        longest = policy.window * (1 + 1 / (policy.buckets or 10**9)) + 2e-6
        assert 0 < limiter.peek("a").retry_after <= decision.reset_after <= longest


def test_the_widest_and_the_narrowest_buckets_and_windows_with_edges_work(harness: Harness):
    harness.advance(1)
    ten_years = 10 * 366 * 86400
    for policy in (
        TokenBucket(1, window=0.000001, name="narrow"),
        TokenBucket(10**11, window=0.000001),
        TokenBucket(1, window=0.000001, burst=10**11, name="deep"),
        TokenBucket(2**53 // (ten_years * 10**6), window=ten_years),
        TokenBucket(2**33, window=2**20 / 10**6),  # limit times window is 2^53 itself
        FixedWindow(1, window=0.000001),
        FixedWindow(10**11, window=ten_years),
        FixedWindow(10**11, window=7.777777),
        CalendarWindow(1, every="hour"),
        CalendarWindow(10**11, every="year", timezone="Asia/Kathmandu"),
    ):
        limiter = harness.limiter(policy)
        decision = limiter.take("a", policy.burst)
        assert (decision.allowed, decision.remaining) == (True, 0), policy
        assert not limiter.allow("a")
        longest = policy.window * policy.burst / policy.limit + 0.000001
        assert 0 < limiter.peek("a").retry_after <= decision.reset_after <= longest
        harness.advance(decision.reset_after)
        assert limiter.take("a", policy.burst).remaining == 0, policy
