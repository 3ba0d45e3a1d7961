"""The fast paths of ``allow`` and ``take``: the answers of the ordinary way, and when they are gone."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sluicegate import FixedWindow, Limiter, MemoryStore, Policy, SlidingWindow, TokenBucket
from sluicegate._algorithms import sliding_window
from sluicegate._core.decision import Verdict
from sluicegate.testing import ManualClock
from stores.memory.every import counted


@pytest.mark.parametrize("limit", [1, 2, 3, 30])
@pytest.mark.parametrize("window_us", [1, 2, 40, 900])
def test_the_fast_path_of_allow_gives_the_answers_of_the_ordinary_way(
    clock: ManualClock, limit: int, window_us: int, monkeypatch: pytest.MonkeyPatch
):
    policy = SlidingWindow(limit, window=window_us / 1_000_000)
    quick, whole = (Limiter(policy, store=MemoryStore(clock=clock)) for _ in range(2))
    random = Random(limit * 1000 + window_us)
    ways = Counter()
    monkeypatch.setattr(sliding_window, "decide", counted(sliding_window.decide, ways))
    for _ in range(3000):
        clock.advance(random.choice([0, 0, 1, 1, window_us // 4, window_us, window_us + 1]) / 1_000_000)
        key, cost = random.choice("ab"), random.choice([1] * 15 + [2, limit])
        before = ways["decide"]
        allowed = quick.allow(key, cost)
        ways["quick"] += ways["decide"] == before
        assert allowed == whole.take(key, cost).allowed
        assert quick.peek(key) == whole.peek(key)
    assert ways["quick"] > 500  # it is the quick way that was tried


@pytest.fixture
def no_ordinary_way(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    """Make the first call of a limiter the last that may go the whole way."""

    def bar(store: MemoryStore) -> None:
        store._sweep_due_ns = 10**30  # no turn to give back idle keys either

        def refuse(*_: object) -> None:
            raise AssertionError("this went the whole way")

        monkeypatch.setattr(store, "_decide", refuse)

    return bar


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 40])
def test_the_fast_path_allows_the_limit_in_each_window_to_the_microsecond(
    clock: ManualClock, no_ordinary_way, limit: int
):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(limit, window=0.001), store=store)
    allowed_at = []
    assert limiter.allow("a")
    no_ordinary_way(store)
    for n in range(5000):
        now = n + 1
        clock.advance(0.000001)
        room = limit - sum(now - 1000 < stamp for stamp in [0, *allowed_at][-limit:])
        asked = [limiter.allow("a") for _ in range(1 + (n % 7 == 0) * limit)]
        assert asked == [True] * min(room, len(asked)) + [False] * (len(asked) - min(room, len(asked)))
        allowed_at += [now] * sum(asked)
    (log,) = next(iter(store._tables.values())).states.values()
    assert len(log) <= 1.5 * limit + 10  # and it forgets what has left


def test_the_fast_path_of_two_limits_on_one_counter_holds_each_and_cuts_nothing_that_the_other_counts(
    clock: ManualClock, no_ordinary_way
):
    store = MemoryStore(clock=clock)
    low, high = (Limiter(SlidingWindow(limit, window=0.001, name="one"), store=store) for limit in (2, 60))
    assert high.allow("a")
    no_ordinary_way(store)
    stamps = [0]
    for now in range(1, 6000):
        clock.advance(0.000001)
        used = sum(now - 1000 < stamp for stamp in stamps[-60:])
        for limiter, limit in ((low, 2), (high, 60))[:: 1 if now % 3 else -1]:
            if now // 1500 % 2 or now % 50 == 0:
                allowed = limiter.allow("a")
                assert allowed == (used < limit)
                used += allowed
                stamps += [now] * allowed


def test_a_key_takes_the_fast_path_again_when_its_dearer_requests_have_left(clock: ManualClock, no_ordinary_way):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10, window=60), store=store)
    for cost in (1, 3, 1):
        limiter.take("a", cost)
        clock.advance(0.1)
    clock.advance(59.85)  # the first two have left
    assert limiter.take("a").remaining == 8
    no_ordinary_way(store)
    assert [limiter.allow("a") for _ in range(9)] == [True] * 8 + [False]
    clock.advance(2)
    assert [limiter.allow("a") for _ in range(2)] == [True, False]


def test_the_fast_path_leaves_a_step_of_the_clock_to_the_ordinary_way(clock: ManualClock):
    limiter = Limiter(SlidingWindow(2, window=60), store=MemoryStore(clock=clock))
    limiter.allow("a")
    clock.advance(-30)
    assert limiter.allow("a")  # its stamp is the newest one, 30 seconds from now
    assert limiter.peek("a").reset_after == 90
    clock.advance(89.999999)
    assert not limiter.allow("a")
    clock.advance(0.000001)
    assert [limiter.allow("a") for _ in range(3)] == [True, True, False]


def test_a_store_that_decides_in_its_own_way_is_asked_by_allow_too(clock: ManualClock):
    class Mine(MemoryStore):
        open = True

        def decide(self, request):
            return super().decide(request) if self.open else [Verdict(False, 0, 1, 1)]

    store = Mine(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    assert [limiter.allow("a") for _ in range(2)] == [True, True]
    store.open = False
    assert not limiter.allow("a")


class Ordinary(MemoryStore):
    """A store without a fast path, as every subclass is."""


@pytest.mark.parametrize(
    "policy",
    [
        SlidingWindow(3, window=0.00004),
        SlidingWindow(8, window=0.00004, buckets=4),
        TokenBucket(3, window=0.00004),
        FixedWindow(3, window=0.00004),
    ],
    ids=str,
)
def test_the_fast_path_of_take_gives_the_answers_of_the_ordinary_way(
    clock: ManualClock, policy: Policy, monkeypatch: pytest.MonkeyPatch
):
    quick, whole = (Limiter(policy, store=kind(clock=clock)) for kind in (MemoryStore, Ordinary))
    random = Random(str(policy))
    ways = Counter()
    monkeypatch.setattr(MemoryStore, "_decide", counted(MemoryStore._decide, ways))
    for _ in range(4000):
        clock.advance(random.choice([0, 0, 0, 1, 1, 10, 40, 41, -7, -90]) / 1_000_000)
        key, cost = random.choice("aaabcdé"), random.choice([1] * 15 + [2, 3])
        before = ways["_decide"]
        decision = quick.take(key, cost)
        ways["quick"] += ways["_decide"] == before
        assert decision == whole.take(key, cost)
        assert quick.peek(key) == whole.peek(key)
        if random.random() < 0.05:
            seconds, blocks = random.choice([0, 0.00001, 0.0002]), random.random() < 0.5
            for limiter in (quick, whole):
                limiter.block(key, seconds) if blocks else limiter.forget(key)
    assert ways["quick"] > 500  # it is the quick way that was tried
    assert quick.statistics() == whole.statistics()
    assert quick._store.repaired == whole._store.repaired
