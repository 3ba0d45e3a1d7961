"""Several policies of one limiter, decided together, on every store; and keys that are not limited at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from sluicegate import (
    AsyncLimiter,
    CalendarWindow,
    Decision,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    Limiter,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.policy import Policy
from stores.rigs import Face, Rig

US = 0.000001
KEY = {"user": "alice", "tenant": "acme", "endpoint": "/pay"}
KINDS = ("user", "tenant", "endpoint", "all")


def four(user: int = 5, tenant: int = 5, endpoint: int = 5, all_: int = 5) -> list[Policy]:
    """One of each kind, each counted by something else."""
    return [
        TokenBucket(user, window=60, per="user", name="user"),
        SlidingWindow(tenant, window=60, per="tenant", name="tenant"),
        FixedWindow(endpoint, window=60, per=("user", "endpoint"), name="endpoint"),
        CalendarWindow(all_, every="day", shared=True, name="all"),
    ]


def remaining(limiter: Face, key: Mapping[str, str] | str) -> list[int]:
    return [each.remaining for each in limiter.peek(key).decisions]


def all_of(rig: Rig, limiter: Face, key: Mapping[str, str] | str) -> tuple[Any, ...]:
    """Return all that can be seen of what is counted for a key: on a server the bytes, too."""
    return limiter.peek(key).decisions, rig.stored() if rig.kind == "redis" else len(rig.store)


def nothing_stored(rig: Rig) -> bool:
    return not (rig.stored() if rig.kind == "redis" else len(rig.store))


# Together


def test_a_user_a_tenant_an_endpoint_and_all_of_them_are_limited_in_one_decision(rig: Rig):
    limiter = rig.limiter(*four(user=4, tenant=6, endpoint=3, all_=8))
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
def test_when_one_denies_none_is_charged_whichever_it_is(rig: Rig, denier: int):
    limits = [5] * 4
    limits[denier] = 2
    limiter = rig.limiter(*four(*limits))
    assert limiter.allow(KEY, 2)
    before = all_of(rig, limiter, KEY)
    for _ in range(3):
        decision = limiter.take(KEY)
        assert not decision
        assert [each.allowed for each in decision.decisions] == [n != denier for n in range(4)]
        assert all_of(rig, limiter, KEY) == before
    assert remaining(limiter, KEY) == [0 if n == denier else 3 for n in range(4)]


@pytest.mark.parametrize("denier", range(4), ids=KINDS)
def test_when_one_can_never_allow_it_nothing_is_stored_and_the_wait_has_no_end(rig: Rig, denier: int):
    limits = [5] * 4
    limits[denier] = 2
    limiter = rig.limiter(*four(*limits))
    decision = limiter.take(KEY, 3)
    assert (decision.allowed, decision.policy, decision.retry_after) == (False, KINDS[denier], math.inf)
    assert [each.retry_after for each in decision.decisions] == [math.inf if n == denier else 0 for n in range(4)]
    assert nothing_stored(rig)
    assert limiter.allow(KEY, 2)


def test_when_all_allow_all_are_charged_in_that_same_step(rig: Rig):
    limiter = rig.limiter(*four(user=9, tenant=8, endpoint=7, all_=6))
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


def test_one_full_policy_denies_all_keys_that_share_it_and_no_others(rig: Rig):
    limiter = rig.limiter(*four(user=9, tenant=2, endpoint=9, all_=9))
    for user in ("alice", "bob"):
        assert limiter.allow({"user": user, "tenant": "acme", "endpoint": "/"})
    assert not limiter.allow({"user": "carol", "tenant": "acme", "endpoint": "/"})
    assert limiter.allow({"user": "carol", "tenant": "other", "endpoint": "/"})
    assert remaining(limiter, {"user": "alice", "tenant": "acme", "endpoint": "/"}) == [8, 0, 8, 6]


def test_requests_of_one_batch_are_each_taken_whole_or_not_at_all(rig: Rig):
    limiter = rig.limiter(*four(user=1, tenant=9, endpoint=9, all_=9))
    policies = limiter._limiter._policies
    keys = [{**KEY, "user": user} for user in ("alice", "alice", "bob", "alice")]
    answers = rig.decide(*(policies.charges(key) for key in keys))
    assert [[verdict.allowed for verdict in answer] for answer in answers] == [
        [True] * 4,
        [False, True, True, True],
        [True] * 4,
        [False, True, True, True],
    ]
    assert remaining(limiter, KEY) == [0, 7, 8, 7]


def test_eight_policies_are_decided_at_once(rig: Rig):
    policies = [*four(user=9, tenant=8, endpoint=7, all_=6), *four(user=5, tenant=4, endpoint=3, all_=2)]
    for n, policy in enumerate(policies[4:]):
        policies[4 + n] = type(policy)(**_options(policy), name=f"second-{policy.name}")
    limiter = rig.limiter(*policies)
    assert [each.remaining for each in limiter.take(KEY).decisions] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert limiter.take(KEY).policy == "second-all"
    before = all_of(rig, limiter, KEY)
    assert not limiter.allow(KEY)
    assert all_of(rig, limiter, KEY) == before
    assert remaining(limiter, KEY) == [7, 6, 5, 4, 3, 2, 1, 0]


def _options(policy: Policy) -> dict[str, Any]:
    span = {"every": policy.every} if isinstance(policy, CalendarWindow) else {"window": policy.window}
    return {"limit": policy.limit, "per": policy.per, "shared": policy.shared, **span}


# Which one decides


def of_spans(*parts: tuple[str, int, float]) -> list[Policy]:
    return [SlidingWindow(limit, window=window, name=name) for name, limit, window in parts]


def test_allowed_the_policy_with_the_fewest_units_left_decides_the_first_of_equals(rig: Rig):
    limiter = rig.limiter(*of_spans(("a", 9, 60), ("b", 3, 10), ("c", 3, 20)))
    decision = limiter.take("alice")
    assert (decision.policy, decision.limit, decision.remaining, decision.reset_after) == ("b", 3, 2, 10)
    assert (decision.allowed, decision.retry_after) == (True, 0)
    limiter.take("alice")
    rig.advance(10)
    assert limiter.peek("alice").policy == "c"


def test_denied_the_policy_with_the_longest_wait_decides_and_waiting_so_long_is_enough(rig: Rig):
    limiter = rig.limiter(*of_spans(("short", 1, 10), ("long", 2, 60), ("room", 9, 3600)))
    assert limiter.allow("alice")
    assert limiter.take("alice").policy == "short"
    rig.advance(10)
    assert limiter.allow("alice")
    decision = limiter.take("alice")
    assert (decision.policy, decision.limit, decision.remaining, decision.retry_after) == ("long", 2, 0, 50)
    assert [each.retry_after for each in decision.decisions] == [10, 50, 0]
    rig.advance(50 - US)
    assert not limiter.allow("alice")
    rig.advance(US)
    assert limiter.allow("alice")


def test_the_longest_wait_is_found_among_all_kinds_of_policies(rig: Rig):
    rig.advance(-rig.now_us % 60_000_000 / 1_000_000 + 15)  # a quarter past a minute
    limiter = rig.limiter(
        SlidingWindow(1, window=30, name="sliding"),
        TokenBucket(1, window=40, name="bucket"),
        FixedWindow(1, window=60, name="fixed"),
        CalendarWindow(10, every="hour", name="hour"),
    )
    assert limiter.allow("alice")
    decision = limiter.take("alice")
    assert [each.retry_after for each in decision.decisions] == [30, 40, 45, 0]
    assert (decision.policy, decision.retry_after) == ("fixed", 45)
    rig.advance(45 - US)
    assert limiter.take("alice").policy == "fixed"
    rig.advance(US)
    assert limiter.allow("alice")


def test_of_waits_that_are_equal_the_first_policy_decides_and_one_without_end_is_longer_than_any(rig: Rig):
    limiter = rig.limiter(*of_spans(("a", 2, 60), ("b", 2, 60.0), ("c", 1, 60)))
    limiter.take("alice")
    assert limiter.take("alice").policy == "c"
    assert limiter.take("alice", {"a": 2, "b": 2}).policy == "a"
    for name in ("a", "b", "c"):
        decision = limiter.take("alice", {"a": 2, "b": 2, name: 3})
        assert (decision.policy, decision.retry_after) == (name, math.inf)


# Costs by name


def test_a_mapping_of_costs_charges_each_policy_its_own_and_the_others_one(rig: Rig):
    limiter = rig.limiter(*four(user=10, tenant=10, endpoint=10, all_=10))
    decision = limiter.take(KEY, {"tenant": 5, "all": 2})
    assert [each.remaining for each in decision.decisions] == [9, 5, 9, 8]
    assert not limiter.allow(KEY, {"tenant": 6})
    assert remaining(limiter, KEY) == [9, 5, 9, 8]
    assert limiter.allow(KEY, {"tenant": 5, "user": 9})
    assert remaining(limiter, KEY) == [0, 0, 8, 7]


def test_a_cost_that_is_wrong_under_one_name_charges_no_policy(rig: Rig):
    limiter = rig.limiter(*four())
    for cost in ({"user": 1, "tenant": 0}, {"all": True}, {"users": 1}, {"user": {"user": 1}}):
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidCost):
                ask(KEY, cost)
    assert nothing_stored(rig)


def test_a_key_that_lacks_what_one_policy_counts_by_charges_no_policy(rig: Rig):
    limiter = rig.limiter(*four())
    for key in ({"user": "alice", "tenant": "acme"}, {**KEY, "ip": "::1"}, {**KEY, "endpoint": 5}, "alice"):
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidKey):
                ask(key)
    assert nothing_stored(rig)


# Rate strings


def test_a_rate_string_of_two_rates_is_two_policies(rig: Rig):
    limiter = rig.limiter("5/hour;3/minute")
    assert [limiter.allow("alice") for _ in range(4)] == [True] * 3 + [False]
    assert limiter.take("alice").policy == "sliding-window-60s"
    rig.advance(60)
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]
    decision = limiter.take("alice")
    assert (decision.policy, decision.retry_after) == ("sliding-window-3600s", 3540)
    assert [each.limit for each in decision.decisions] == [5, 3]


# Looking and forgetting


def test_a_peek_charges_no_policy(rig: Rig):
    limiter = rig.limiter(*four())
    assert [limiter.peek(KEY, 5).allowed for _ in range(3)] == [True] * 3
    assert not limiter.peek(KEY, 6)
    assert nothing_stored(rig)
    limiter.take(KEY, 2)
    before = all_of(rig, limiter, KEY)
    decision = limiter.peek(KEY, {"tenant": 4})
    assert [each.allowed for each in decision.decisions] == [True, False, True, True]
    assert all_of(rig, limiter, KEY) == before


def test_a_whole_key_forgets_all_but_what_is_shared(rig: Rig):
    limiter = rig.limiter(*four())
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
def test_a_part_of_a_key_forgets_what_is_counted_by_it_alone(rig: Rig, part: dict[str, str], left: list[int]):
    limiter = rig.limiter(*four())
    limiter.take(KEY, 2)
    limiter.forget(part)
    assert remaining(limiter, KEY) == left


def test_a_part_that_no_policy_counts_by_forgets_and_blocks_nothing(rig: Rig):
    limiter = rig.limiter(*four())
    limiter.take(KEY, 2)
    before = all_of(rig, limiter, KEY)
    for part in ({"endpoint": "/pay"}, {}, {"ip": "::1"}, {"user": "alice", "ip": "::1"}, "alice"):
        with pytest.raises(InvalidKey):
            limiter.forget(part)
        with pytest.raises(InvalidKey):
            limiter.block(part, 60)
    assert all_of(rig, limiter, KEY) == before


def test_what_is_shared_by_all_is_neither_forgotten_nor_blocked(rig: Rig):
    limiter = rig.limiter(SlidingWindow(5, window=60, shared=True, name="all"))
    limiter.take("alice", 2)
    limiter.take("bob", 2)
    limiter.forget("alice")
    for key in ("alice", {}):
        with pytest.raises(InvalidKey, match="all are shared, and cannot be under a block"):
            limiter.block(key, 60)
    assert limiter.take("carol").remaining == 0
    mixed = rig.limiter(SlidingWindow(5, window=60, name="own"), SlidingWindow(5, window=60, shared=True, name="all"))
    mixed.forget("alice")
    assert remaining(mixed, "alice") == [5, 0]


def test_a_block_on_a_part_of_a_key_denies_every_request_that_is_counted_by_it(rig: Rig):
    limiter = rig.limiter(*four())
    limiter.take(KEY, 2)
    limiter.block({"user": "alice"}, 100)
    for key in (KEY, {**KEY, "tenant": "other", "endpoint": "/other"}):
        decision = limiter.take(key)
        assert (decision.allowed, decision.policy, decision.remaining, decision.retry_after) == (False, "user", 0, 100)
    assert [each.remaining for each in limiter.peek(KEY).decisions] == [0, 3, 3, 3]
    assert limiter.allow({**KEY, "user": "bob"})
    rig.advance(100)
    assert limiter.allow(KEY)


# Switched off


def passed(rig: Rig, decision: Decision, policies: list[Policy]) -> None:
    """Check a decision on a request that is not limited."""
    assert (decision.allowed, decision.source, decision.retry_after, decision.reset_after) == (True, "bypass", 0, 0)
    assert [(each.policy, each.limit, each.remaining) for each in decision.decisions] == [
        (policy.name, policy.limit, policy.burst) for policy in policies
    ]
    assert all(each.source == "bypass" and each.allowed for each in decision.decisions)
    assert nothing_stored(rig)


@pytest.mark.parametrize(
    ("policies", "key"),
    [
        (four(user=4, tenant=3, endpoint=2, all_=1), KEY),
        ([SlidingWindow(2, window=60)], "alice"),
        ([TokenBucket(2, window=60, burst=7)], "alice"),
    ],
    ids=["four", "one", "bucket"],
)
def test_a_limiter_that_is_off_allows_all_and_stores_nothing(rig: Rig, policies: list[Policy], key):
    limiter = rig.limiter(*policies, enabled=False)
    assert limiter._limiter.enabled is False
    for cost in (1, 5, 10**11):
        assert limiter.allow(key, cost) is True
        for decision in (limiter.take(key, cost), limiter.peek(key, cost)):
            passed(rig, decision, policies)
            assert decision.policy == min(policies, key=lambda policy: policy.burst).name


@pytest.mark.parametrize("policies", [["2/minute"], ["2/minute", "9/hour"]], ids=["one", "two"])
def test_a_limiter_can_be_switched_off_and_on_while_it_is_used(rig: Rig, policies: list[str]):
    limiter = rig.limiter(*policies)
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]
    for _ in range(2):
        limiter._limiter.enabled = False
        assert [limiter.allow("alice") for _ in range(3)] == [True] * 3
        assert limiter.take("alice").source == limiter.peek("alice").source == "bypass"
        limiter._limiter.enabled = True
        assert [limiter.allow("alice") for _ in range(3)] == [False] * 3
        assert limiter.take("alice").source == limiter.peek("alice").source == "store"
    rig.advance(60)
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]


def test_a_limiter_made_off_limits_once_it_is_switched_on(rig: Rig):
    limiter = rig.limiter("2/minute", enabled=False)
    assert [limiter.allow("alice") for _ in range(3)] == [True] * 3
    limiter._limiter.enabled = True
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]


def test_the_quick_way_of_allow_goes_and_comes_with_the_switch():
    limiter = Limiter("2/minute")
    assert "allow" in vars(limiter)
    limiter.enabled = False
    assert "allow" not in vars(limiter)
    limiter.enabled = True
    assert "allow" in vars(limiter)
    for slow in (
        Limiter("2/minute", enabled=False),
        Limiter("2/minute", exempt={"root"}),
        Limiter("2/minute", limits=lambda _: 1),
    ):
        assert "allow" not in vars(slow)
        slow.enabled = True
        assert ("allow" in vars(slow)) == (slow._exempt is None and slow._limits is None)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("on", [None, 0, 1, "yes", "off"], ids=repr)
def test_a_switch_is_on_or_off_and_nothing_else(limiter, on):
    with pytest.raises(InvalidPolicy, match="enabled must be True or False, got "):
        limiter("2/minute", enabled=on)
    made = limiter("2/minute")
    with pytest.raises(InvalidPolicy, match="enabled must be True or False, got "):
        made.enabled = on
    assert made.enabled is True


@pytest.mark.parametrize("options", [{"enabled": False}, {"exempt": lambda _: True}], ids=["off", "exempt"])
def test_what_is_no_key_or_cost_is_refused_all_the_same(rig: Rig, options: dict[str, Any]):
    plain, four_ = rig.limiter("2/minute", **options), rig.limiter(*four(), **options)
    for limiter, key in ((plain, b"alice"), (plain, KEY), (plain, "\ud800"), (four_, "alice"), (four_, {"user": "a"})):
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidKey):
                ask(key)
    for limiter, key, cost in ((plain, "alice", 0), (plain, "alice", {"x": 1}), (four_, KEY, {"user": 0})):
        for ask in (limiter.take, limiter.allow, limiter.peek):
            with pytest.raises(InvalidCost):
                ask(key, cost)


def test_a_limiter_that_is_off_asks_neither_its_store_nor_its_functions():
    def never(key):
        raise AssertionError(key)

    with Limiter("2/minute", store="redis://127.0.0.1:1/0", limits=never, exempt=never, enabled=False) as limiter:
        assert limiter.take("alice").source == "bypass"


def test_a_limiter_that_is_off_still_forgets_and_blocks(rig: Rig):
    limiter = rig.limiter("2/minute")
    limiter.take("alice", 2)
    limiter._limiter.enabled = False
    limiter.forget("alice")
    limiter.block("bob", 60)
    assert limiter.allow("bob")
    limiter._limiter.enabled = True
    assert limiter.allow("alice")
    assert not limiter.allow("bob")


# Exempt keys


def test_a_collection_of_plain_keys_is_never_limited(rig: Rig):
    for exempt in ({"root"}, frozenset({"root"}), ["root"], ("root",), {"root": 1}.keys()):
        limiter = rig.limiter("1/minute", exempt=exempt)
        assert [limiter.allow("root", 5) for _ in range(3)] == [True] * 3
        passed(rig, limiter.take("root"), [SlidingWindow(1, window=60)])
    assert [limiter.allow("alice") for _ in range(2)] == [True, False]


def test_a_mapping_from_attributes_to_values_exempts_each_key_that_has_one_of_them(rig: Rig):
    policies = four(user=1, tenant=1, endpoint=1, all_=2)
    limiter = rig.limiter(*policies, exempt={"user": {"root", "health"}, "tenant": ["ours"]})
    for key in ({**KEY, "user": "root"}, {**KEY, "user": "health"}, {**KEY, "tenant": "ours"}):
        assert [limiter.allow(key) for _ in range(3)] == [True] * 3
        passed(rig, limiter.peek(key), policies)
    assert [limiter.allow(KEY) for _ in range(2)] == [True, False]
    assert not limiter.allow({**KEY, "tenant": "root"})  # another attribute's value


def test_a_function_of_the_key_exempts_those_that_it_says(rig: Rig):
    asked = []

    def exempt(key):
        asked.append(key)
        return key.startswith("probe-")

    limiter = rig.limiter("1/minute", exempt=exempt)
    assert [limiter.allow("probe-1") for _ in range(3)] == [True] * 3
    passed(rig, limiter.take("probe-1"), [SlidingWindow(1, window=60)])
    assert [limiter.allow("alice") for _ in range(2)] == [True, False]
    assert asked == ["probe-1"] * 4 + ["alice"] * 2
    several = rig.limiter(*four(user=1), exempt=lambda key: key is KEY)
    assert [several.allow(KEY) for _ in range(3)] == [True] * 3
    assert [several.allow(dict(KEY)) for _ in range(2)] == [True, False]


def test_what_a_function_says_is_taken_as_true_or_false(rig: Rig):
    limiter = rig.limiter("1/minute", exempt={"root": "yes", "nobody": ""}.get)
    assert [limiter.allow("root") for _ in range(3)] == [True] * 3
    for key in ("nobody", "alice"):
        assert [limiter.allow(key) for _ in range(2)] == [True, False]


def test_what_the_function_raises_goes_through_and_nothing_is_charged(rig: Rig):
    limiter = rig.limiter("1/minute", exempt=lambda key: 1 / 0)
    for ask in (limiter.take, limiter.allow, limiter.peek):
        with pytest.raises(ZeroDivisionError):
            ask("alice")
    assert nothing_stored(rig)


def test_who_is_exempt_may_change_at_any_time(rig: Rig):
    exempt, by_user = set(), {"user": set()}
    plain, several = rig.limiter("1/minute", exempt=exempt), rig.limiter(*four(user=1), exempt=by_user)
    for limiter, key, users in ((plain, "alice", exempt), (several, KEY, by_user["user"])):
        assert [limiter.allow(key) for _ in range(2)] == [True, False]
        users.add("alice")
        assert [limiter.allow(key) for _ in range(3)] == [True] * 3
        users.clear()
        assert not limiter.allow(key)
    by_user["tenant"] = {"acme"}
    assert several.allow(KEY)


def test_an_empty_exemption_exempts_nobody(rig: Rig):
    for exempt in (set(), [], {}, lambda _: False):
        limiter = rig.limiter("1/minute", exempt=exempt)
        assert [limiter.allow("alice") for _ in range(2)] == [True, False]
        limiter.forget("alice")


NO_EXEMPT = ["alice", "", 5, True, (key for key in "ab"), object(), {"alice": {"x"}}, {"alice"}.__iter__()]


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("exempt", NO_EXEMPT, ids=lambda each: repr(each)[:20])
def test_what_could_exempt_no_plain_key_is_refused(limiter, exempt):
    with pytest.raises(
        InvalidPolicy, match=r"exempt (must be a collection of keys, or a function|names attribute 'al)"
    ):
        limiter("1/minute", exempt=exempt)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    ("exempt", "said"),
    [
        (
            {"alice"},
            r"must be a mapping from attributes to values, such as {'user': {\.\.\.}}, as the keys are mappings",
        ),
        (["alice"], "must be a mapping from attributes to values"),
        ("alice", "must be a collection of keys, or a function of a key, got 'alice'"),
        ({"ip": {"::1"}}, "names attribute 'ip', the policies count by user, tenant, endpoint"),
        ({"user": {"alice"}, "users": {"bob"}}, "names attribute 'users', the policies count by"),
        ({5: {"alice"}}, "names attribute 5, the policies count by"),
        ({"user": "alice"}, "must have a collection of values for user, got 'alice'"),
        ({"user": None}, "must have a collection of values for user, got None"),
        ({"user": iter(["alice"])}, "must have a collection of values for user, got <list_iterator"),
    ],
    ids=lambda each: each[:20] if isinstance(each, str) else "",
)
def test_what_could_exempt_no_key_with_attributes_is_refused(limiter, exempt, said: str):
    with pytest.raises(InvalidPolicy, match=f"exempt {said}"):
        limiter(*four(), exempt=exempt)


def test_an_exempt_key_is_allowed_under_a_block_and_without_a_limit_of_its_own(rig: Rig):
    asked = []

    def limits(key):
        asked.append(key)
        return 1

    exempt = {"root"}
    limiter = rig.limiter("9/minute", limits=limits, limits_ttl=0, exempt=exempt)
    for key in ("root", "alice"):
        limiter.block(key, 60)
    assert [limiter.allow("root") for _ in range(3)] == [True] * 3
    assert limiter.take("root").limit == 9
    assert asked == []
    assert limiter.take("alice").retry_after == 60
    exempt.clear()
    decision = limiter.take("root")
    assert (decision.allowed, decision.limit, decision.remaining, decision.retry_after) == (False, 1, 0, 60)
    assert asked == ["alice", "root"]
    rig.advance(60)
    assert [limiter.allow("root") for _ in range(2)] == [True, False]


def test_a_store_that_two_limiters_share_counts_for_the_one_that_exempts_nobody():
    store = MemoryStore()
    lenient, strict = Limiter("1/minute", store=store, exempt={"root"}), Limiter("1/minute", store=store)
    assert [lenient.allow("root") for _ in range(3)] == [True] * 3
    assert [strict.allow("root") for _ in range(2)] == [True, False]
    assert lenient.allow("root")


def test_allow_takes_a_mapping_of_costs_as_take_does(rig: Rig):
    limiter = rig.limiter("5/minute")
    assert limiter.allow("alice", {"sliding-window-60s": 4})
    assert limiter.peek("alice").remaining == 1
    with pytest.raises(InvalidCost, match="no policy of this limiter is named 'x'"):
        limiter.allow("alice", {"x": 1})
    with pytest.raises(InvalidCost, match="cost of policy sliding-window-60s must be"):
        limiter.allow("alice", {"sliding-window-60s": 0})


def test_allow_says_of_a_key_what_take_says(rig: Rig):
    limiter = rig.limiter("5/minute")
    for ask in (limiter.allow, limiter.take):
        with pytest.raises(InvalidKey, match="for a mapping give it a per=") as caught:
            ask({"user": "alice"})
        assert caught.value.policy == "sliding-window-60s"


def test_a_mapping_without_attributes_is_no_exempt_key(rig: Rig):
    limiter = rig.limiter(SlidingWindow(1, window=60, shared=True), exempt={"root"})
    assert [limiter.allow({}) for _ in range(2)] == [True, False]
    assert limiter.allow("root")


def test_an_attribute_that_nobody_counts_by_and_comes_later_exempts_nobody(rig: Rig):
    exempt = {"user": {"root"}}
    limiter = rig.limiter(SlidingWindow(1, window=60, per="user"), exempt=exempt)
    exempt["plan"] = {"gold"}
    assert [limiter.allow({"user": "alice"}) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("exempt", [b"root", bytearray(b"root")])
def test_bytes_are_no_collection_of_keys(exempt):
    with pytest.raises(InvalidPolicy, match="exempt must be a collection of keys"):
        Limiter("1/minute", exempt=exempt)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_a_function_of_exemptions_that_is_async_is_refused_and_exempts_nobody(limiter):
    async def staff(_) -> bool:
        return False

    with pytest.raises(InvalidPolicy, match="exempt must be a function that need not be awaited"):
        limiter("1/minute", exempt=staff)


def test_an_answer_that_would_have_to_be_awaited_exempts_nobody(rig: Rig):
    async def staff() -> bool:
        return False

    limiter = rig.limiter("1/minute", exempt=lambda _: staff())
    for ask in (limiter.take, limiter.allow, limiter.peek):
        with pytest.raises(InvalidPolicy, match="exempt must be a function that need not be awaited"):
            ask("alice")
