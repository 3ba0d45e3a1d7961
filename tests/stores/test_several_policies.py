"""Several policies of one limiter, decided together, on every store; and keys that are not limited at all."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from sluicegate import (
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.keys import NO_KEY
from sluicegate._core.policy import Policy
from stores.four_policies import KEY, all_of, four, nothing_stored, remaining
from stores.harness import Harness

US = 0.000001
KINDS = ("user", "tenant", "endpoint", "all")


# Together


def test_a_user_a_tenant_an_endpoint_and_all_of_them_are_limited_in_one_decision(harness: Harness):
    limiter = harness.limiter(*four(user=4, tenant=6, endpoint=3, all_=8))
    assert [limiter.allow(KEY) for _ in range(4)] == [True] * 3 + [False]
    assert limiter.take(KEY).policy == "endpoint"
    assert limiter.allow({**KEY, "endpoint": "/refund"})
    assert limiter.take({**KEY, "endpoint": "/refund"}).policy == "user"
    bob = {"user": "bob", "tenant": "acme", "endpoint": "/pay"}
    assert [limiter.allow(bob) for _ in range(3)] == [True, True, False]
    assert limiter.take(bob).policy == "tenant"
    carol = {"user": "carol", "tenant": "other", "endpoint": "/pay"}
    assert [limiter.allow(carol) for _ in range(3)] == [True, True, False]
    assert limiter.take(carol).policy == "all"
    assert remaining(limiter, KEY) == [0, 0, 0, 0]


@pytest.mark.parametrize("denier", range(4), ids=KINDS)
def test_when_one_denies_none_is_charged_whichever_it_is(harness: Harness, denier: int):
    limits = [5] * 4
    limits[denier] = 2
    limiter = harness.limiter(*four(*limits))
    assert limiter.allow(KEY, 2)
    before = all_of(harness, limiter, KEY)
    for _ in range(3):
        decision = limiter.take(KEY)
        assert not decision
        assert [each.allowed for each in decision.decisions] == [n != denier for n in range(4)]
        assert all_of(harness, limiter, KEY) == before
    assert remaining(limiter, KEY) == [0 if n == denier else 3 for n in range(4)]


@pytest.mark.parametrize("denier", range(4), ids=KINDS)
def test_when_one_can_never_allow_it_nothing_is_stored_and_the_wait_has_no_end(harness: Harness, denier: int):
    limits = [5] * 4
    limits[denier] = 2
    limiter = harness.limiter(*four(*limits))
    decision = limiter.take(KEY, 3)
    assert (decision.allowed, decision.policy, decision.retry_after) == (False, KINDS[denier], math.inf)
    assert [each.retry_after for each in decision.decisions] == [math.inf if n == denier else 0 for n in range(4)]
    assert nothing_stored(harness)
    assert limiter.allow(KEY, 2)


def test_when_all_allow_all_are_charged_in_that_same_step(harness: Harness):
    limiter = harness.limiter(*four(user=9, tenant=8, endpoint=7, all_=6))
    decision = limiter.take(KEY, 2)
    assert [(each.policy, each.limit, each.remaining) for each in decision.decisions] == [
        ("user", 9, 7),
        ("tenant", 8, 6),
        ("endpoint", 7, 5),
        ("all", 6, 4),
    ]
    assert all(each.allowed and each.retry_after == 0 and each.source == "store" for each in decision.decisions)
    assert [each.decisions for each in decision.decisions] == [(each,) for each in decision.decisions]
    assert remaining(limiter, KEY) == [7, 6, 5, 4]


def test_one_full_policy_denies_all_keys_that_share_it_and_no_others(harness: Harness):
    limiter = harness.limiter(*four(user=9, tenant=2, endpoint=9, all_=9))
    for user in ("alice", "bob"):
        assert limiter.allow({"user": user, "tenant": "acme", "endpoint": "/"})
    assert not limiter.allow({"user": "carol", "tenant": "acme", "endpoint": "/"})
    assert limiter.allow({"user": "carol", "tenant": "other", "endpoint": "/"})
    assert remaining(limiter, {"user": "alice", "tenant": "acme", "endpoint": "/"}) == [8, 0, 8, 6]


def test_requests_of_one_batch_are_each_taken_whole_or_not_at_all(harness: Harness):
    limiter = harness.limiter(*four(user=1, tenant=9, endpoint=9, all_=9))
    policies = limiter._limiter._plan.policies
    keys = [{**KEY, "user": user} for user in ("alice", "alice", "bob", "alice")]
    answers = harness.decide(*(policies.charges(key) for key in keys))
    assert [[verdict.allowed for verdict in answer] for answer in answers] == [
        [True] * 4,
        [False, True, True, True],
        [True] * 4,
        [False, True, True, True],
    ]
    assert remaining(limiter, KEY) == [0, 7, 8, 7]


def test_eight_policies_are_decided_at_once(harness: Harness):
    policies = [*four(user=9, tenant=8, endpoint=7, all_=6), *four(user=5, tenant=4, endpoint=3, all_=2)]
    for n, policy in enumerate(policies[4:]):
        policies[4 + n] = type(policy)(**_options(policy), name=f"second-{policy.name}")
    limiter = harness.limiter(*policies)
    assert [each.remaining for each in limiter.take(KEY).decisions] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert limiter.take(KEY).policy == "second-all"
    before = all_of(harness, limiter, KEY)
    assert not limiter.allow(KEY)
    assert all_of(harness, limiter, KEY) == before
    assert remaining(limiter, KEY) == [7, 6, 5, 4, 3, 2, 1, 0]


def _options(policy: Policy) -> dict[str, Any]:
    span = {"every": policy.every} if isinstance(policy, CalendarWindow) else {"window": policy.window}
    return {"limit": policy.limit, "per": policy.per, "shared": policy.shared, **span}


# Which one decides


def of_spans(*parts: tuple[str, int, float]) -> list[Policy]:
    return [SlidingWindow(limit, window=window, name=name) for name, limit, window in parts]


def test_allowed_the_policy_with_the_fewest_units_left_decides_the_first_of_equals(harness: Harness):
    limiter = harness.limiter(*of_spans(("a", 9, 60), ("b", 3, 10), ("c", 3, 20)))
    decision = limiter.take("alice")
    assert (decision.policy, decision.limit, decision.remaining, decision.reset_after) == ("b", 3, 2, 10)
    assert (decision.allowed, decision.retry_after) == (True, 0)
    limiter.take("alice")
    harness.advance(10)
    assert limiter.peek("alice").policy == "c"


def test_denied_the_policy_with_the_longest_wait_decides_and_waiting_so_long_is_enough(harness: Harness):
    limiter = harness.limiter(*of_spans(("short", 1, 10), ("long", 2, 60), ("room", 9, 3600)))
    assert limiter.allow("alice")
    assert limiter.take("alice").policy == "short"
    harness.advance(10)
    assert limiter.allow("alice")
    decision = limiter.take("alice")
    assert (decision.policy, decision.limit, decision.remaining, decision.retry_after) == ("long", 2, 0, 50)
    assert [each.retry_after for each in decision.decisions] == [10, 50, 0]
    harness.advance(50 - US)
    assert not limiter.allow("alice")
    harness.advance(US)
    assert limiter.allow("alice")


def test_the_longest_wait_is_found_among_all_kinds_of_policies(harness: Harness):
    harness.advance(-harness.now_us % 60_000_000 / 1_000_000 + 15)  # a quarter past a minute
    limiter = harness.limiter(
        SlidingWindow(1, window=30, name="sliding"),
        TokenBucket(1, window=40, name="bucket"),
        FixedWindow(1, window=60, name="fixed"),
        CalendarWindow(10, every="hour", name="hour"),
    )
    assert limiter.allow("alice")
    decision = limiter.take("alice")
    assert [each.retry_after for each in decision.decisions] == [30, 40, 45, 0]
    assert (decision.policy, decision.retry_after) == ("fixed", 45)
    harness.advance(45 - US)
    assert limiter.take("alice").policy == "fixed"
    harness.advance(US)
    assert limiter.allow("alice")


def test_of_waits_that_are_equal_the_first_policy_decides_and_one_without_end_is_longer_than_any(harness: Harness):
    limiter = harness.limiter(*of_spans(("a", 2, 60), ("b", 2, 60.0), ("c", 1, 60)))
    limiter.take("alice")
    assert limiter.take("alice").policy == "c"
    assert limiter.take("alice", {"a": 2, "b": 2}).policy == "a"
    for name in ("a", "b", "c"):
        decision = limiter.take("alice", {"a": 2, "b": 2, name: 3})
        assert (decision.policy, decision.retry_after) == (name, math.inf)


# Costs by name


def test_a_mapping_of_costs_charges_each_policy_its_own_and_the_others_one(harness: Harness):
    limiter = harness.limiter(*four(user=10, tenant=10, endpoint=10, all_=10))
    decision = limiter.take(KEY, {"tenant": 5, "all": 2})
    assert [each.remaining for each in decision.decisions] == [9, 5, 9, 8]
    assert not limiter.allow(KEY, {"tenant": 6})
    assert remaining(limiter, KEY) == [9, 5, 9, 8]
    assert limiter.allow(KEY, {"tenant": 5, "user": 9})
    assert remaining(limiter, KEY) == [0, 0, 8, 7]


def test_a_cost_that_is_wrong_under_one_name_charges_no_policy(harness: Harness):
    limiter = harness.limiter(*four())
    for cost in ({"user": 1, "tenant": 0}, {"all": True}, {"users": 1}, {"user": {"user": 1}}):
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidCost):
                ask(KEY, cost)
    assert nothing_stored(harness)


def test_a_key_that_lacks_what_one_policy_counts_by_charges_no_policy(harness: Harness):
    limiter = harness.limiter(*four())
    for key in ({"user": "alice", "tenant": "acme"}, {**KEY, "ip": "::1"}, {**KEY, "endpoint": 5}, "alice"):
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidKey):
                ask(key)
    assert nothing_stored(harness)


# Rate strings


def test_a_rate_string_of_two_rates_is_two_policies(harness: Harness):
    limiter = harness.limiter("5/hour;3/minute")
    assert [limiter.allow("alice") for _ in range(4)] == [True] * 3 + [False]
    assert limiter.take("alice").policy == "sliding-window-60s"
    harness.advance(60)
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]
    decision = limiter.take("alice")
    assert (decision.policy, decision.retry_after) == ("sliding-window-3600s", 3540)
    assert [each.limit for each in decision.decisions] == [5, 3]


# Looking and forgetting


def test_a_peek_charges_no_policy(harness: Harness):
    limiter = harness.limiter(*four())
    assert [limiter.peek(KEY, 5).allowed for _ in range(3)] == [True] * 3
    assert not limiter.peek(KEY, 6)
    assert nothing_stored(harness)
    limiter.take(KEY, 2)
    before = all_of(harness, limiter, KEY)
    decision = limiter.peek(KEY, {"tenant": 4})
    assert [each.allowed for each in decision.decisions] == [True, False, True, True]
    assert all_of(harness, limiter, KEY) == before


def test_a_whole_key_forgets_all_but_what_is_shared(harness: Harness):
    limiter = harness.limiter(*four())
    limiter.take(KEY, 2)
    limiter.take({**KEY, "user": "bob"}, 2)
    limiter.forget(KEY)
    assert remaining(limiter, KEY) == [5, 5, 5, 1]
    assert remaining(limiter, {**KEY, "user": "bob"}) == [3, 5, 3, 1]


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ({"user": "alice"}, [5, 3, 3, 3]),
        ({"tenant": "acme"}, [3, 5, 3, 3]),
        ({"user": "alice", "endpoint": "/pay"}, [5, 3, 5, 3]),
        ({"tenant": "acme", "endpoint": "/pay"}, [3, 5, 3, 3]),
        ({"user": "bob", "endpoint": "/pay"}, [3, 3, 3, 3]),
    ],
    ids=str,
)
def test_a_part_of_a_key_forgets_what_is_counted_by_it_alone(harness: Harness, part: dict[str, str], left: list[int]):
    limiter = harness.limiter(*four())
    limiter.take(KEY, 2)
    limiter.forget(part)
    assert remaining(limiter, KEY) == left


def test_a_part_that_no_policy_counts_by_forgets_and_blocks_nothing(harness: Harness):
    limiter = harness.limiter(*four())
    limiter.take(KEY, 2)
    before = all_of(harness, limiter, KEY)
    for part in ({"endpoint": "/pay"}, {}, {"ip": "::1"}, {"user": "alice", "ip": "::1"}, "alice"):
        with pytest.raises(InvalidKey):
            limiter.forget(part)
        with pytest.raises(InvalidKey):
            limiter.block(part, 60)
    assert all_of(harness, limiter, KEY) == before


def test_what_is_shared_by_all_is_neither_forgotten_nor_blocked(harness: Harness):
    limiter = harness.limiter(SlidingWindow(5, window=60, shared=True, name="all"))
    limiter.take("alice", 2)
    limiter.take("bob", 2)
    for key, ask in itertools.product(("alice", {}), (limiter.forget, lambda key: limiter.block(key, 60))):
        with pytest.raises(
            InvalidKey, match="all policies of this limiter are shared, and a shared policy cannot be blocked or forgot"
        ):
            ask(key)
    assert limiter.take("carol").remaining == 0
    mixed = harness.limiter(
        SlidingWindow(5, window=60, name="own"), SlidingWindow(5, window=60, shared=True, name="all")
    )
    mixed.forget("alice")
    assert remaining(mixed, "alice") == [5, 0]


def test_policies_that_are_all_shared_need_no_key(harness: Harness):
    shared = [SlidingWindow(5, window=60, shared=True, name="all"), TokenBucket(9, window=60, shared=True)]
    limiter = harness.limiter(*shared)
    assert limiter.allow() is True
    assert limiter.take(cost=2).remaining == 2
    assert limiter.take("alice").remaining == limiter.take({}).remaining + 1 == 1
    assert limiter.peek() == limiter.peek("alice")
    assert limiter.allow() is False


def test_units_in_place_of_a_key_that_is_not_needed_are_refused_with_cost(harness: Harness):
    limiter = harness.limiter(SlidingWindow(5, window=60, shared=True, name="all"), limits=lambda _: None)
    for ask in (limiter.allow, limiter.take, limiter.peek):
        with pytest.raises(InvalidKey, match=r"are shared, and need none; for a cost write take\(cost=3\)$"):
            ask(3)
    with pytest.raises(InvalidKey, match="a shared policy cannot be blocked or forgotten"):
        limiter.forget(3)
    assert limiter.take(cost=3).remaining == 2


def test_a_call_without_a_key_can_be_looked_up_by_functions_of_a_key(harness: Harness):
    plans: dict[object, int] = {"alice": 2}
    limiter = harness.limiter(
        SlidingWindow(5, window=60, shared=True, name="all"),
        limits=plans.get,
        limits_ttl=0,
        exempt={"bob"}.__contains__,
    )
    assert (limiter.take().limit, limiter.take("alice").limit, limiter.take("bob").source) == (5, 2, "bypass")
    plans[NO_KEY] = 3
    assert limiter.take().limit == 3
    assert {} == NO_KEY != {"user": "alice"}
    assert (dict(NO_KEY), bool(NO_KEY), repr(NO_KEY)) == ({}, False, "{}")


def test_other_policies_need_a_key_and_the_error_says_which(harness: Harness):
    everybody = SlidingWindow(9, window=60, shared=True, name="all")
    plain = "key must be a str, got none: policy own counts by a plain key"
    parts = "key must be a mapping with user, as policy each counts by user; got one with none"
    for policies, said, attribute in (
        ([SlidingWindow(5, window=60, name="own")], plain, None),
        ([everybody, SlidingWindow(5, window=60, name="own")], plain, None),
        ([everybody, SlidingWindow(5, window=60, name="each", per="user")], parts, "user"),
    ):
        limiter = harness.limiter(*policies)
        for ask in (limiter.allow, limiter.take, limiter.peek):
            with pytest.raises(InvalidKey, match=said) as caught:
                ask()
            assert (caught.value.policy, caught.value.attribute) == (policies[-1].name, attribute)
    assert nothing_stored(harness)


def test_a_block_on_a_part_of_a_key_denies_every_request_that_is_counted_by_it(harness: Harness):
    limiter = harness.limiter(*four())
    limiter.take(KEY, 2)
    limiter.block({"user": "alice"}, 100)
    for key in (KEY, {**KEY, "tenant": "other", "endpoint": "/other"}):
        decision = limiter.take(key)
        assert (decision.allowed, decision.policy, decision.remaining, decision.retry_after) == (False, "user", 0, 100)
    assert [each.remaining for each in limiter.peek(KEY).decisions] == [0, 3, 3, 3]
    assert limiter.allow({**KEY, "user": "bob"})
    harness.advance(100)
    assert limiter.allow(KEY)


def test_allow_takes_a_mapping_of_costs_as_take_does(harness: Harness):
    limiter = harness.limiter("5/minute")
    assert limiter.allow("alice", {"sliding-window-60s": 4})
    assert limiter.peek("alice").remaining == 1
    with pytest.raises(InvalidCost, match="no policy of this limiter is named 'x'"):
        limiter.allow("alice", {"x": 1})
    with pytest.raises(InvalidCost, match="cost of policy sliding-window-60s must be"):
        limiter.allow("alice", {"sliding-window-60s": 0})


def test_allow_says_of_a_key_what_take_says(harness: Harness):
    limiter = harness.limiter("5/minute")
    for ask in (limiter.allow, limiter.take):
        with pytest.raises(InvalidKey, match="for a mapping give it a per=") as caught:
            ask({"user": "alice"})
        assert caught.value.policy == "sliding-window-60s"
