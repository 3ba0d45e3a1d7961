"""``charge``: what has happened already is recorded whatever the limit, and later requests wait for it."""

from __future__ import annotations

from typing import Any

import pytest

import servers
from limiter.reserving import Reserving
from sluicegate import (
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    Limiter,
    LimiterClosed,
    RedisStore,
    SlidingWindow,
    TokenBucket,
)
from stores.conftest import harness  # noqa: F401 - a fixture
from stores.harness import Harness

LOGS_AND_COUNTS = [SlidingWindow(10, window=60), FixedWindow(10, window=60), CalendarWindow(10, every="day")]
BUCKET = TokenBucket(10, window=60)
MOST = 10**12
MOST_IN_BUCKET = 2**53 // BUCKET.window_us

each_policy = pytest.mark.parametrize("policy", [*LOGS_AND_COUNTS, BUCKET], ids=lambda policy: policy.algorithm)


@pytest.fixture
def ten(harness: Harness) -> Reserving:  # noqa: F811
    return Reserving(harness, LOGS_AND_COUNTS[0])


@each_policy
def test_a_charge_within_the_limit_is_as_if_it_had_been_taken(harness: Harness, policy: Any):  # noqa: F811
    limiter = Reserving(harness, policy)
    assert limiter.run(limiter.limiter.charge("a", 4)) is None
    limiter.charge("a")
    assert limiter.remaining() == (5,)
    assert limiter.remaining("b") == (10,)
    assert limiter.take("a", 5)
    assert not limiter.take("a")


@each_policy
def test_a_charge_above_the_limit_is_a_debt_that_later_requests_wait_for(harness: Harness, policy: Any):  # noqa: F811
    limiter = Reserving(harness, policy)
    limiter.take("a", 8)
    limiter.charge("a", 25)
    denied = limiter.take("a")
    assert (denied.allowed, denied.remaining) == (False, 0)
    harness.advance(denied.retry_after - 0.000001)
    assert not limiter.take("a")
    harness.advance(0.000001)
    assert limiter.take("a")


def test_in_a_sliding_window_each_charge_leaves_a_window_after_it_was_made(ten: Reserving, harness: Harness):  # noqa: F811
    ten.charge("a", 25)
    harness.advance(30)
    ten.charge("a", 8)
    assert ten.peek("a", 3).retry_after == 60.0
    assert ten.peek("a", 2).retry_after == 30.0
    harness.advance(30)
    assert ten.remaining() == (2,)


def test_a_bucket_drains_its_debt_evenly(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, BUCKET)
    limiter.charge("a", 25)
    assert limiter.peek("a").retry_after == 96.0
    harness.advance(120)
    assert limiter.remaining() == (5,)


def test_a_debt_in_a_fixed_window_ends_with_it(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, FixedWindow(10, window=60))
    limiter.charge("a", 1000)
    harness.advance(limiter.peek("a").retry_after)
    assert limiter.remaining() == (10,)


def test_several_policies_are_charged_by_their_names(harness: Harness):  # noqa: F811
    limiter = Reserving(
        harness, SlidingWindow(5, window=60, name="requests"), SlidingWindow(1000, window=60, name="tokens")
    )
    limiter.charge("a", {"tokens": 800})
    assert limiter.remaining() == (4, 200)
    limiter.charge("a", {"requests": 9, "tokens": 100})
    assert limiter.remaining() == (0, 100)
    limiter.charge("b", 3)
    assert limiter.remaining("b") == (2, 997)


def test_a_key_has_the_attributes_that_its_policies_count_by(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, SlidingWindow(5, window=60, per="user"), SlidingWindow(9, window=60, shared=True))
    limiter.charge({"user": "alice"}, 7)
    assert limiter.remaining({"user": "alice"}) == (0, 2)
    assert limiter.remaining({"user": "bob"}) == (5, 2)
    with pytest.raises(InvalidKey):
        limiter.charge("alice")


# As much debt as there can be


@pytest.mark.parametrize("policy", LOGS_AND_COUNTS, ids=lambda policy: policy.algorithm)
def test_a_log_or_a_count_holds_a_million_million_units_and_what_is_above_is_counted(
    harness: Harness,  # noqa: F811
    policy: Any,
):
    limiter = Reserving(harness, policy)
    for _ in range(9):
        limiter.charge("a", 10**11)
        harness.advance(0.000001)
    limiter.charge("a", 10**11 - 1)
    assert limiter.limiter.statistics().saturated == 0
    limiter.charge("a", 2)
    assert limiter.limiter.statistics().saturated == 1
    limiter.charge("a", 1)
    assert limiter.limiter.statistics().saturated == 1
    limiter.charge("a", 1)
    assert limiter.limiter.statistics().saturated == 2
    denied = limiter.take("a")
    assert (denied.allowed, denied.remaining) == (False, 0)
    harness.advance(denied.retry_after)
    assert limiter.take("a")


def test_a_bucket_holds_what_a_double_can_tell_apart_and_what_is_above_is_counted(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, BUCKET)
    limiter.charge("a", MOST_IN_BUCKET + 1)
    assert limiter.limiter.statistics().saturated == 1
    assert limiter.remaining() == (10,)
    limiter.charge("a", MOST_IN_BUCKET)
    limiter.charge("a", 1)
    assert limiter.limiter.statistics().saturated == 2
    assert limiter.peek("a").reset_after == MOST_IN_BUCKET * 6
    harness.advance(6)  # a unit drains
    limiter.charge("a", 1)
    assert limiter.limiter.statistics().saturated == 2


