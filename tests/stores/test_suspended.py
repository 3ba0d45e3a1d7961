"""Keys whose limit is 0: denied without the store, until their plan changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from sluicegate import CalendarWindow, FixedWindow, InvalidPolicy, Limiter, Outcomes, SlidingWindow, TokenBucket
from sluicegate._core.policy import Policy
from sluicegate.web import headers, problem
from stores.four_policies import KEY, four, nothing_stored
from stores.harness import Harness

KINDS = [
    SlidingWindow(5, window=60, name="plan"),
    SlidingWindow(5, window=60, buckets=6, name="plan"),
    TokenBucket(5, window=60, burst=3, name="plan"),
    FixedWindow(5, window=60, name="plan"),
    CalendarWindow(5, every="day", name="plan"),
]


@pytest.mark.parametrize("policy", KINDS, ids=repr)
def test_a_limit_of_0_denies_all_and_is_decided_without_the_store(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy, limits=lambda key: 0 if key == "mallory" else None)
    for cost in (1, 5, 10**11):
        assert limiter.allow("mallory", cost) is False
        for decision in (limiter.take("mallory", cost), limiter.peek("mallory", cost)):
            assert (decision.allowed, decision.policy, decision.limit, decision.remaining) == (False, "plan", 0, 0)
            assert (decision.retry_after, decision.reset_after, decision.source) == (math.inf, 0.0, "fallback")
            assert decision.decisions == (decision,)
    assert nothing_stored(harness)
    assert limiter.take("alice").limit == 5
    statistics = limiter._limiter.statistics()
    assert statistics.by_source == {"fallback": Outcomes(0, 6), "store": Outcomes(1, 0)}
    assert (statistics.allowed, statistics.denied, statistics.errors) == (1, 6, 0)


def test_a_limit_of_0_is_decided_while_the_store_is_down():
    with Limiter("2/minute", store="redis://127.0.0.1:1/0", limits=lambda _: 0) as limiter:
        assert limiter.allow("mallory") is False
        assert limiter.take("mallory").retry_after == math.inf


def test_what_was_counted_is_there_again_when_the_plan_is(harness: Harness):
    plan = {"alice": 5}
    limiter = harness.limiter(SlidingWindow(1, window=60), limits=plan.get, limits_ttl=0)
    assert limiter.take("alice", 3).remaining == 2
    plan["alice"] = 0
    assert not limiter.allow("alice")
    plan["alice"] = 5
    assert limiter.peek("alice").remaining == 2


def test_of_several_policies_one_with_a_limit_of_0_denies_the_whole_request(harness: Harness):
    limiter = harness.limiter(*four(), limits=lambda _: {"tenant": 0, "endpoint": 7})
    decision = limiter.take(KEY)
    assert (decision.allowed, decision.policy, decision.limit) == (False, "tenant", 0)
    assert [(each.policy, each.limit, each.allowed, each.remaining) for each in decision.decisions] == [
        ("user", 5, True, 0),
        ("tenant", 0, False, 0),
        ("endpoint", 7, True, 0),
        ("all", 5, True, 0),
    ]
    assert nothing_stored(harness)


def test_a_key_that_is_exempt_is_allowed_whatever_its_limit(harness: Harness):
    limiter = harness.limiter("2/minute", limits=lambda _: 0, exempt={"root"})
    assert limiter.take("root").allowed
    assert not limiter.take("alice").allowed


@pytest.mark.parametrize("limit", [-1, False, 0.0, "0"])
def test_nothing_but_0_is_taken_for_it(harness: Harness, limit: Any):
    with pytest.raises(InvalidPolicy):
        harness.limiter("2/minute", limits=lambda _: limit).take("alice")


@pytest.mark.parametrize("policy", KINDS, ids=repr)
def test_no_policy_is_built_with_a_limit_of_0(policy: Policy):
    with pytest.raises(InvalidPolicy, match="limit must be a whole number from 1 to 100000000000, got 0"):
        policy.with_limit(0)


def test_the_response_has_a_quota_of_0_and_no_retry_after():
    def suspended(_: Mapping[str, str] | str) -> dict[str, int]:
        return {"second": 0}

    limiter = Limiter(
        SlidingWindow(5, window=60, name="minute"), FixedWindow(5, window=0.1, name="second"), limits=suspended
    )
    denied = limiter.take("mallory")
    assert headers.fields(denied, limiter.policies) == {
        "RateLimit-Policy": '"minute";q=5;w=60, "second";q=0;w=1',
        "RateLimit": '"minute";r=0, "second";r=0',
    }
    document = problem.quota_exceeded(denied).document()
    assert document["detail"] == "Denied by policy second, whose limit is 0. No request is allowed."
    assert document["violated-policies"] == ["second"]
