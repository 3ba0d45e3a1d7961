"""Charges that are settled where they stand, debts and leases: on every algorithm and every store."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

import servers
from sluicegate import CalendarWindow, Concurrency, FixedWindow, SlidingWindow, TokenBucket
from sluicegate._algorithms import BY_NAME
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import MAX_UNITS, MOST_DEBT, Policy, boundless
from sluicegate._core.request import Counter, Settlement
from sluicegate._stores.base import Reserved
from stores.harness import Harness, charges, drive

US = 0.000001

EVERY = [
    SlidingWindow(10, window=60),
    TokenBucket(10, window=60),
    FixedWindow(10, window=60),
    CalendarWindow(10, every="hour"),
    Concurrency(10, ttl=60),
]
COUNTING = [policy for policy in EVERY if not policy.lends]
SLIDING, BUCKET, FIXED, CALENDAR, LEASES = EVERY

each = pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.algorithm)
each_that_counts = pytest.mark.parametrize("policy", COUNTING, ids=lambda policy: policy.algorithm)


@pytest.fixture
def driven(server: servers.Server, prefix: str) -> Iterator[Harness]:
    """A store on a real server whose clock the test moves."""
    harness = Harness("redis", client=server.client, prefix=prefix)
    yield harness
    harness.close()


def test_every_algorithm_is_here():
    assert {policy.algorithm for policy in EVERY} == set(BY_NAME)


def to_an_edge(harness: Harness, policy: Policy) -> None:
    harness.advance((policy.window_us - harness.now_us % policy.window_us) / 1_000_000)


def reserve(harness: Harness, policy: Policy, cost: int = 1, key: str = "a") -> Settlement | None:
    """Reserve. Returns the settlement that changes nothing; None if it was denied."""
    (answer,) = harness.reserve(charges((policy, key, cost)))
    return Settlement(policy, key, cost, answer.marks[0], cost) if isinstance(answer, Reserved) else None


def take(harness: Harness, policy: Policy, cost: int = 1) -> bool:
    ((verdict,),) = harness.decide(charges((policy, "a", cost)), commit=True)
    return verdict.allowed


def settle(harness: Harness, reserved: Settlement, actual: int) -> bool:
    (found,) = harness.settle(reserved._replace(actual=actual))
    return found


def remaining(harness: Harness, policy: Policy, key: str = "a") -> int:
    return see(harness, policy, key).remaining


def see(harness: Harness, policy: Policy, key: str = "a", cost: int = 1) -> Verdict:
    ((verdict,),) = harness.decide(charges((policy, key, cost)), commit=False)
    return verdict


# Settling


@each
def test_what_is_settled_to_0_is_free_at_once(harness: Harness, policy: Policy):
    fresh = see(harness, policy)
    whole = reserve(harness, policy, 10)
    assert remaining(harness, policy) == 0
    assert settle(harness, whole, 0)
    assert see(harness, policy) == fresh
    assert not policy.lends or harness.kind == "memory" or harness.stored() == {}


@each_that_counts
def test_a_charge_is_settled_down_and_up_and_past_the_limit(harness: Harness, policy: Policy):
    for actual, left in ((4, 6), (5, 5), (8, 2), (10, 0), (35, 0)):
        harness.run(harness.store.forget([Counter(policy, "a")]))
        harness.advance(US)
        assert settle(harness, reserve(harness, policy, 5), actual)
        assert remaining(harness, policy) == left
    wait_us = see(harness, policy).retry_after_us
    harness.advance((wait_us - 1) / 1_000_000)
    assert not see(harness, policy).allowed
    harness.advance(US)
    assert see(harness, policy).allowed


@each
def test_what_is_settled_twice_gives_no_more_back_than_is_there(harness: Harness, policy: Policy):
    reserved = reserve(harness, policy, 3)
    actual = 0 if policy.lends else 1
    settle(harness, reserved, actual)
    harness.advance(US)
    for _ in range(3):
        settle(harness, reserved, actual)
        assert remaining(harness, policy) <= 10
    other = reserve(harness, policy, 9)
    assert other
    if policy in (SLIDING, LEASES):  # of these each charge is known by itself
        assert not settle(harness, reserved, actual)
        assert remaining(harness, policy) == (1 if policy.lends else 0)


@each
def test_what_was_forgotten_meanwhile_is_not_given_back_to_those_who_came_after(harness: Harness, policy: Policy):
    reserved = reserve(harness, policy, 10)
    harness.advance(1)
    harness.run(harness.store.forget([Counter(policy, "a")]))
    assert not settle(harness, reserved, 0)
    assert reserve(harness, policy, 7)
    for actual in (0, 10) if policy.lends else (0, 1, 90):
        assert not settle(harness, reserved, actual)
        assert remaining(harness, policy) == 3


@each
def test_what_has_left_its_window_is_not_settled(harness: Harness, policy: Policy):
    to_an_edge(harness, policy)
    reserved, again = reserve(harness, policy, 10), 10
    harness.advance(policy.window)
    assert not settle(harness, reserved, 0)
    assert remaining(harness, policy) == 10
    assert reserve(harness, policy, again)
    assert not settle(harness, reserved, 0)
    assert remaining(harness, policy) == 0


def test_what_was_given_back_does_not_free_units_a_second_time_when_its_entry_would_have_left(harness: Harness):
    whole = reserve(harness, SLIDING, 10)
    harness.advance(59)
    assert settle(harness, whole, 0)
    assert reserve(harness, SLIDING, 10)
    harness.advance(1)
    assert see(harness, SLIDING).retry_after_us == 59_000_000
    assert reserve(harness, SLIDING) is None


@pytest.mark.parametrize("policy", [SLIDING, LEASES], ids=["sliding-window", "concurrency"])
def test_charges_a_microsecond_apart_are_settled_apart_and_leave_apart(harness: Harness, policy: Policy):
    harness.advance(0.123456)
    first = reserve(harness, policy, 2)
    harness.advance(US)
    second = reserve(harness, policy, 3)
    harness.advance(US)
    third = reserve(harness, policy, 5)
    assert settle(harness, second, 0)
    assert remaining(harness, policy) == 3
    assert [see(harness, policy, cost=cost).retry_after_us for cost in (3, 4, 5, 6, 10)] == [
        *[0, 59_999_998, 59_999_998],
        *[60_000_000] * 2,
    ]
    harness.advance(59.999998)
    assert not settle(harness, first, 0)
    assert remaining(harness, policy) == 5
    assert settle(harness, third, 0)
    assert remaining(harness, policy) == 10


def test_charges_of_one_instant_are_settled_one_after_the_other(harness: Harness):
    answers = harness.reserve(*[charges((SLIDING, "a", 2))] * 4)
    reserved = [Settlement(SLIDING, "a", 2, answer.marks[0], 2) for answer in answers]
    for n, one in enumerate(reserved, 1):
        assert settle(harness, one, 1)
        assert remaining(harness, SLIDING) == 2 + n
    harness.advance(60)
    assert remaining(harness, SLIDING) == 10


def test_a_charge_of_the_instant_of_others_that_cannot_be_settled_is_settled(harness: Harness):
    """A coarse clock gives many requests one instant. Their units share an entry, also where each of them took one."""
    assert take(harness, SLIDING) and take(harness, SLIDING)
    reserved = reserve(harness, SLIDING, 5)
    assert settle(harness, reserved, 0)
    assert remaining(harness, SLIDING) == 8
    harness.advance(60)
    assert remaining(harness, SLIDING) == 10


def test_a_bucket_gives_back_nothing_that_has_drained_however_many_reservations_are_open(harness: Harness):
    """Ten open ones are each cancelled after a part of the window: the rest of the burst is not handed out again."""
    kept = 0
    for _ in range(8):
        opened = [reserved for reserved in (reserve(harness, BUCKET) for _ in range(10)) if reserved]
        harness.advance(6)  # one unit drains
        for reserved in opened[1:]:
            assert settle(harness, reserved, 0)
        kept += len(opened[:1])
        assert remaining(harness, BUCKET) <= 10
    assert kept <= 10 + 8


def test_the_edge_of_a_window_ends_what_can_be_settled_in_it(harness: Harness):
    for policy in (FIXED, CALENDAR):
        to_an_edge(harness, policy)
        harness.advance(policy.window - US)
        reserved = reserve(harness, policy, 10)
        harness.advance(US)
        assert reserve(harness, policy, 4)
        assert not settle(harness, reserved, 0)
        assert remaining(harness, policy) == 6


@each
def test_several_charges_are_settled_in_one_call_and_each_says_whether_it_was_there(harness: Harness, policy: Policy):
    here, gone, other = (reserve(harness, policy, 4, key) for key in ("a", "gone", "b"))
    harness.run(harness.store.forget([Counter(policy, "gone")]))
    found = harness.settle(*(each._replace(actual=0) for each in (here, gone, other)))
    assert found == [True, False, True]
    assert [remaining(harness, policy, key) for key in ("a", "gone", "b")] == [10, 10, 10]


# Blocks


@each
def test_a_block_stays_where_it_is_when_what_is_under_it_is_settled_even_to_nothing(harness: Harness, policy: Policy):
    to_an_edge(harness, policy)
    reserved = [reserve(harness, policy, cost) for cost in (1, 3, 2)]
    harness.run(harness.store.block([Counter(policy, "a")], 5_000_003))
    for n, one in enumerate(reserved):
        harness.advance(1)
        assert settle(harness, one, 0)
        denied = see(harness, policy)
        assert (denied.allowed, denied.retry_after_us) == (False, 4_000_003 - 1_000_000 * n)
    harness.advance(2.000003 - US)
    assert reserve(harness, policy) is None
    harness.advance(US)
    # What drains of one is given back by all three: the bucket is not quite empty yet.
    free = 9 if policy is BUCKET else 10
    assert remaining(harness, policy) == free
    assert reserve(harness, policy, free)


def test_a_lease_under_a_block_may_be_renewed_and_both_go_on(harness: Harness):
    reserved = reserve(harness, LEASES, 10)
    harness.run(harness.store.block([Counter(LEASES, "a")], 100_000_000))
    harness.advance(30)
    assert settle(harness, reserved, 10)
    harness.advance(59)
    assert settle(harness, reserved, 10)
    assert see(harness, LEASES).retry_after_us == 60_000_000
    harness.advance(11)
    assert see(harness, LEASES).retry_after_us == 49_000_000
    assert settle(harness, reserved, 0)
    assert reserve(harness, LEASES, 10)


# Leases


def test_a_lease_ends_after_its_ttl_unless_it_is_renewed_and_is_then_lost(harness: Harness):
    dead, living = reserve(harness, LEASES, 4), reserve(harness, LEASES, 6)
    for _ in range(5):
        harness.advance(40)
        assert settle(harness, living, 6)
    assert remaining(harness, LEASES) == 4
    assert not settle(harness, dead, 4)
    assert not settle(harness, dead, 0)
    harness.advance(60 - US)
    assert remaining(harness, LEASES) == 4
    harness.advance(US)
    assert remaining(harness, LEASES) == 10
    assert not settle(harness, living, 6)
    assert reserve(harness, LEASES, 10)
    assert not settle(harness, living, 0)
    assert remaining(harness, LEASES) == 0


def test_leases_of_one_call_are_held_and_released_one_by_one(harness: Harness):
    answers = harness.reserve(*[charges((LEASES, "a", 1))] * 12)
    assert [answer[0].allowed for answer in answers] == [True] * 10 + [False]
    for n, answer in enumerate(answers[:10], 1):
        assert settle(harness, Settlement(LEASES, "a", 1, answer.marks[0], 1), 0)
        assert remaining(harness, LEASES) == n


@pytest.mark.parametrize("back", [1, 59, 119, 121, 3600, 365 * 86400])
def test_after_a_step_back_no_permit_is_lent_twice_and_every_one_comes_back(harness: Harness, back: float):
    held = [reserve(harness, LEASES, 5)]
    harness.advance(-back)
    held.append(reserve(harness, LEASES, 5))
    assert reserve(harness, LEASES) is None
    assert see(harness, LEASES).retry_after_us <= 2 * LEASES.window_us
    assert settle(harness, held[1], 5)
    assert remaining(harness, LEASES) == 0
    assert settle(harness, held[0], 0)
    assert remaining(harness, LEASES) == 5
    harness.advance(120)
    assert reserve(harness, LEASES, 10)


@pytest.mark.parametrize("back", [121, 365 * 86400])
def test_a_lease_that_is_renewed_after_a_step_back_ends_a_ttl_later_and_not_when_the_clock_is_there_again(
    harness: Harness, back: float
):
    dead, living = reserve(harness, LEASES, 4), reserve(harness, LEASES, 6)
    harness.advance(-back)
    assert settle(harness, living, 6)
    assert remaining(harness, LEASES) == 0
    harness.advance(60)
    assert remaining(harness, LEASES) == 10
    assert [settle(harness, each, 0) for each in (dead, living)] == [False, False]


# Lines


@each
def test_a_line_is_decided_in_order_and_ends_at_the_first_that_is_denied(harness: Harness, policy: Policy):
    costs = [3, 4, 5, 1, 1]  # the dear one is not overtaken by the cheap ones behind it
    answers = harness.reserve(*(charges((policy, "a", cost)) for cost in costs))
    assert [[verdict.allowed for verdict in answer] for answer in answers] == [[True], [True], [False]]
    assert [isinstance(answer, Reserved) for answer in answers] == [True, True, False]
    assert remaining(harness, policy) == 3


@each
def test_a_line_of_several_policies_is_charged_to_all_or_none(harness: Harness, policy: Policy):
    narrow = TokenBucket(2, window=60, name="narrow")
    answers = harness.reserve(*[charges((policy, "a", 1), (narrow, "a", 1))] * 4)
    assert [[verdict.allowed for verdict in answer] for answer in answers] == [[True, True]] * 2 + [[True, False]]
    assert (remaining(harness, policy), remaining(harness, narrow)) == (8, 0)
    assert len(set(map(str, [answer.marks for answer in answers[:2]]))) == (2 if policy.lends else 1)
    for answer in answers[:2]:
        pairs = zip((policy, narrow), answer.marks, strict=True)
        assert harness.settle(*(Settlement(each, "a", 1, mark, 0) for each, mark in pairs)) == [True, True]
    assert (remaining(harness, policy), remaining(harness, narrow)) == (10, 2)


def test_a_denial_in_one_line_does_not_end_another_line_of_the_same_call(driven: Harness):
    lines = [[charges((policy, key, 4))] * 4 for policy in EVERY for key in "ab"]
    lines.insert(3, [charges((SLIDING, "c", 11)), charges((SLIDING, "c", 1))])
    answers = drive(driven.client, driven.store._reserve([tuple(line) for line in lines]))
    shown = [[answer[0].allowed for answer in line] for line in answers]
    assert shown.pop(3) == [False]
    assert shown == [[True, True, False]] * 10
    assert {remaining(driven, policy, key) for policy in EVERY for key in "ab"} == {2}
    assert remaining(driven, SLIDING, "c") == 10


# Debts


@each_that_counts
def test_what_has_happened_is_entered_whatever_the_limit_and_later_requests_wait_for_it(
    harness: Harness, policy: Policy
):
    to_an_edge(harness, policy)
    assert harness.limiter(policy).take("a", 4)
    ((entered,),) = harness.decide(charges((boundless(policy), "a", 25)))
    assert entered.allowed
    seen = see(harness, policy)
    assert (seen.allowed, seen.remaining) == (False, 0)
    assert seen.retry_after_us == (120_000_000 if policy is BUCKET else policy.window_us)
    harness.advance((seen.retry_after_us - 1) / 1_000_000)
    assert reserve(harness, policy) is None
    harness.advance(US)
    assert reserve(harness, policy)


@each_that_counts
def test_debt_saturates_and_the_counter_counts_on_afterwards(harness: Harness, policy: Policy):
    to_an_edge(harness, policy)
    endless, most = boundless(policy), MOST_DEBT if policy is not BUCKET else 2**53 // policy.window_us
    cost = min(MAX_UNITS, most // 10)
    reserved, entered = reserve(harness, policy, 10), 10
    for _ in range(12):
        ((verdict,),) = harness.decide(charges((endless, "a", cost)))
        entered += cost * verdict.allowed
    assert most - cost < entered <= most
    for _ in range(3):  # settling up stops there, too
        assert settle(harness, reserved, MAX_UNITS) or policy is SLIDING
        assert 0 <= remaining(harness, endless) <= most - entered
    assert not reserve(harness, policy)
    assert settle(harness, reserved, 0)
    seen = see(harness, policy)
    assert seen.remaining == 0
    harness.advance(seen.reset_after_us / 1_000_000)
    harness.advance(0.001)  # a float of seconds holds so long a span to some microseconds only
    assert reserve(harness, policy, 10)
    assert reserve(harness, policy) is None


# Size


def size(harness: Harness, policy: Policy) -> int:
    """Return how much is kept of key a: entries, leases or numbers in memory; bytes on a server."""
    if harness.kind == "redis":
        values = harness.stored().values()
        flat = [piece for value in values for piece in (value if isinstance(value, list) else [value])]
        return sum(len(piece[0]) if isinstance(piece, tuple) else len(piece) for piece in flat)
    (table,) = harness.store._tables.values()
    state = table.states["a"]
    assert sum(map(len, table._wheel._slots)) + len(table._wheel._pending) <= 1
    return len(getattr(state, "pairs", getattr(state, "by_number", ())))


def hold_and_release(harness: Harness, policy: Policy, times: int, look: int) -> int:
    """Take and release so often, now and then beside another charge that stands. Returns the largest size seen."""
    allowed, sizes = 0, []
    for n in range(times):
        reserved = reserve(harness, policy)
        if n % 1000 == 0:
            reserve(harness, policy)
        harness.advance(0.01)
        if reserved is not None:
            allowed += 1
            settle(harness, reserved, 0)
        if n % look == 0:
            sizes.append(size(harness, policy))
    assert allowed > times * 0.9
    return max(sizes)


MOST_KEPT = {"memory": 2 * (1 + 2 * 6 + 2), "redis": 300}
"""Of six charges that stand in a window, twice as many entries that may have left, and two."""


@each
def test_holding_and_releasing_leaves_nothing_that_grows(policy: Policy):
    assert hold_and_release(Harness("memory"), policy, 20_000, look=7) <= MOST_KEPT["memory"]


@each
@pytest.mark.slow
def test_holding_and_releasing_a_million_times_leaves_nothing_that_grows(policy: Policy):
    pairs = 1_000_000 if policy is SLIDING else 100_000  # a log could grow with each of them
    assert hold_and_release(Harness("memory"), policy, pairs, look=997) <= MOST_KEPT["memory"]


@each
def test_holding_and_releasing_on_a_server_leaves_nothing_that_grows(driven: Harness, policy: Policy):
    assert hold_and_release(driven, policy, 400, look=7) <= MOST_KEPT["redis"]


@each
@pytest.mark.slow
def test_holding_and_releasing_thousands_of_times_on_a_server_leaves_nothing_that_grows(
    driven: Harness, policy: Policy
):
    assert hold_and_release(driven, policy, 3_000, look=97) <= MOST_KEPT["redis"]


@each
def test_g7_a_key_that_is_settled_and_renewed_outlives_the_wait_and_the_reset_that_it_told_and_not_by_much(
    driven: Harness, policy: Policy
):
    chance, opened, expires_us = Random(4), [], 0
    for _ in range(300):
        verb = chance.choice(["reserve", "reserve", "settle", "settle", "block", "charge"])
        if verb == "settle" and opened:
            one = opened.pop(chance.randrange(len(opened)))
            actual = chance.choice([0, one.cost] if policy.lends else [0, 0, 1, one.cost + 2])
            if settle(driven, one, actual) and policy.lends and actual:
                opened.append(one)
        elif verb == "block" and chance.random() < 0.2:
            driven.store.block([Counter(policy, "a")], chance.choice([0, 1_000_000, 90_000_000]))
        elif verb == "charge" and not policy.lends:
            driven.decide(charges((boundless(policy), "a", 2)))
        else:
            opened += filter(None, [reserve(driven, policy, chance.choice([1, 2, 3]))])
        if driven.stored():
            told, seen = driven.ttl_told(), see(driven, policy)
            if told is not None:
                expires_us = driven.now_us + round(told * 1_000_000)
                assert told <= policy.window * 9 / 8 + 90.002 or policy is BUCKET  # which holds any debt
            idle_us = max(seen.retry_after_us, seen.reset_after_us)
            assert idle_us == 0 or expires_us >= driven.now_us + idle_us
        driven.advance(chance.choice([0.001, 0.5, 2, 7]))
