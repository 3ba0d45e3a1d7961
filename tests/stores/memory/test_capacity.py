"""The bound on keys: what a full store does."""

from __future__ import annotations

import logging
from collections import Counter
from random import Random

import pytest

from sluicegate import Limiter, MemoryStore, SlidingWindow
from sluicegate._algorithms import sliding_window
from sluicegate._core.policy import Policy
from sluicegate._core.request import Request
from sluicegate.testing import ManualClock
from stores.harness import charges, limiter_of
from stores.memory.every import counted, each


def test_the_store_never_holds_more_than_max_keys(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=100)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(5000):
        limiter.allow(str(n))
        assert len(store) <= 100


def test_when_the_store_is_full_idle_keys_go_first(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=50)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.allow("idle")
    clock.advance(1)
    for n in range(49):
        limiter.allow(f"live-{n}")
    clock.advance(59)  # the first is idle at this very moment, all others in a second
    limiter.take("fresh", 5)
    assert store.overflowed == 0
    assert not limiter.allow("fresh")


def test_spraying_keys_never_frees_a_throttled_one(clock: ManualClock, caplog: pytest.LogCaptureFixture):
    store = MemoryStore(clock=clock, max_keys=100)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    assert sum(limiter.allow("attacker") for _ in range(10)) == 5
    with caplog.at_level(logging.WARNING, "sluicegate"):
        for n in range(1100):
            limiter.allow(f"spray-{n}")
            assert not limiter.allow("attacker")
    assert [record.message.split(":")[0] for record in caplog.records] == ["all 100 keys of this memory store are live"]
    assert store.overflowed == 1001


def test_a_key_that_shares_a_counter_is_never_over_its_limit_also_when_room_comes(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=10)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(10):
        limiter.allow(f"first-{n}")
    clock.advance(30)
    assert sum(limiter.allow("late") for _ in range(9)) == 5  # in a shared counter
    clock.advance(30)  # the first ten are idle: there is room, and "late" still has five in its window
    assert limiter.allow("fresh")
    assert sum(limiter.allow("late") for _ in range(9)) == 0
    clock.advance(30)
    assert sum(limiter.allow("late") for _ in range(9)) == 5


def test_forgetting_a_key_that_shares_a_counter_frees_nobody(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=1)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.allow("own")
    limiter.take("shares", 5)
    limiter.forget("shares")
    assert not limiter.allow("shares")


def test_a_set_of_charges_on_fresh_keys_keeps_to_max_keys_too(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=3)
    policy = SlidingWindow(5, window=60)
    for n in range(5):
        store.decide(Request(charges((policy, f"a{n}", 1), (policy, f"b{n}", 1))))
        assert len(store) <= 3


def test_a_set_of_charges_on_an_idle_key_and_a_fresh_one_keeps_to_max_keys_too(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=2)
    policy = SlidingWindow(5, window=60)
    store.decide(Request(charges((policy, "idle", 1))))
    clock.advance(1)
    store.decide(Request(charges((policy, "live", 1))))
    clock.advance(59)
    answer = store.decide(Request(charges((policy, "idle", 1), (policy, "fresh", 1))))
    assert [verdict.allowed for verdict in answer] == [True, True]
    assert len(store) <= 2


@pytest.mark.parametrize("max_keys", [0, -1, 1.5, True, "10", None])
def test_a_max_keys_that_is_no_whole_number_is_refused(max_keys):
    with pytest.raises(ValueError, match="max_keys must be a whole number of 1 or more, got "):
        MemoryStore(max_keys=max_keys)


@each
def test_a_key_without_a_place_of_its_own_is_never_over_its_limit_whatever_the_algorithm(
    clock: ManualClock, policy: Policy
):
    store = MemoryStore(clock=clock, max_keys=10)
    limiter = limiter_of(policy, store)
    for n in range(10):
        limiter.allow(f"first-{n}", 5)
    clock.advance(policy.window / 2)
    assert sum(limiter.allow("late") for _ in range(9)) == 5  # in a shared counter
    assert store.overflowed == 9
    for _ in range(3):
        wait = limiter.peek("late").retry_after
        clock.advance(wait - 0.000001)
        for n in range(10):
            limiter.allow(f"first-{n}")
        assert not limiter.allow("late")
        clock.advance(0.000001)
        assert limiter.allow("late")
        limiter.take("late", 4)
        assert not all(limiter.allow("late") for _ in range(9))
    assert len(store) <= 10


