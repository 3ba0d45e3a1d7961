"""The clock of the memory store: its own, one that is given, and one that steps."""

from __future__ import annotations

import pytest

from sluicegate import CalendarWindow, Concurrency, FixedWindow, Limiter, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._algorithms import sliding_window
from sluicegate._core.policy import Policy
from sluicegate.testing import ManualClock
from stores.harness import Lender, limiter_of
from stores.memory.every import each


def test_the_clock_of_the_process_is_kept_to_the_nanosecond_and_waits_are_rounded_up():
    policy = SlidingWindow(1, window=0.000001)
    log, _ = sliding_window.decide(None, policy, 10_001, 1, True)
    assert sliding_window.decide(log, policy, 11_000, 1, True) == (log, (False, 0, 1, 1))
    assert sliding_window.decide(log, policy, 11_001, 1, False) == (log, (True, 1, 0, 0))


def test_the_process_clock_decides_when_none_is_given():
    limiter = Limiter(SlidingWindow(1, window=3600))
    assert limiter.allow("a")
    assert 3599 < limiter.take("a").retry_after <= 3600


def test_a_clock_that_was_a_year_ahead_does_not_stop_idle_keys_from_being_freed(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    clock.advance(365 * 86400)
    limiter.take("glitch")
    clock.advance(-365 * 86400)
    for n in range(3000):
        limiter.take(f"gone-{n}")
    for _ in range(600):
        clock.advance(1)
        limiter.take("a")
    assert len(store) == 1


@each
def test_a_state_that_a_clock_step_left_ahead_is_counted_also_when_the_search_for_idle_keys_repairs_it(
    clock: ManualClock, policy: Policy
):
    store = MemoryStore(clock=clock)
    limiter = limiter_of(policy, store)
    clock.advance(365 * 86400)
    for n in range(5):
        limiter.take(f"k{n}", 5)
    clock.advance(-365 * 86400)
    for _ in range(30):
        limiter.peek("other")
    assert not any(limiter.allow(f"k{n}") for n in range(5))
    assert store.repaired == 5


def test_no_namespace_is_left_behind_by_a_clock_that_was_a_year_ahead(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiters = [Limiter(SlidingWindow(5, window=60, name=f"p{n}"), store=store) for n in range(20)]
    clock.advance(365 * 86400)
    for _ in range(50):
        limiters[0].take("glitch")
        clock.advance(1)
    clock.advance(-365 * 86400)
    for limiter in limiters:
        for n in range(50):
            limiter.take(f"gone-{n}")
    for _ in range(400):
        clock.advance(1)
        limiters[0].take("a")
    assert len(store) == 1


class Reading:
    """A clock that reads what it is told to."""

    def __init__(self, now_us: object) -> None:
        self.reads = now_us

    def now_us(self):
        return self.reads


FURTHEST_US = 8 * 10**15


@pytest.mark.parametrize("reads", [FURTHEST_US + 1, -FURTHEST_US - 1, 2**63, 10**30, 1.5, float("nan"), "0", None])
def test_a_clock_that_reads_what_no_store_can_count_by_is_refused_and_nothing_is_charged(reads: object):
    clock = Reading(10**15)
    store = MemoryStore(clock=clock)
    bucket, window = TokenBucket(5, window=60), SlidingWindow(5, window=60)
    both, alone = Limiter(bucket, window, store=store), Limiter(window, store=store)
    both.take("a")
    clock.reads = reads
    calls = [
        lambda: both.take("a"),
        lambda: both.take("fresh"),
        lambda: alone.allow("a"),
        lambda: alone.block("a", 30),
        lambda: Limiter(SlidingWindow(5, window=1), store=store),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"clock\.now_us\(\) must be a whole number from -8\d+ to 8\d+, .*, got "):
            call()
        assert store._lock.token == [None]
    clock.reads = 10**15
    assert [decision.remaining for decision in both.peek("a").decisions] == [4, 4]
    assert len(store) == 2


@pytest.mark.parametrize("now_us", [FURTHEST_US, -FURTHEST_US, -1])
@pytest.mark.parametrize("window", [0.000001, 3650 * 86400])
@pytest.mark.parametrize("buckets", [None, 1])
def test_a_clock_may_be_as_far_from_its_origin_as_is_said(now_us: int, window: float, buckets: int | None):
    store = MemoryStore(clock=Reading(now_us))
    policies = (
        SlidingWindow(5, window=window, buckets=buckets),
        TokenBucket(5, window=window),
        FixedWindow(5, window=window),
        CalendarWindow(5, every="year"),
        Concurrency(5, ttl=window),
    )
    limiter = Lender(*policies, store=store)
    assert [limiter.take("a", cost).allowed for cost in (1, 1, 2, 2)] == [True, True, True, False]
    assert [limiter.block("a", 30), limiter.allow("a")] == [None, False]
