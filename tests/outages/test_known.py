"""What the store last answered for each counter: how much was used, until when, and for how many counters."""

from __future__ import annotations

import pytest

from outages.every_algorithm import each, monotonic, policies, request
from sluicegate import MemoryStore, SlidingWindow, StoreUnavailable
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy, boundless
from sluicegate._core.request import Charge
from sluicegate._stores import known as module
from sluicegate._stores.known import Known
from sluicegate.testing import ManualClock

POLICY = SlidingWindow(100, window=60)
SECOND = 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(1000)
    monkeypatch.setattr(module, "time", monotonic(clock))
    return clock


def learn(known: Known, remaining: int, key: str = "a", policy: Policy = POLICY, reset_after: float = 60) -> None:
    verdict = Verdict(True, remaining, 0, round(reset_after * SECOND))
    known.learn([(Charge(policy, key, 1),)], [[verdict]])


def test_what_was_used_is_known_until_it_is_all_free_again(clock: ManualClock):
    known = Known()
    learn(known, 70, reset_after=40)
    assert known.used(POLICY, "a") == 30
    clock.advance(39.999999)
    assert known.used(POLICY, "a") == 30
    clock.advance(0.000001)
    assert known.used(POLICY, "a") == 0


def test_the_last_answer_counts(clock: ManualClock):
    known = Known()
    for remaining in (70, 20, 90):
        learn(known, remaining)
    assert known.used(POLICY, "a") == 10


def test_nothing_is_known_of_other_keys_and_other_policies(clock: ManualClock):
    known = Known()
    learn(known, 70)
    assert known.used(POLICY, "b") == 0
    assert known.used(SlidingWindow(100, window=30), "a") == 0


@each
def test_it_agrees_with_the_store_for_every_algorithm(clock: ManualClock, policy: Policy):
    known, store = Known(), MemoryStore(clock=clock)
    for cost, used in ((5, 5), (4, 9), (policy.limit, 9)):  # the last one is denied, and says as much
        asked = request(policy, cost=cost)
        known.learn([asked.charges], [store.decide(asked)])
        assert known.used(policy, "a") == used
    clock.advance(3600)
    assert known.used(policy, "a") == 0


def test_every_charge_of_a_request_is_learned(clock: ManualClock):
    known, store, several = Known(), MemoryStore(clock=clock), policies()
    asked = request(*several, cost=3)
    known.learn([asked.charges], [store.decide(asked)])
    assert [known.used(policy, "a") for policy in several] == [3] * 5


def test_answers_that_are_not_verdicts_are_passed_over(clock: ManualClock):
    known = Known()
    charges = [(Charge(POLICY, key, 1),) for key in "abc"]
    known.learn(charges, [StoreUnavailable("down"), None, [Verdict(True, 60, 0, SECOND)]])
    assert [known.used(POLICY, key) for key in "abc"] == [0, 0, 40]


def test_units_are_known_whatever_limit_is_asked_with_later(clock: ManualClock):
    # The limit is not part of a counter: it may depend on the caller, or be lowered.
    known = Known()
    learn(known, 50)
    assert known.used(POLICY.with_limit(60), "a") == 50
    assert known.used(POLICY.with_limit(1000), "a") == 50


@each
def test_units_that_were_entered_whatever_the_limit_are_known_to_be_used(clock: ManualClock, policy: Policy):
    known, store = Known(), MemoryStore(clock=clock)
    store.decide(request(policy, cost=4))
    forced = request(boundless(policy), cost=3)
    known.learn([forced.charges], [store.decide(forced)])  # as when what is owed is sent by itself
    assert known.used(policy, "a") == 7


def test_debt_is_no_more_than_the_whole_burst_for_a_share(clock: ManualClock):
    known = Known()
    learn(known, 0)
    assert known.used(POLICY, "a") == 100


def test_only_the_counters_that_were_not_used_lately_are_forgotten(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 10)
    known = Known()
    for number in range(1000):
        learn(known, 70, key=f"{number}")
        learn(known, 60, key="busy")
        assert known.used(POLICY, "busy") == 40
        assert len(known._young) + len(known._old) <= 2 * 11
        # The last ten, at least.
        assert all(known.used(POLICY, f"{n}") for n in range(max(number - 8, 0), number + 1))
    assert known.used(POLICY, "0") == 0


def test_a_new_answer_hides_one_of_the_generation_before(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    known = Known()
    for key in "abc":
        learn(known, 70, key=key)
    learn(known, 90, key="a")
    assert [known.used(POLICY, key) for key in "abc"] == [10, 30, 30]


def test_forget_drops_one_counter_of_both_generations(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    known = Known()
    for key in "abca":
        learn(known, 70, key=key)
    known.forget(POLICY, "a")
    known.forget(POLICY, "never-seen")
    assert [known.used(POLICY, key) for key in "abc"] == [0, 30, 30]


def test_clear_drops_all_counters_of_both_generations(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    known = Known()
    for key in "abcd":
        learn(known, 70, key=key)
    known.clear()
    assert [known.used(POLICY, key) for key in "abcd"] == [0] * 4


def test_what_is_given_back_is_known_to_be_free_and_the_rest_stays_known():
    known, policy = Known(), SlidingWindow(100, window=60)
    known.learn([(Charge(policy, "alice", 5),)], [[Verdict(True, 40, 0, 60_000_000)]])
    known.lower(policy, "alice", 5)
    assert known.used(policy, "alice") == 55
    known.lower(policy, "bob", 5)
    assert known.used(policy, "bob") == 0
