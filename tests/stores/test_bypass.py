"""Requests that are not limited: the off switch, and exempt keys."""

from __future__ import annotations

from typing import Any

import pytest

from sluicegate import (
    AsyncLimiter,
    Decision,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    Limiter,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.policy import Policy
from stores.four_policies import KEY, four, nothing_stored
from stores.harness import Harness


def passed(harness: Harness, decision: Decision, policies: list[Policy]) -> None:
    """Check a decision on a request that is not limited."""
    assert (decision.allowed, decision.source, decision.retry_after, decision.reset_after) == (True, "bypass", 0, 0)
    assert [(each.policy, each.limit, each.remaining) for each in decision.decisions] == [
        (policy.name, policy.limit, policy.burst) for policy in policies
    ]
    assert all(each.source == "bypass" and each.allowed for each in decision.decisions)
    assert nothing_stored(harness)


@pytest.mark.parametrize(
    ("policies", "key"),
    [
        (four(user=4, tenant=3, endpoint=2, all_=1), KEY),
        ([SlidingWindow(2, window=60)], "alice"),
        ([TokenBucket(2, window=60, burst=7)], "alice"),
    ],
    ids=["four", "one", "bucket"],
)
def test_a_limiter_that_is_off_allows_all_and_stores_nothing(harness: Harness, policies: list[Policy], key):
    limiter = harness.limiter(*policies, enabled=False)
    assert limiter._limiter.enabled is False
    for cost in (1, 5, 10**11):
        assert limiter.allow(key, cost) is True
        for decision in (limiter.take(key, cost), limiter.peek(key, cost)):
            passed(harness, decision, policies)
            assert decision.policy == min(policies, key=lambda policy: policy.burst).name


@pytest.mark.parametrize("policies", [["2/minute"], ["2/minute", "9/hour"]], ids=["one", "two"])
def test_a_limiter_can_be_switched_off_and_on_while_it_is_used(harness: Harness, policies: list[str]):
    limiter = harness.limiter(*policies)
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]
    for _ in range(2):
        limiter._limiter.enabled = False
        assert [limiter.allow("alice") for _ in range(3)] == [True] * 3
        assert limiter.take("alice").source == limiter.peek("alice").source == "bypass"
        limiter._limiter.enabled = True
        assert [limiter.allow("alice") for _ in range(3)] == [False] * 3
        assert limiter.take("alice").source == limiter.peek("alice").source == "store"
    harness.advance(60)
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]


def test_a_limiter_made_off_limits_once_it_is_switched_on(harness: Harness):
    limiter = harness.limiter("2/minute", enabled=False)
    assert [limiter.allow("alice") for _ in range(3)] == [True] * 3
    limiter._limiter.enabled = True
    assert [limiter.allow("alice") for _ in range(3)] == [True, True, False]


def test_the_fast_path_of_allow_comes_and_goes_with_the_switch():
    limiter = Limiter("2/minute")
    assert limiter._fast_allow is not None
    limiter.enabled = False
    assert limiter._fast_allow is None
    limiter.enabled = True
    assert limiter._fast_allow is not None
    for ordinary in (Limiter("2/minute", exempt={"root"}), Limiter("2/minute", limits=lambda _: 1)):
        assert ordinary._fast_allow is None
        ordinary.enabled = True
        assert ordinary._fast_allow is None
    off = Limiter("2/minute", enabled=False)
    assert off._fast_allow is None
    off.enabled = True
    assert off._fast_allow is not None


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
def test_what_is_no_key_or_cost_is_refused_all_the_same(harness: Harness, options: dict[str, Any]):
    plain, four_ = harness.limiter("2/minute", **options), harness.limiter(*four(), **options)
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


def test_a_limiter_that_is_off_still_forgets_and_blocks(harness: Harness):
    limiter = harness.limiter("2/minute")
    limiter.take("alice", 2)
    limiter._limiter.enabled = False
    limiter.forget("alice")
    limiter.block("bob", 60)
    assert limiter.allow("bob")
    limiter._limiter.enabled = True
    assert limiter.allow("alice")
    assert not limiter.allow("bob")


def test_a_collection_of_plain_keys_is_never_limited(harness: Harness):
    for exempt in ({"root"}, frozenset({"root"}), ["root"], ("root",), {"root": 1}.keys()):
        limiter = harness.limiter("1/minute", exempt=exempt)
        assert [limiter.allow("root", 5) for _ in range(3)] == [True] * 3
        passed(harness, limiter.take("root"), [SlidingWindow(1, window=60)])
    assert [limiter.allow("alice") for _ in range(2)] == [True, False]


def test_a_mapping_from_attributes_to_values_exempts_each_key_that_has_one_of_them(harness: Harness):
    policies = four(user=1, tenant=1, endpoint=1, all_=2)
    limiter = harness.limiter(*policies, exempt={"user": {"root", "health"}, "tenant": ["ours"]})
    for key in ({**KEY, "user": "root"}, {**KEY, "user": "health"}, {**KEY, "tenant": "ours"}):
        assert [limiter.allow(key) for _ in range(3)] == [True] * 3
        passed(harness, limiter.peek(key), policies)
    assert [limiter.allow(KEY) for _ in range(2)] == [True, False]
    assert not limiter.allow({**KEY, "tenant": "root"})  # another attribute's value