@each
def test_shared_counters_are_freed_when_they_are_idle(clock: ManualClock, policy: Policy):
    store = MemoryStore(clock=clock, max_keys=10)
    limiter = limiter_of(policy, store)
    for n in range(500):
        limiter.take("a")
        limiter.take(f"rush-{n}")
    (table,) = store._tables.values()
    assert len(table.overflow) > 100
    for _ in range(400):
        clock.advance(policy.window / 10)
        limiter.take("a")
    assert table.overflow == {}
    assert sum(map(len, table._wheel._slots)) + len(table._wheel._pending) == 1


@pytest.mark.parametrize("seed", range(5))
def test_in_a_full_store_no_key_is_over_its_limit_whatever_comes_and_goes(clock: ManualClock, seed: int):
    random = Random(seed)
    store = MemoryStore(clock=clock, max_keys=4)
    limiters = [Limiter(SlidingWindow(3, window=1, name=f"p{n}"), store=store) for n in range(3)]
    allowed: dict[tuple[int, str], list[int]] = {}
    for _ in range(3000):
        clock.advance(random.choice([0, 0.001, 0.01, 0.02, 0.02, 0.05, 0.1]))
        n, key = random.randrange(3), random.choice("abcdef")
        stamps = allowed.setdefault((n, key), [])
        if limiters[n].take(key):
            stamps.append(clock.now_us())
        assert sum(stamp > clock.now_us() - 1_000_000 for stamp in stamps[-4:]) <= 3
    assert store.overflowed > 100
    assert sum(map(len, allowed.values())) > 100


@pytest.mark.parametrize("namespaces", [1, 50])
def test_a_fresh_key_in_a_full_store_looks_at_a_few_keys_however_many_namespaces_there_are(
    clock: ManualClock, namespaces: int, monkeypatch: pytest.MonkeyPatch
):
    store = MemoryStore(clock=clock, max_keys=5000)
    limiters = [Limiter(SlidingWindow(5, window=60, name=f"p{n}"), store=store) for n in range(namespaces)]
    clock.advance(0.9)
    for n in range(5000):
        limiters[n % namespaces].take(f"live-{n}")
    clock.advance(59.9)  # in the slot in which they end, and all still live
    for limiter in limiters:
        limiter.take("fresh")
    ways = Counter()
    monkeypatch.setattr(sliding_window, "expires_at_ns", counted(sliding_window.expires_at_ns, ways))
    for n in range(20):
        ways.clear()
        limiters[0].take(f"fresh-{n}")
        assert 1 <= ways["expires_at_ns"] <= 50
    assert store.overflowed == 20 + namespaces


def test_an_idle_key_of_another_namespace_makes_room_at_the_very_moment(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=20)
    limiters = [Limiter(SlidingWindow(5, window=60, name=f"p{n}"), store=store) for n in range(20)]
    limiters[13].take("idle")
    clock.advance(0.000001)
    for limiter in limiters:
        if limiter is not limiters[13]:
            limiter.take("live")
    clock.advance(59.999998)
    # Or one time in 1024 the two keys have the same overflow state.
    store._table_of(limiters[0].policies[0])._secret = bytes(16)
    limiters[0].take("shares")
    assert store.overflowed == 1
    clock.advance(0.000001)
    limiters[0].take("has its own")
    assert store.overflowed == 1
    assert len(store) == 20


def test_a_set_of_charges_in_a_full_store_is_entered_where_it_was_checked(clock: ManualClock):
    # The place of an idle key is given to the request's last charge: the first must not move to a full overflow state.
    store = MemoryStore(clock=clock, max_keys=1)
    user, address = (SlidingWindow(1, window=64, name=name, per=name) for name in ("user", "ip"))
    users, both = Limiter(user, store=store), Limiter(user, address, store=store)
    clock.advance(1000.1)
    assert users.allow({"user": "alice"})
    clock.advance(5)
    for n in range(20_000):
        users.allow({"user": f"u{n}"})
    clock.advance(59.05)  # alice is idle, and not swept yet
    decision = both.take({"user": "alice", "ip": "192.0.2.1"})
    assert [(part.allowed, part.remaining) for part in decision.decisions] == [(True, 0), (True, 0)]
    assert not both.take({"user": "alice", "ip": "192.0.2.1"})
    assert not both.take({"user": "alice", "ip": "192.0.2.2"})


def test_a_set_of_fresh_keys_gets_all_the_room_there_is(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=30)
    limiter = Limiter(*(SlidingWindow(5, window=60, name=f"p{n}") for n in range(10)), store=store)
    for key in "abc":
        assert limiter.take(key)
    assert (len(store), store.overflowed) == (30, 0)
    limiter.take("d")
    assert (len(store), store.overflowed) == (30, 1)
