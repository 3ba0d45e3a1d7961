"""Blocks on keys: on every algorithm and every store, to the microsecond, and what was counted stays."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

import servers
from sluicegate import (
    CalendarWindow,
    Concurrency,
    FixedWindow,
    InvalidKey,
    InvalidSpan,
    Limiter,
    MemoryStore,
    RedisStore,
    SlidingWindow,
    StoreUnavailable,
    TokenBucket,
)
from sluicegate._algorithms import BY_NAME, sliding_window
from sluicegate._core.policy import MAX_WINDOW_US, Policy
from sluicegate._stores.memory.key_table import KeyTable
from sluicegate.testing import ManualClock
from stores.harness import Harness, charges, limiter_of

US = 0.000001
YEAR = 365 * 86400

POLICIES = [
    SlidingWindow(6, window=60),
    TokenBucket(6, window=60),
    FixedWindow(6, window=60),
    CalendarWindow(6, every="hour"),
    Concurrency(6, ttl=60),
]
VARIANTS = [
    SlidingWindow(6, window=60, buckets=3, name="in-buckets"),
    TokenBucket(6, window=60, burst=9, name="large-burst"),
]


def named(policy: Policy) -> str:
    return policy.name


each = pytest.mark.parametrize("policy", POLICIES, ids=named)
each_variant = pytest.mark.parametrize("policy", [*POLICIES, *VARIANTS], ids=named)


@pytest.fixture
def driven(server: servers.Server, prefix: str) -> Iterator[Harness]:
    """A store on a real server whose clock the test moves."""
    harness = Harness("redis", client=server.client, prefix=prefix)
    yield harness
    harness.close()


def test_every_algorithm_is_here():
    assert {policy.algorithm for policy in POLICIES} == set(BY_NAME)


def to_an_edge(harness: Harness, policy: Policy) -> None:
    harness.advance((policy.window_us - harness.now_us % policy.window_us) / 1_000_000)


def us(seconds: float) -> int:
    return round(seconds * 1_000_000)


# What a block does


@each
def test_a_blocked_key_is_denied_at_once_and_until_the_microsecond_at_which_the_block_ends(
    harness: Harness, policy: Policy
):
    limiter = harness.limiter(policy)
    to_an_edge(harness, policy)
    limiter.take("used", 2)
    for key in ("used", "fresh"):
        limiter.block(key, 5.000003)
        for n in range(3):
            for denied in (limiter.take(key), limiter.peek(key), limiter.take(key, 2)):
                assert (denied.allowed, denied.remaining) == (False, 0)
                assert us(denied.retry_after) == 5_000_003 - n * 1_000_000
                assert denied.reset_after >= denied.retry_after
            assert not limiter.allow(key)
            harness.advance(1)
        harness.advance(2.000003 - US)
        assert limiter.take(key).retry_after == US
        harness.advance(US)
        assert limiter.allow(key)


@each_variant
def test_what_was_counted_stays_and_goes_on_to_leave(harness: Harness, policy: Policy):
    """A twin that was never under a block has the same to spend afterwards."""
    limiter = harness.limiter(policy)
    to_an_edge(harness, policy)
    for span in (1, 12.5, policy.window / 2, policy.window - 1, policy.window * 3):
        for key in ("a", "twin"):
            limiter.take(key, 3)
        harness.advance(0.5)
        limiter.block("a", span)
        harness.advance(span)
        assert limiter.peek("a") == limiter.peek("twin")
        assert limiter.take("a", 2) == limiter.take("twin", 2)
        assert limiter.take("a", policy.burst) == limiter.take("twin", policy.burst)
        harness.advance(limiter.peek("a").reset_after)


@each_variant
def test_the_wait_is_the_longer_one_of_the_block_and_the_algorithms_own(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    to_an_edge(harness, policy)
    limiter.take("a", policy.burst)
    own = limiter.take("a", 2)
    for span in (1, own.retry_after - US, own.retry_after, own.retry_after + US, own.reset_after + 7):
        limiter.block("a", span)
        denied = limiter.take("a", 2)
        assert us(denied.retry_after) == max(us(own.retry_after), us(span))
        assert us(denied.reset_after) == max(us(own.reset_after), us(span))
        assert denied.remaining == 0
    limiter.block("a", 1)
    assert limiter.take("a", policy.burst + 1).retry_after == math.inf
    harness.advance(own.retry_after - US)
    assert not limiter.allow("a", 2)
    harness.advance(US)
    assert limiter.allow("a", 2)


@each
def test_a_later_block_is_in_place_of_an_earlier_one_be_it_longer_or_shorter(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.take("a")
    for span in (10, 100_000, 5, 20):
        limiter.block("a", span)
        assert limiter.peek("a").retry_after == span
    harness.advance(20 - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.allow("a")


@each
def test_a_block_of_0_ends_one_at_once_with_what_was_counted(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    to_an_edge(harness, policy)
    limiter.take("a", 2)
    before = limiter.peek("a"), harness.stored() if harness.kind == "redis" else None
    for span in (0, 1000, 0, 0.0, timedelta(hours=1), timedelta(0)):
        limiter.block("a", span)
    assert (limiter.peek("a"), harness.stored() if harness.kind == "redis" else None) == before
    assert limiter.take("a").remaining == policy.burst - 3
    limiter.block("fresh", 1000)
    limiter.block("fresh", 0)
    limiter.block("never seen", 0)
    assert [limiter.take(key).remaining for key in ("fresh", "never seen")] == [policy.burst - 1] * 2


@each
def test_forget_lifts_a_block_and_drops_what_was_counted(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.take("a", 2)
    for key in ("a", "fresh"):
        limiter.block(key, 1000)
        limiter.forget(key)
        assert limiter.take(key).remaining == policy.burst - 1


@each
def test_a_block_is_on_one_key_alone(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.block("a", 10)
    assert limiter.take("b").remaining == policy.burst - 1


@each
def test_a_block_holds_for_all_limits_and_all_limiters_of_the_store(harness: Harness, policy: Policy):
    limiter, again = harness.limiter(policy), harness.limiter(policy)
    limiter.take("a")
    limiter.block("a", 10)
    assert again.peek("a").retry_after == 10
    again.block("a", 0)
    assert limiter.allow("a")


def test_a_block_holds_for_all_stores_of_one_server(driven: Harness):
    other = Harness("redis", asynchronous=True, client=driven.client, prefix=driven.prefix)
    for policy in POLICIES:
        one, another = driven.limiter(policy), other.limiter(policy)
        one.block(policy.name, 10)
        assert another.peek(policy.name).retry_after == 10
        another.block(policy.name, 0)
        assert one.allow(policy.name)
    other.close()


# In sets, and for a part of a key


def test_where_one_counter_is_under_a_block_nothing_is_charged_to_the_others(harness: Harness):
    narrow, wide = SlidingWindow(5, window=60, name="narrow"), TokenBucket(9, window=60, name="wide")
    both = harness.limiter(narrow, wide)
    both.take("a")
    harness.limiter(narrow).block("a", 10)
    denied = both.take("a")
    assert [(part.allowed, part.remaining) for part in denied.decisions] == [(False, 0), (True, 8)]
    assert (denied.policy, denied.retry_after) == ("narrow", 10)
    both.block("a", 20)
    assert [part.retry_after for part in both.peek("a").decisions] == [20, 20]
    harness.advance(20)
    assert [part.remaining for part in both.take("a").decisions] == [3, 8]  # nine a minute have flown out


@pytest.mark.parametrize("kind", [SlidingWindow, TokenBucket, FixedWindow])
def test_a_part_of_a_key_is_under_a_block_wherever_a_policy_counts_by_it(harness: Harness, kind: type[Policy]):
    limiter = harness.limiter(
        kind(9, window=60, name="tenants", per="tenant"),
        kind(6, window=60, name="users", per="user"),
        kind(3, window=60, name="endpoints", per=("user", "endpoint")),
        kind(99, window=60, name="everybody", shared=True),
    )
    mallory = [{"tenant": "acme", "user": "mallory", "endpoint": path} for path in ("/pay", "/read")]
    alice = {"tenant": "acme", "user": "alice", "endpoint": "/pay"}
    assert limiter.allow(mallory[0])
    limiter.block({"user": "mallory"}, 10)
    for key in mallory:
        denied = limiter.take(key)
        assert (denied.allowed, denied.policy, denied.retry_after) == (False, "users", 10)
        assert [part.allowed for part in denied.decisions] == [True, False, True, True]
    assert [part.remaining for part in limiter.take(alice).decisions] == [7, 5, 2, 97]
    limiter.block({"user": "mallory", "endpoint": "/pay"}, 30)  # the user as well
    assert [part.retry_after for part in limiter.peek(mallory[0]).decisions] == [0, 30, 30, 0]
    assert [part.retry_after for part in limiter.peek(mallory[1]).decisions] == [0, 30, 0, 0]
    limiter.block({"user": "mallory"}, 0)
    assert not limiter.allow(mallory[0])
    assert [part.remaining for part in limiter.take(mallory[1]).decisions] == [6, 4, 2, 96]


@pytest.mark.parametrize("kind", [SlidingWindow, TokenBucket, FixedWindow])
def test_a_counter_that_all_keys_share_is_never_under_a_block(harness: Harness, kind: type[Policy]):
    everybody = kind(9, window=60, name="everybody", shared=True)
    limiter, alone = harness.limiter(kind(6, window=60), everybody), harness.limiter(everybody)
    limiter.block("a", 10)
    with pytest.raises(
        InvalidKey, match="all policies of this limiter are shared, and a shared policy cannot be blocked"
    ):
        alone.block("a", 10)
    assert not limiter.allow("a")
    assert [part.remaining for part in limiter.take("b").decisions] == [5, 8]
    assert alone.take("a").remaining == 7


# What is wrong changes nothing

NO_SPAN = [
    -1,
    -1e-9,
    -US,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "10",
    "",
    None,
    [],
    Decimal(1),
    10**400,
    -(10**400),
]
NO_SPAN += [MAX_WINDOW_US / 1_000_000 + 1, 1e300, timedelta(seconds=-1), timedelta(days=4000), timedelta.max]


def test_a_span_that_is_no_number_of_seconds_up_to_ten_years_is_refused_and_nothing_is_changed(harness: Harness):
    limiter = harness.limiter(SlidingWindow(5, window=60))
    limiter.block("a", 10)
    wanted = r"^seconds must be a number \(or a timedelta\) from 0 to 316224000 \(ten years\), got "
    for span in NO_SPAN:
        for key in ("a", "fresh"):
            with pytest.raises(InvalidSpan, match=wanted) as caught:
                limiter.block(key, span)
            assert caught.value.span is span
            assert isinstance(caught.value, ValueError)
            assert len(str(caught.value)) < 200
        assert limiter.peek("a").retry_after == 10
        assert limiter.peek("fresh").allowed


@each
def test_the_longest_block_is_ten_years_and_any_form_of_a_number_will_do(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    for span in (MAX_WINDOW_US // 1_000_000, 86400, 0.5, 1e-6, timedelta(minutes=3), timedelta(days=3660)):
        limiter.block("a", span)
        assert us(limiter.take("a").retry_after) == us(span.total_seconds() if isinstance(span, timedelta) else span)


def test_a_key_that_no_policy_counts_by_is_refused(harness: Harness):
    plain = harness.limiter(SlidingWindow(5, window=60))
    pairs = harness.limiter(SlidingWindow(5, window=60, name="pairs", per=("user", "endpoint")))
    for limiter, key in ((plain, {"user": "a"}), (plain, None), (pairs, "a"), (pairs, {"user": "a"}), (pairs, {})):
        with pytest.raises(InvalidKey):
            limiter.block(key, 10)
    assert not (harness.stored() if harness.kind == "redis" else len(harness.store))


# Logs of many pages


@pytest.mark.parametrize("entries", [19, 20, 21, 40, 200])
def test_a_log_of_many_pages_is_whole_after_a_block_and_is_charged_as_its_twin(harness: Harness, entries: int):
    policy = SlidingWindow(entries + 20, window=10)

    def answers(key: str, request: int) -> object:
        # Two keys at one instant in one call.
        cost = 7 if request % 13 == 0 else 1
        return harness.decide(charges((policy, key, cost)), charges((policy, key, 1)), charges((policy, key, entries)))

    for _ in range(entries):
        harness.decide(*(charges((policy, key, 1)) for key in ("a", "twin")))
        harness.advance(0.01)
    harness.limiter(policy).block("a", 1)
    harness.advance(0.5)
    assert not harness.limiter(policy).allow("a")
    harness.advance(0.5)
    for n in range(60 if entries != 200 else 300):
        assert answers("a", n) == answers("twin", n)
        harness.advance(0.09)


@pytest.mark.parametrize("entries", [1, 20, 40])
def test_a_log_that_is_under_blocks_again_and_again_is_as_it_was(driven: Harness, entries: int):
    limiter = driven.limiter(SlidingWindow(100, window=60))
    for _ in range(entries):
        limiter.take("a")
        driven.advance(0.01)
    before = driven.stored()
    for span in (1, 2, 3):
        limiter.block("a", span)
        assert not limiter.allow("a", 50)
        ((*_, last),) = driven.stored().values()
        assert len(last) == 20 + 12 * 20 + 7 or entries == 1  # the mark lies behind it
    limiter.block("a", 0)
    assert driven.stored() == before


# How long the server keeps it


@each_variant
def test_a_key_lives_as_long_as_its_block_and_as_its_state_and_hardly_longer(driven: Harness, policy: Policy):
    limiter = driven.limiter(policy)
    to_an_edge(driven, policy)
    longest = policy.window * (9 / 8 + 1 / 3)
    if isinstance(policy, TokenBucket):
        longest = policy.window * policy.burst  # as a limit of 1 would need, which the key may have
    limiter.take("a", policy.burst)
    own = limiter.peek("a").reset_after
    for span in (0.5, own - 1, own + 5, 10 * own, MAX_WINDOW_US / 1_000_000):
        limiter.block("a", span)
        assert max(span, own) <= driven.ttl_told() <= max(span + policy.window / 8, longest) + 0.002
    limiter.block("a", 0)
    assert own <= driven.ttl_told() <= longest + 0.002
    limiter.forget("a")
    limiter.block("a", 1000)
    assert 1000 <= driven.ttl_told() <= 1000.002
    limiter.block("a", 0)
    assert driven.stored() == {}


@each_variant
def test_a_key_outlives_the_wait_that_it_tells_whatever_is_done_to_it(driven: Harness, policy: Policy):
    limiter, expires_us = driven.limiter(policy), 0
    to_an_edge(driven, policy)
    for n, span in enumerate([3, None, 100, None, 0, None, 7, 2, None, 200, None, 1, None, None] * 3):
        if span is None:
            limiter.take("a", 1 + n % 3)
        else:
            limiter.block("a", span)
        if driven.stored():
            told = driven.ttl_told()
            expires_us = expires_us if told is None else driven.now_us + us(told)
            seen = limiter.peek("a")
            assert expires_us >= driven.now_us + us(max(seen.retry_after, seen.reset_after))
        driven.advance((0.2, 2.9, 31)[n % 3])


@each
def test_on_the_servers_own_clock_a_key_is_gone_when_its_block_is_over(
    server: servers.Server, prefix: str, policy: Policy
):
    with RedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
        limiter = limiter_of(policy, store)
        limiter.block("a", 0.15)
        assert 0 < limiter.take("a").retry_after <= 0.15
        (key,) = servers.counters(server, prefix)
        assert 0 < server.client.pttl(key) <= 152
        time.sleep(0.17)
        assert not server.client.exists(key)
        assert limiter.allow("a")


# Steps of the clock


@each
def test_a_key_that_a_clock_step_left_a_year_ahead_is_repaired_and_its_block_is_not_moved(
    harness: Harness, policy: Policy
):
    limiter = harness.limiter(policy)
    harness.advance(YEAR)
    limiter.take("a", policy.burst)
    harness.advance(-YEAR)
    span = 3 * policy.window
    limiter.block("a", span)
    for n in range(3):
        denied = limiter.take("a")
        assert us(denied.retry_after) == us(span) - n * 1_000_000
        harness.advance(1)
    assert harness.store.repaired <= 1
    if harness.kind == "redis":
        assert harness.store.repaired == 1
        assert harness.ttl_told() >= span - 1  # the block is not over before
    harness.advance(span - 3 - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.take("a", policy.burst).allowed


@each
def test_a_block_is_kept_by_the_stores_clock_when_it_steps_back(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.block("a", 10)
    harness.advance(-30)
    assert limiter.take("a").retry_after == 40
    harness.advance(YEAR)
    assert limiter.allow("a")


# Keys that are spoilt


@each
def test_a_key_that_holds_something_else_is_not_blocked_and_the_error_says_so(driven: Harness, policy: Policy):
    limiter = driven.limiter(policy)
    limiter.take("a")
    (key,) = driven.stored()
    client = driven.client
    for spoil in (
        lambda: client.set(key, "text"),
        lambda: client.set(key, ""),
        lambda: client.sadd(key, "member"),
        lambda: client.hset(key, "field", "value"),
        lambda: client.rpush(key, "no page of ours"),
        lambda: client.rpush(key, b"x" * 25),
    ):
        client.delete(key)
        spoil()
        before = client.dump(key)
        for span in (10, 0):
            with pytest.raises(
                StoreUnavailable, match=r"holds something else on the server; .*; nothing was changed: "
            ):
                limiter.block("a", span)
            assert client.dump(key) == before
    client.delete(key)
    limiter.block("a", 10)
    assert not limiter.allow("a")


def test_of_several_counters_those_that_are_whole_are_blocked(driven: Harness):
    narrow, wide = SlidingWindow(5, window=60, name="narrow"), TokenBucket(9, window=60, name="wide")
    both = driven.limiter(narrow, wide)
    driven.limiter(narrow).take("a")
    (key,) = driven.stored()
    driven.client.set(key, "text")
    with pytest.raises(StoreUnavailable, match="; 1 of 2 counters were not changed: "):
        both.block("a", 10)
    assert not driven.limiter(wide).allow("a")


# In memory


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@each_variant
def test_in_a_full_store_a_blocked_key_gets_a_place_and_its_units_are_not_forgotten(
    clock: ManualClock, policy: Policy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(KeyTable, "_overflow_number", lambda *_: 0)  # one counter for all that have no room
    store = MemoryStore(clock=clock, max_keys=3)
    limiter = limiter_of(policy, store)
    for n in range(3):
        limiter.take(f"own-{n}")
    assert limiter.take("mallory", policy.burst).allowed  # in a counter that others share
    limiter.block("mallory", 2)
    assert limiter.take("mallory").retry_after >= 2
    before = limiter.peek("alice")  # who shares that counter
    assert before.retry_after == limiter.take("alice").retry_after > 2
    clock.advance(2)
    denied = limiter.take("mallory")
    assert not denied.allowed  # its units are still held
    assert us(denied.retry_after) == us(before.retry_after) - 2_000_000
    limiter.block("bob", 10)
    limiter.block("bob", 0)
    assert not limiter.allow("bob")  # he shares that counter, too: as before
    clock.advance(before.reset_after - 2)
    assert [limiter.take(key, policy.burst).allowed for key in ("mallory", "bob")] == [True, True]


@each
def test_what_a_key_takes_after_its_block_is_not_charged_to_those_who_shared_its_counter(
    clock: ManualClock, policy: Policy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(KeyTable, "_overflow_number", lambda *_: 0)
    limiter = limiter_of(policy, MemoryStore(clock=clock, max_keys=1))
    limiter.take("own")
    limiter.take("mallory", 2)
    assert limiter.peek("alice").remaining == 4
    limiter.block("mallory", 0.1)
    clock.advance(0.1)
    assert limiter.take("mallory").remaining == 3
    assert limiter.peek("alice").remaining == 4


@each
def test_keys_under_a_block_are_given_back_when_it_is_over_and_not_before(clock: ManualClock, policy: Policy):
    store = MemoryStore(clock=clock)
    limiter = limiter_of(policy, store)
    for n in range(300):
        limiter.block(f"k{n}", 5 * policy.window)
        limiter.take(f"used-{n}")
        limiter.block(f"used-{n}", 5 * policy.window)
    for _ in range(4 * 64):
        clock.advance(policy.window / 64)
        limiter.take("a")
    assert len(store) == 601
    assert not limiter.allow("k7")
    for _ in range(4 * 64):
        clock.advance(policy.window / 64)
        limiter.take("a")
    assert len(store) == 1


def test_the_fast_path_of_allow_sees_a_block_and_takes_the_fast_path_again_when_it_is_over(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    calls, decide = Counter(), sliding_window.decide

    def counting(*args):
        calls["decide"] += 1
        return decide(*args)

    monkeypatch.setattr(sliding_window, "decide", counting)
    limiter = Limiter(SlidingWindow(1000, window=60), store=MemoryStore(clock=clock))

    def quick() -> int:
        """Tell how many of twenty calls took the quick way, all of them allowed."""
        before = calls["decide"]
        assert all(limiter.allow("a") for _ in range(20))
        return 20 - calls["decide"] + before

    limiter.allow("a")
    assert quick() == 20
    limiter.block("a", 5)
    assert not any(limiter.allow("a") for _ in range(20))
    clock.advance(5 - US)
    assert not limiter.allow("a")
    clock.advance(US)
    assert quick() == 19  # the first of them sees that the block is over
    assert quick() == 20
    assert limiter.peek("a").remaining == 1000 - 61
    limiter.block("a", 5)
    limiter.block("a", 0)
    assert quick() == 20