def test_a_function_of_the_key_exempts_those_that_it_says(harness: Harness):
    asked = []

    def exempt(key):
        asked.append(key)
        return key.startswith("probe-")

    limiter = harness.limiter("1/minute", exempt=exempt)
    assert [limiter.allow("probe-1") for _ in range(3)] == [True] * 3
    passed(harness, limiter.take("probe-1"), [SlidingWindow(1, window=60)])
    assert [limiter.allow("alice") for _ in range(2)] == [True, False]
    assert asked == ["probe-1"] * 4 + ["alice"] * 2
    several = harness.limiter(*four(user=1), exempt=lambda key: key is KEY)
    assert [several.allow(KEY) for _ in range(3)] == [True] * 3
    assert [several.allow(dict(KEY)) for _ in range(2)] == [True, False]


def test_what_a_function_says_is_taken_as_true_or_false(harness: Harness):
    limiter = harness.limiter("1/minute", exempt={"root": "yes", "nobody": ""}.get)
    assert [limiter.allow("root") for _ in range(3)] == [True] * 3
    for key in ("nobody", "alice"):
        assert [limiter.allow(key) for _ in range(2)] == [True, False]


def test_what_the_function_raises_goes_through_and_nothing_is_charged(harness: Harness):
    limiter = harness.limiter("1/minute", exempt=lambda key: 1 / 0)
    for ask in (limiter.take, limiter.allow, limiter.peek):
        with pytest.raises(ZeroDivisionError):
            ask("alice")
    assert nothing_stored(harness)


def test_who_is_exempt_may_change_at_any_time(harness: Harness):
    exempt, by_user = set(), {"user": set()}
    plain, several = harness.limiter("1/minute", exempt=exempt), harness.limiter(*four(user=1), exempt=by_user)
    for limiter, key, users in ((plain, "alice", exempt), (several, KEY, by_user["user"])):
        assert [limiter.allow(key) for _ in range(2)] == [True, False]
        users.add("alice")
        assert [limiter.allow(key) for _ in range(3)] == [True] * 3
        users.clear()
        assert not limiter.allow(key)
    by_user["tenant"] = {"acme"}
    assert several.allow(KEY)


def test_an_empty_exemption_exempts_nobody(harness: Harness):
    for exempt in (set(), [], {}, lambda _: False):
        limiter = harness.limiter("1/minute", exempt=exempt)
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
        (["alice"], "must be a mapping from attributes to values, .*; got one of type list$"),
        ("alice", "must be a collection of keys, or a function of a key, got one of type str"),
        ({"ip": {"::1"}}, "names attribute 'ip', the policies count by user, tenant, endpoint"),
        ({"user": {"alice"}, "users": {"bob"}}, "names attribute 'users', the policies count by"),
        ({5: {"alice"}}, "names attribute 5, the policies count by"),
        ({"user": "alice"}, "must have a collection of values for user, got one of type str"),
        ({"user": None}, "must have a collection of values for user, got None"),
        ({"user": iter(["alice"])}, "must have a collection of values for user, got one of type list_iterator"),
    ],
    ids=lambda each: each[:20] if isinstance(each, str) else "",
)
def test_what_could_exempt_no_key_with_attributes_is_refused(limiter, exempt, said: str):
    with pytest.raises(InvalidPolicy, match=f"exempt {said}"):
        limiter(*four(), exempt=exempt)


def test_an_exempt_key_is_allowed_under_a_block_and_without_a_limit_of_its_own(harness: Harness):
    asked = []

    def limits(key):
        asked.append(key)
        return 1

    exempt = {"root"}
    limiter = harness.limiter("9/minute", limits=limits, limits_ttl=0, exempt=exempt)
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
    harness.advance(60)
    assert [limiter.allow("root") for _ in range(2)] == [True, False]


def test_a_store_that_two_limiters_share_counts_for_the_one_that_exempts_nobody():
    store = MemoryStore()
    lenient, strict = Limiter("1/minute", store=store, exempt={"root"}), Limiter("1/minute", store=store)
    assert [lenient.allow("root") for _ in range(3)] == [True] * 3
    assert [strict.allow("root") for _ in range(2)] == [True, False]
    assert lenient.allow("root")


def test_a_mapping_without_attributes_is_no_exempt_key(harness: Harness):
    limiter = harness.limiter(SlidingWindow(1, window=60, shared=True), exempt={"root"})
    assert [limiter.allow({}) for _ in range(2)] == [True, False]
    assert limiter.allow("root")


def test_an_attribute_that_nobody_counts_by_and_comes_later_exempts_nobody(harness: Harness):
    exempt = {"user": {"root"}}
    limiter = harness.limiter(SlidingWindow(1, window=60, per="user"), exempt=exempt)
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

    with pytest.raises(InvalidPolicy, match="exempt must be a synchronous function"):
        limiter("1/minute", exempt=staff)


def test_an_answer_that_would_have_to_be_awaited_exempts_nobody(harness: Harness):
    async def staff() -> bool:
        return False

    limiter = harness.limiter("1/minute", exempt=lambda _: staff())
    for ask in (limiter.take, limiter.allow, limiter.peek):
        with pytest.raises(InvalidPolicy, match="exempt must be a synchronous function"):
            ask("alice")