def test_what_one_policy_cannot_hold_the_others_are_charged_all_the_same(harness: Harness):  # noqa: F811
    limiter = Reserving(
        harness, SlidingWindow(1000, window=60, name="log"), TokenBucket(1000, window=60, name="bucket")
    )
    limiter.charge("a", {"log": 300, "bucket": 10**11})
    assert limiter.remaining() == (700, 1000)
    assert limiter.limiter.statistics().saturated == 1
    limiter.charge("a", {"log": 100, "bucket": 200})
    assert limiter.remaining() == (600, 800)


def test_what_is_settled_above_the_most_debt_is_left_out(ten: Reserving, harness: Harness):  # noqa: F811
    with ten.reserve("a", 5) as r:
        for _ in range(9):
            ten.charge("a", 10**11)
        ten.charge("a", 10**11 - 100)
        r.settle(10**11)
    ten.charge("a", 1)
    assert ten.limiter.statistics().saturated == 1
    harness.advance(60)
    assert ten.remaining() == (10,)


# What does not charge


def test_what_is_not_limited_is_not_charged(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, LOGS_AND_COUNTS[0], exempt={"root"})
    limiter.charge("root", 50)
    limiter.limiter.enabled = False
    limiter.charge("a", 50)
    limiter.limiter.enabled = True
    assert limiter.remaining("root") == limiter.remaining("a") == (10,)
    with Reserving(harness, LOGS_AND_COUNTS[0]).reserve("root", 10) as r:
        assert r


def test_bad_input_charges_nothing(ten: Reserving):
    for cost in (0, -1, True, 1.5, "5", None, 10**11 + 1, {"nobody": 1}):
        with pytest.raises(InvalidCost):
            ten.charge("a", cost)
    with pytest.raises(InvalidKey):
        ten.charge(5)
    assert ten.remaining() == (10,)


def test_a_closed_limiter_charges_nothing(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, LOGS_AND_COUNTS[0])
    close = getattr(limiter.limiter, "aclose", None) or limiter.limiter.close
    limiter.run(close())
    with pytest.raises(LimiterClosed):
        limiter.charge("a")
    assert Reserving(harness, LOGS_AND_COUNTS[0]).remaining() == (10,)


def test_a_charge_is_no_decision_and_no_limit_of_the_key_holds_it_back(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, LOGS_AND_COUNTS[0], limits={"a": 3, "zero": 0}.get)
    limiter.charge("a", 5)
    limiter.charge("zero", 5)
    assert (limiter.limiter.statistics().allowed, limiter.limiter.statistics().denied) == (0, 0)
    assert limiter.remaining("a") == (0,)
    assert Reserving(harness, LOGS_AND_COUNTS[0]).remaining("zero") == (5,)


def test_a_remembered_denial_keeps_no_charge_from_the_server(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix, denial_ttl=60) as store:
        limiter, wider = (Limiter(SlidingWindow(limit, window=60, name="n"), store=store) for limit in (10, 200))
        limiter.charge("a", 10)
        assert [limiter.take("a").source for _ in range(2)] == ["store", "denial-cache"]
        limiter.charge("a", 90)
        assert wider.peek("a").remaining == 100


@each_policy
def test_what_has_happened_is_charged_under_a_block_too_which_stays(harness: Harness, policy: Any):  # noqa: F811
    limiter = Reserving(harness, policy)
    limiter.charge("a", 2)
    limiter.run(limiter.limiter.block("a", 5))
    for _ in range(45):  # more than a page of a log
        limiter.charge("a")
    denied = limiter.take("a")
    assert (denied.allowed, denied.remaining) == (False, 0)
    assert limiter.limiter.statistics().saturated == 0
    harness.advance(5)
    limiter.run(limiter.limiter.block("a", 0))
    assert limiter.remaining() == (0,)
    limiter.run(limiter.limiter.forget("a"))
    limiter.run(limiter.limiter.block("a", 5))
    limiter.charge("a", 3)
    limiter.run(limiter.limiter.block("a", 0))
    assert limiter.remaining() == (7,)


def test_charges_on_several_blocked_counters_are_entered_in_one_step(harness: Harness):  # noqa: F811
    policies = [SlidingWindow(10, window=60), FixedWindow(10, window=3600), TokenBucket(10, window=600)]
    limiter = Reserving(harness, *policies)
    limiter.run(limiter.limiter.block("a", 5))
    limiter.charge("a", 4)
    limiter.charge("a", 1)
    assert not limiter.take("a")
    limiter.run(limiter.limiter.block("a", 0))
    assert limiter.remaining() == (5, 5, 5)


def test_a_charge_leaves_at_the_pace_of_the_limit_of_its_key(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, TokenBucket(1000, window=6), limits={"a": 10}.get)
    allowed = 0
    for _ in range(60):
        allowed += bool(limiter.take("a"))
        limiter.charge("a")
        harness.advance(0.1)
    assert allowed <= 10  # ten at once and ten more in six seconds, of which the charges took most
