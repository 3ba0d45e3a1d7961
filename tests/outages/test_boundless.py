"""Charges that are entered whatever the limit, and policies with a share of one: on the same counters, in memory."""

from __future__ import annotations

import pytest

from outages.every_algorithm import LIMIT, each, request
from sluicegate import MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.policy import MAX_UNITS, Policy, boundless, with_share
from sluicegate._core.request import Request
from sluicegate.testing import ManualClock


def ask(store: MemoryStore, asked: Request) -> Verdict:
    (verdict,) = store.decide(asked)
    return verdict


def force(store: MemoryStore, policy: Policy, cost: int) -> bool:
    return ask(store, request(boundless(policy), cost=cost)).allowed


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@each
@pytest.mark.parametrize("before", [0, LIMIT])
def test_a_forced_charge_is_entered_whatever_the_limit_and_later_requests_wait_for_it(
    clock: ManualClock, store: MemoryStore, policy: Policy, before: int
):
    if before:
        assert ask(store, request(policy, cost=before)).allowed
    assert force(store, policy, 3 * LIMIT)
    for cost in (1, LIMIT):
        denied = ask(store, request(policy, cost=cost))
        assert (denied.allowed, denied.remaining) == (False, 0)
        assert 0 < denied.retry_after_us <= denied.reset_after_us
    clock.advance((denied.retry_after_us - 1) / 1_000_000)
    assert not ask(store, request(policy, cost=LIMIT)).allowed
    clock.advance(0.000001)
    assert ask(store, request(policy, cost=LIMIT)).allowed


@each
def test_a_forced_charge_that_fits_counts_as_any_other(store: MemoryStore, policy: Policy):
    assert force(store, policy, 5)
    peeked = ask(store, request(policy, commit=False))
    assert (peeked.allowed, peeked.remaining) == (True, LIMIT - 5)


def test_debt_in_a_bucket_drains_at_the_pace_of_the_policy(store: MemoryStore):
    bucket = TokenBucket(LIMIT, window=60)
    assert force(store, bucket, 3 * LIMIT)
    # 36 units are in it, 12 may be, and 1 is to fit: 25 have to drain at 12 a minute.
    assert ask(store, request(bucket)).retry_after_us == 125_000_000


@each
def test_the_policy_itself_is_not_changed_and_counts_on_the_same_counter(policy: Policy):
    other = boundless(policy)
    assert (policy.limit, policy.burst) == (LIMIT, LIMIT)
    assert type(other) is type(policy)
    assert (other.namespace, other.name, other.window_us) == (policy.namespace, policy.name, policy.window_us)
    assert getattr(other, "buckets", None) == getattr(policy, "buckets", None)
    assert other == boundless(policy) == boundless(boundless(policy))


@each
def test_debt_saturates(clock: ManualClock, store: MemoryStore, policy: Policy):
    # On Redis a log's totals are kept modulo 2^40, and a number in Lua is a double.
    most = 2**53 // policy.window_us if isinstance(policy, TokenBucket) else 10**12
    left = most
    while left:
        assert force(store, policy, min(left, MAX_UNITS))
        left -= min(left, MAX_UNITS)
    for cost in (1, MAX_UNITS):
        assert not force(store, policy, cost)
    assert ask(store, request(boundless(policy), commit=False)).remaining == 0
    denied = ask(store, request(policy))
    assert (denied.allowed, denied.remaining) == (False, 0)
    assert denied.retry_after_us not in (0, NEVER)
    clock.advance(denied.retry_after_us / 1_000_000)
    assert ask(store, request(policy)).allowed


def test_the_most_debt_stays_exact_on_redis():
    # Whatever the limit, no more than this is ever in a log: an ordinary charge fits only below its own limit.
    assert boundless(SlidingWindow(MAX_UNITS, window=60)).limit < 2**40
    for window in (0.000001, 60, 3600, 10 * 366 * 86400):
        bucket = boundless(TokenBucket(1, window=window))
        assert 2**53 - bucket.window_us < bucket.burst * bucket.window_us <= 2**53
        assert bucket.limit == 1


@each
def test_a_share_has_the_counter_of_the_whole(store: MemoryStore, policy: Policy):
    part = with_share(policy, 4, 4)
    assert (part.limit, part.burst, part.namespace, policy.limit) == (4, 4, policy.namespace, LIMIT)
    assert ask(store, request(part, cost=3)).allowed
    assert not ask(store, request(part, cost=2)).allowed
    assert ask(store, request(policy, cost=LIMIT - 3)).allowed
    assert not ask(store, request(part)).allowed


@each
def test_only_a_bucket_tells_its_pace_from_its_burst(policy: Policy):
    part = with_share(policy, 6, 2)
    assert (part.limit, part.burst) == ((6, 2) if isinstance(policy, TokenBucket) else (2, 2))
