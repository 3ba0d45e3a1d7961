"""Freeing idle keys: when, how many at once, and never one in use."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from sluicegate import InvalidKey, Limiter, MemoryStore, SlidingWindow
from sluicegate._algorithms import BY_NAME
from sluicegate._core.policy import Policy
from sluicegate.testing import ManualClock
from stores.harness import limiter_of
from stores.memory.every import POLICIES, each


def test_idle_keys_are_freed_by_the_calls_that_come_anyway(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(5000):
        limiter.allow(f"gone-{n}")
    assert len(store) == 5000
    clock.advance(61)
    for n in range(1300):
        limiter.take(f"new-{n}")
    clock.advance(1)
    assert len(store) <= 1400


def test_idle_keys_of_one_policy_are_given_back_by_the_traffic_of_another(clock: ManualClock):
    store = MemoryStore(clock=clock)
    first, second = (Limiter(SlidingWindow(5, window=window), store=store) for window in (1, 60))
    for n in range(1000):
        first.allow(f"gone-{n}")
    clock.advance(2)
    for _ in range(600):
        second.take("a")
    assert len(store) == 1


def test_a_key_in_use_is_never_freed(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(100, window=60), store=store)
    taken = 0
    for _ in range(590):
        clock.advance(0.1)
        taken += limiter.allow("busy")
        limiter.take("other")
    assert limiter.peek("busy").remaining == 0
    assert taken == 100


@pytest.mark.slow
def test_no_call_pauses_to_free_a_hundred_thousand_keys(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(100_000):
        limiter.allow(str(n))
    clock.advance(120)
    held = [len(store)]
    for n in range(300):
        limiter.take(f"new-{n}")
        held.append(len(store))
    assert max(before - after for before, after in itertools.pairwise(held)) <= 16
    assert held[-1] < 100_000


def test_forgetting_and_taking_again_does_not_grow_the_store(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for _ in range(1000):
        limiter.allow("a")
        limiter.forget("a")
    (table,) = store._tables.values()
    assert len(store) == 1
    assert sum(map(len, table._wheel._slots)) == 1


def test_a_long_key_is_held_as_a_digest(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.take("k" * 10**6, 5)
    assert not limiter.allow("k" * 10**6)
    (table,) = store._tables.values()
    assert [len(name.value) for name in table.states] == [32]


def test_keys_of_a_short_window_are_freed_in_time_beside_those_of_a_long_one(clock: ManualClock):
    store = MemoryStore(clock=clock)
    hot = Limiter(SlidingWindow(10**9, window=10 * 86400), store=store)
    hot.allow("a")
    hot.allow("a")  # nothing is due for hours
    short = Limiter(SlidingWindow(5, window=1), store=store)
    for n in range(500):
        short.allow(f"k{n}")
    for _ in range(100):
        clock.advance(0.05)
        hot.allow("a")
    assert len(store) == 1


def test_a_slow_key_of_a_huge_limit_keeps_no_more_than_two_windows_of_entries(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10**9, window=1), store=store)
    for _ in range(5000):
        limiter.allow("a")
        clock.advance(0.01)
    (table,) = store._tables.values()
    assert len(table.states["a"]) <= 2 * 201


def test_idle_keys_are_freed_where_only_allow_is_called_on_one_hot_key(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10**6, window=60), store=store)
    for n in range(2000):
        limiter.allow(f"gone-{n}")
    for _ in range(800):
        clock.advance(0.1)
        limiter.allow("hot")
    assert len(store) == 1


def test_bytes_are_never_taken_for_the_digest_of_a_long_key(clock: ManualClock):
    limiter = Limiter(SlidingWindow(5, window=60), store=MemoryStore(clock=clock))
    limiter.allow("k" * 300)
    with pytest.raises(InvalidKey):
        limiter.allow(hashlib.sha256(b"k" * 300).digest())
    assert limiter.peek("k" * 300).remaining == 4


@pytest.mark.parametrize("gap", [61.875, 30.9375, 20, 660])
def test_idle_keys_are_freed_whatever_the_pace_of_the_calls(clock: ManualClock, gap: float):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(2000):
        limiter.take(f"k{n}")
        clock.advance(gap)
    assert len(store) < 50


def test_every_algorithm_is_here():
    assert {policy.algorithm for policy in POLICIES} == set(BY_NAME)


@each
def test_idle_keys_are_freed_whatever_their_algorithm_and_those_in_use_are_not(clock: ManualClock, policy: Policy):
    store = MemoryStore(clock=clock)
    limiter = limiter_of(policy, store)
    clock.advance(1_700_000_000 // policy.window * policy.window + 1)
    for n in range(1000):
        limiter.take(f"gone-{n}", 5)
    idle = limiter.peek("gone-0").reset_after
    clock.advance(idle - 0.000001)
    for n in range(100):
        limiter.take(f"new-{n}")
        assert not limiter.allow(f"gone-{n}", 5)
    clock.advance(0.000001 + policy.window / 64)
    for _ in range(400):
        limiter.take("new-0")
    assert len(store) <= 101
    clock.advance(policy.window * 2)
    for _ in range(400):
        limiter.take("new-0")
    assert len(store) == 1


@each
def test_two_stores_of_one_process_share_nothing(clock: ManualClock, policy: Policy):
    one, other = (limiter_of(policy, MemoryStore(clock=clock)) for _ in range(2))
    one.take("a", 5)
    one.block("b", 10)
    assert other.take("a", 5).allowed
    assert other.allow("b")


def test_a_key_that_is_listed_and_has_no_state_is_passed_over(clock: ManualClock):
    # As when a signal ends a first charge between the two.
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.take("a")
    (table,) = store._tables.values()
    table._wheel.schedule("never charged", clock.now_us() + 60_000_000)
    for _ in range(70):
        clock.advance(1)
        limiter.take("b")
    assert len(store) == 1


def test_idle_keys_are_freed_however_many_policies_a_request_has(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(*(SlidingWindow(5, window=1, name=f"p{n}") for n in range(40)), store=store)
    for n in range(300):
        limiter.take(f"fresh-{n}")
        clock.advance(0.05)
    assert len(store) <= 40 * 20 * 2  # twice what is live


def test_a_flooded_namespace_is_freed_in_time_however_many_others_there_are(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiters = [Limiter(SlidingWindow(5, window=0.1, name=f"p{n}"), store=store) for n in range(40)]
    for limiter in limiters:
        limiter.allow("a")
    for n in range(5000):
        clock.advance(0.001)
        limiters[0].allow(f"fresh-{n}")
    assert len(store) < 2 * 100  # twice what is live


def test_a_namespace_with_much_to_free_does_not_keep_others_waiting_for_good(clock: ManualClock):
    store = MemoryStore(clock=clock)
    large, small = (Limiter(SlidingWindow(5, window=window), store=store) for window in (60, 1))
    for n in range(20_000):
        large.allow(f"gone-{n}")
    clock.advance(120)
    for n in range(5000):
        small.take(f"fresh-{n}")
        clock.advance(0.01)
    assert len(store) < 2 * 100
