"""What is outside the ranges gives its typed error, and nothing is charged."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from headgate import InvalidCost, InvalidKey, InvalidPolicy, SlidingWindow
from stores.rigs import Rig

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


def shown(value: object) -> str:
    return repr(value)[:40]


@pytest.mark.parametrize("cost", NOT_WHOLE, ids=shown)
def test_a_cost_that_is_no_whole_number_from_1_to_10_11_is_refused_and_nothing_is_charged(rig: Rig, cost):
    limiter = rig.limiter(SlidingWindow(10, window=60))
    limiter.take("a", 3)
    for ask in (limiter.take, limiter.allow, limiter.peek):
        with pytest.raises(InvalidCost, match="cost must be a whole number from 1 to 100000000000, got ") as caught:
            ask("a", cost)
        assert caught.value.cost is cost
        with pytest.raises(InvalidCost):
            ask("new", cost)
    assert limiter.peek("a").remaining == 7
    assert limiter.peek("new").reset_after == 0.0


@pytest.mark.parametrize("key", NOT_TEXT, ids=shown)
def test_a_key_that_is_no_text_is_refused(rig: Rig, key):
    limiter = rig.limiter(SlidingWindow(10, window=60))
    for ask in (limiter.take, limiter.allow, limiter.peek, limiter.forget):
        with pytest.raises(InvalidKey, match="key must be a str, got "):
            ask(key)
    assert not (rig.stored() if rig.kind == "redis" else len(rig.store))


@pytest.mark.parametrize("key", SURROGATES, ids=shown)
def test_a_lone_surrogate_is_refused_and_shown_escaped(rig: Rig, key):
    limiter = rig.limiter(SlidingWindow(10, window=60))
    for ask in (limiter.take, limiter.allow, limiter.peek, limiter.forget):
        with pytest.raises(InvalidKey, match="lone surrogate") as caught:
            ask(key)
        str(caught.value).encode()
        assert len(str(caught.value)) < 250
    assert not (rig.stored() if rig.kind == "redis" else len(rig.store))


@pytest.mark.parametrize("limit", NOT_WHOLE, ids=shown)
def test_a_limit_that_is_no_whole_number_from_1_to_10_11_is_refused(limit):
    with pytest.raises(InvalidPolicy, match="limit must be a whole number from 1 to 100000000000, got "):
        SlidingWindow(limit, window=60)


@pytest.mark.parametrize("window", NOT_A_WINDOW, ids=shown)
def test_a_window_that_is_no_span_from_1_microsecond_to_10_years_is_refused(window):
    with pytest.raises(InvalidPolicy, match="window must be a number of seconds"):
        SlidingWindow(10, window=window)


@pytest.mark.parametrize("buckets", [0, -1, 1.0, True, "6", math.inf, 10**6 + 1], ids=shown)
def test_buckets_that_are_no_whole_number_are_refused(buckets):
    with pytest.raises(InvalidPolicy, match="buckets must be None or a whole number from 1 to 1000000, got "):
        SlidingWindow(10, window=60, buckets=buckets)


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "{a}", "é", "a" * 65, "a\n", 1, b"a"], ids=shown)
def test_a_name_that_could_not_be_a_header_or_a_label_is_refused(name):
    with pytest.raises(InvalidPolicy, match="name must be 1 to 64 of"):
        SlidingWindow(10, window=60, name=name)


def test_what_came_is_shown_shortened():
    with pytest.raises(InvalidPolicy) as caught:
        SlidingWindow("9" * 10**6, window=60)
    assert len(str(caught.value)) < 200


def test_the_widest_and_the_narrowest_policies_work(rig: Rig):
    rig.advance(1)
    for policy in (
        SlidingWindow(1, window=0.000001),
        SlidingWindow(10**11, window=timedelta(days=3650)),
        SlidingWindow(10**11, window=timedelta(microseconds=1), buckets=1, name="one-bucket"),
        SlidingWindow(10**11, window=86400, buckets=10**6),
        SlidingWindow(3, window=Fraction(1, 3).__float__()),
    ):
        limiter = rig.limiter(policy)
        decision = limiter.take("a", policy.limit)
        assert decision.allowed, policy
        assert decision.remaining == 0
        assert not limiter.allow("a")
        longest = policy.window * (1 + 1 / (policy.buckets or 10**9)) + 2e-6
        assert 0 < limiter.peek("a").retry_after <= decision.reset_after <= longest
