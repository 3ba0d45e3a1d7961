"""The guarantees of the design for every algorithm there is, on every store.

Each algorithm has its rule here once more, in a line or two over all that was allowed: how many units it holds at a
time. The promises that only one of them makes are at the end.
"""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from fractions import Fraction
from random import Random

import pytest

import servers
from sluicegate import CalendarWindow, Concurrency, FixedWindow, RedisStore, SlidingWindow, TokenBucket
from sluicegate._algorithms import BY_NAME
from sluicegate._core.policy import Policy
from stores.harness import Harness, LimiterAdapter, limiter_of

US = 0.000001
YEAR = 365 * 86400
NAME = "example"

Past = list[tuple[int, int]]
"""What was allowed: when, in microseconds, and how many units."""

EXAMPLES = {
    "sliding-window": [SlidingWindow(7, window=60, name=NAME)],
    "token-bucket": [
        TokenBucket(7, window=60, name=NAME),
        TokenBucket(7, window=60, burst=3, name=NAME),
        TokenBucket(7, window=60, burst=20, name=NAME),
    ],
    "fixed-window": [FixedWindow(7, window=60, name=NAME)],
    "calendar-window": [CalendarWindow(7, every="hour", name=NAME)],
    "concurrency": [Concurrency(7, ttl=60, name=NAME)],
}
"""All of seven a window; the burst of the first of each is its limit."""


def in_the_window(policy: Policy, past: Past, now_us: int) -> int:
    return sum(cost for at, cost in past if now_us - policy.window_us < at)


def since_the_edge(policy: Policy, past: Past, now_us: int) -> int:
    return sum(cost for at, cost in past if now_us - now_us % policy.window_us <= at)


def in_the_bucket(policy: Policy, past: Past, now_us: int) -> Fraction:
    level, before = Fraction(0), 0
    for at, cost in [*past, (now_us, 0)]:
        level = max(level - Fraction(policy.limit * (at - before), policy.window_us), Fraction(0)) + cost
        before = at
    return level


RULES = {
    "sliding-window": in_the_window,
    "token-bucket": in_the_bucket,
    "fixed-window": since_the_edge,
    "calendar-window": since_the_edge,  # of hours in UTC, which begin as those of 3600 seconds do
    "concurrency": in_the_window,  # of leases that nobody gives back or renews
}
"""How many units each holds of what was allowed; it has room for a cost where the sum is at most the burst."""

STORED = {
    "sliding-window": 20 + 12,
    "token-bucket": 22,
    "fixed-window": 26,
    "calendar-window": 26,
    "concurrency": len("used") + len("0123456789abcdef.1:7"),  # and their scores
}
"""How many bytes one allowed request is on a server."""


def short_repr(policy: Policy) -> str:
    return policy.algorithm + (f"-burst-{policy.burst}" if policy.burst != policy.limit else "")


each = pytest.mark.parametrize("policy", [policy for name in EXAMPLES for policy in EXAMPLES[name]], ids=short_repr)
one_of_each = pytest.mark.parametrize("policy", [first for first, *_ in EXAMPLES.values()], ids=short_repr)


@pytest.fixture
def driven(server: servers.Server, prefix: str):
    """A store on a real server whose clock the test moves."""
    harness = Harness("redis", client=server.client, prefix=prefix)
    yield harness
    harness.close()


def test_every_algorithm_has_an_example_here_and_a_rule():
    assert set(BY_NAME) == set(EXAMPLES) == set(RULES) == set(STORED)
    for name, policies in EXAMPLES.items():
        assert {policy.algorithm for policy in policies} == {name}


def held(policy: Policy, past: Past, now_us: int) -> Fraction | int:
    return RULES[policy.algorithm](policy, past, now_us)


def to_an_edge(harness: Harness, policy: Policy, *, before: float = 0) -> None:
    """Move the clock to where a window begins, or so many seconds before it. Where there are no edges all are alike."""
    harness.advance((policy.window_us - harness.now_us % policy.window_us) / 1_000_000 - before)


def us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def state_of(harness: Harness, limiter: LimiterAdapter) -> object:
    """Return all that can be seen of key a: what is said of it, and what lies on the server."""
    return limiter.peek("a"), harness.stored() if harness.kind == "redis" else None


# G1 never over


def greedily(harness: Harness, limiter: LimiterAdapter, windows: float) -> Past:
    """Take whatever there is, at the very moment it is there, for so many windows."""
    past: Past = []
    (policy,) = limiter._limiter.policies
    end_us = harness.now_us + round(windows * policy.window_us)
    while harness.now_us < end_us:
        free = limiter.peek("a").remaining
        if free:
            assert limiter.allow("a", free)
            past.append((harness.now_us, free))
        denied = limiter.take("a")
        assert denied.retry_after > 0
        harness.advance(denied.retry_after)
    return past


def worst(policy: Policy, past: Past) -> int:
    """Return the most units in any span as long as the window."""
    return max(sum(units for at, units in past if t - policy.window_us < at <= t) for t, _ in past)


@each
def test_g1_what_a_greedy_caller_gets_around_an_edge_is_the_worst_case_and_not_a_unit_more(
    harness: Harness, policy: Policy
):
    to_an_edge(harness, policy, before=US)
    past = greedily(harness, harness.limiter(policy), windows=3)
    # Three times the limit need a window of the calendar that is shorter than the longest: hours are not.
    reached = 2 * policy.limit if isinstance(policy, CalendarWindow) else policy.worst_case
    assert worst(policy, past) == reached <= policy.worst_case


def test_g1_the_worst_case_of_the_calendar_is_a_short_month_with_its_neighbours(harness: Harness):
    policy = CalendarWindow(7, every="month")
    harness.advance((us(datetime(2025, 2, 1, tzinfo=UTC).timestamp()) - 1 - harness.now_us) / 1_000_000)
    past = greedily(harness, harness.limiter(policy), windows=2)
    assert worst(policy, past) == 3 * policy.limit == policy.worst_case


# G1, G2, G5, G6: each answer against the rule


@each
def test_each_answer_to_hectic_traffic_is_that_of_the_rule(harness: Harness, policy: Policy):
    """Never over it, never under it, and its numbers are those of this moment: remaining, the wait, the reset."""
    limiter, chance, past = harness.limiter(policy), Random(policy.burst), []
    outcomes = set()
    for _ in range(120):
        window_us = policy.window_us
        to_edge_us = window_us - harness.now_us % window_us
        steps = [0, 0, 1, window_us // 50, window_us // 50, window_us // 7, to_edge_us, to_edge_us - 1]
        harness.advance(chance.choice([*steps, *([window_us] if chance.random() < 0.1 else [])]) / 1_000_000)
        cost = chance.choice([1, 1, 1, 2, 3, policy.burst, policy.burst + 1])
        had_room = held(policy, past, harness.now_us) + cost <= policy.burst

        decision = limiter.take("a", cost)
        assert decision.allowed == had_room
        outcomes.add((decision.allowed, cost))
        if had_room:
            past.append((harness.now_us, cost))
        assert decision.remaining == math.floor(policy.burst - held(policy, past, harness.now_us))
        assert decision.limit == policy.limit
        idle_us = harness.now_us + us(decision.reset_after)
        assert held(policy, past, idle_us) == 0
        assert decision.reset_after == 0 or held(policy, past, idle_us - 1) > 0
        if had_room:
            assert decision.retry_after == 0
        elif cost > policy.burst:
            assert decision.retry_after == math.inf
        else:
            then_us = harness.now_us + us(decision.retry_after)
            assert held(policy, past, then_us) + cost <= policy.burst < held(policy, past, then_us - 1) + cost
    assert worst(policy, past) <= policy.worst_case
    assert {(True, 1), (False, 1), (True, 2), (False, 2), (False, policy.burst + 1)} <= outcomes


@one_of_each
def test_g2_steady_demand_gets_its_full_rate_for_ten_windows(harness: Harness, policy: Policy):
    limiter, allowed = harness.limiter(policy), 0
    to_an_edge(harness, policy)
    for _ in range(120):
        allowed += limiter.allow("a")
        harness.advance(policy.window / 12)
    # A bucket gives its burst at once, and then a unit for each that has flown out; the last has not by the last call.
    assert allowed == 10 * policy.limit + (policy.burst - 1 if isinstance(policy, TokenBucket) else 0)


# G3 denials are free


@one_of_each
def test_g3_a_denied_request_changes_nothing(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.take("a", policy.burst)
    harness.advance(1)
    before = state_of(harness, limiter)
    for cost in (1, 2, policy.burst, policy.burst + 1, 10**11):
        assert not limiter.take("a", cost).allowed
        assert not limiter.allow("a", cost)
    assert state_of(harness, limiter) == before


@one_of_each
def test_g3_a_denied_request_for_a_new_key_stores_nothing(harness: Harness, policy: Policy):
    assert not harness.limiter(policy).allow("a", policy.burst + 1)
    assert not (harness.stored() if harness.kind == "redis" else len(harness.store))


@one_of_each
def test_g3_a_flood_of_denials_does_not_delay_the_next_allowed_request(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.take("a", policy.burst)
    free_us = harness.now_us + us(limiter.peek("a").retry_after)
    for _ in range(20):
        harness.advance((free_us - harness.now_us) / 3_000_000)
        assert not limiter.allow("a")
    harness.advance((free_us - harness.now_us) / 1_000_000)
    assert limiter.allow("a")


# G4 all or nothing


@one_of_each
def test_g4_what_one_policy_denies_is_charged_to_none_beside_it(harness: Harness, policy: Policy):
    others = [first for first, *_ in EXAMPLES.values() if first is not policy]
    beside, all_together = harness.limiter(*map(renamed, others)), harness.limiter(policy, *map(renamed, others))
    assert all(part.remaining == 6 for part in all_together.take("a").decisions)
    harness.limiter(policy).take("a", 6)
    before = beside.peek("a"), harness.stored() if harness.kind == "redis" else None
    denied = all_together.take("a", 2)
    assert [part.allowed for part in denied.decisions] == [False] + [True] * len(others)
    assert (denied.policy, denied.remaining) == (NAME, 0)
    assert (beside.peek("a"), harness.stored() if harness.kind == "redis" else None) == before


def renamed(policy: Policy) -> Policy:
    span = next(name for name in ("every", "ttl", "window") if hasattr(policy, name))
    return type(policy)(7, name=policy.algorithm, **{span: getattr(policy, span)})


# G5 honest wait


@each
def test_g5_denied_one_microsecond_before_the_wait_ends_and_allowed_when_it_ends(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    harness.advance(0.123457)
    for cost in (1, 2, 3):
        key = f"a{cost}"
        for _ in range(policy.burst):
            limiter.take(key)
            harness.advance(0.7)
        denied = next(decision for decision in (limiter.take(key, cost) for _ in range(9)) if not decision)
        harness.advance(denied.retry_after - US)
        assert not limiter.allow(key, cost)
        harness.advance(US)
        assert limiter.allow(key, cost)


@one_of_each
def test_g5_a_cost_above_the_burst_can_never_fit(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    for _ in range(2):
        assert limiter.take("a", policy.burst + 1).retry_after == math.inf
        limiter.take("a", policy.burst)
        assert 0 < limiter.take("a", policy.burst).retry_after < math.inf


# G6 one answer


@one_of_each
def test_g6_peek_gives_the_same_answer_and_takes_nothing(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    assert (limiter.peek("a").remaining, limiter.peek("a").reset_after) == (policy.burst, 0.0)
    limiter.take("a", 2)
    before = state_of(harness, limiter)
    for _ in range(3):
        seen = limiter.peek("a")
        assert (seen.allowed, seen.remaining, seen.retry_after) == (True, policy.burst - 2, 0.0)
    assert limiter.peek("a", policy.burst) == limiter.take("a", policy.burst)
    assert state_of(harness, limiter) == before


# G7 bounded memory


@one_of_each
def test_g7_a_key_is_as_few_bytes_as_its_algorithm_says_whatever_the_cost(driven: Harness, policy: Policy):
    limiter = driven.limiter(policy)
    limiter.take("a", policy.burst)
    (stored,) = driven.stored().values()
    pieces = stored if isinstance(stored, list) else [stored]
    assert sum(len(piece[0] if policy.lends else piece) for piece in pieces) == STORED[policy.algorithm]


@each
def test_g7_every_key_outlives_the_wait_and_the_reset_that_it_told_and_not_by_much(driven: Harness, policy: Policy):
    limiter, expires_us, chance = driven.limiter(policy), 0, Random(2)
    longest = max(policy.window * 9 / 8, policy.window * policy.burst / policy.limit) + 0.002
    for n in range(150):
        decision = limiter.take("a", chance.choice([1, 1, 2, policy.burst]))
        told = driven.ttl_told()
        if told is not None:
            assert told <= longest
            expires_us = driven.now_us + us(told)
        assert n == 0 or decision.remaining < policy.burst
        assert expires_us >= driven.now_us + us(max(decision.reset_after, decision.retry_after))
        driven.advance(policy.window / 40)


@one_of_each
def test_g7_on_the_servers_own_clock_every_key_has_a_ttl(server: servers.Server, prefix: str, policy: Policy):
    with RedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
        decision = limiter_of(policy, store).take("a", 7)
        (key,) = servers.counters(server, prefix)
        left = server.client.pttl(key) / 1000
    assert decision.reset_after - 1 < left <= policy.window * 9 / 8 + 0.005


# G8 one clock


@one_of_each
def test_g8_after_a_step_back_units_are_held_as_much_longer_and_the_wait_says_so(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    to_an_edge(harness, policy)
    harness.advance(0.1)
    limiter.take("a", policy.burst)
    before = limiter.peek("a")
    for back in (0.3, 0.99):
        harness.advance(-back * policy.window)
        denied = limiter.take("a")
        assert us(denied.retry_after) == us(before.retry_after) + us(back * policy.window)
        assert us(denied.reset_after) == us(before.reset_after) + us(back * policy.window)
        harness.advance(back * policy.window)
    harness.advance(before.retry_after - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.allow("a")
    assert harness.store.repaired == 0


@one_of_each
def test_g8_steps_back_never_let_one_more_through(harness: Harness, policy: Policy):
    limiter, elapsed_us, past = harness.limiter(policy), 0, []
    to_an_edge(harness, policy)
    for step in itertools.islice(itertools.cycle([0, 0, -0.3, 0, 0]), 60):
        harness.advance(step * policy.window)
        harness.advance(policy.window / 12)
        elapsed_us += policy.window_us // 12
        past.extend((elapsed_us, 1) for _ in range(3) if limiter.allow("a"))
    assert policy.burst < sum(units for _, units in past)
    assert worst(policy, past) <= policy.worst_case


@one_of_each
def test_g8_a_step_of_a_year_ahead_gives_at_most_one_more_burst(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    limiter.take("a", policy.burst)
    harness.advance(YEAR)
    assert sum(limiter.allow("a") for _ in range(policy.burst + 3)) == policy.burst


def repaired_for(policy: Policy) -> float:
    """Return how long units are held at most after a repair, seconds: a count, until the next window is over."""
    return (2 if policy.algorithm in ("fixed-window", "calendar-window") else 1) * policy.window


@one_of_each
def test_g8_a_key_from_a_year_ahead_is_repaired_once_and_counted_and_its_units_stay(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    harness.advance(YEAR)
    assert limiter.take("a", policy.burst).allowed
    harness.advance(-YEAR)
    assert harness.store.repaired == 0
    seen = limiter.peek("a")
    assert (seen.allowed, seen.remaining) == (False, 0)
    assert seen.retry_after <= repaired_for(policy)
    assert harness.store.repaired == 0 or harness.kind == "memory"  # a peek sees it, and on a server rewrites nothing
    for _ in range(2):
        assert limiter.take("a") == seen
        assert (
            harness.store.repaired == 1 or harness.kind == "memory"
        )  # where the sweep may have done it, see test_memory.py
    harness.advance(seen.retry_after - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.allow("a")
    assert harness.store.repaired <= 1


@one_of_each
def test_g8_a_repaired_key_is_not_kept_for_the_year_that_it_was_ahead(driven: Harness, policy: Policy):
    limiter = driven.limiter(policy)
    driven.advance(YEAR)
    limiter.take("a", policy.burst)
    driven.advance(-YEAR)
    driven.ttl_told()
    denied = limiter.take("a")
    assert denied.reset_after <= driven.ttl_told() <= max(policy.window * 9 / 8, repaired_for(policy)) + 0.002


# G10 no surprise


@one_of_each
def test_g10_the_limit_is_no_part_of_the_key_so_raising_and_lowering_it_keeps_the_history(
    harness: Harness, policy: Policy
):
    limiter, lower, higher = (harness.limiter(policy.with_limit(limit)) for limit in (7, 4, 10))
    limiter.take("a", 7)
    assert (lower.peek("a").remaining, higher.peek("a").remaining) == (0, 3)
    assert [higher.allow("a") for _ in range(4)] == [True, True, True, False]
    denied = lower.take("a")
    assert (denied.allowed, denied.remaining, denied.limit) == (False, 0, 4)
    harness.advance(denied.retry_after - US)
    assert not lower.allow("a")
    harness.advance(US)
    assert lower.allow("a")


@one_of_each
def test_g10_any_other_policy_of_the_same_name_counts_under_a_key_of_its_own(harness: Harness, policy: Policy):
    harness.limiter(policy).take("a", 7)
    others = [first for first, *_ in EXAMPLES.values() if first is not policy]
    if isinstance(policy, CalendarWindow):
        others.append(CalendarWindow(7, every="day", name=NAME))
        others.append(CalendarWindow(7, every="hour", timezone="Asia/Kathmandu", name=NAME))
    else:
        others.append(type(policy)(7, name=NAME, **{"ttl" if policy.lends else "window": 61}))
    for n, other in enumerate(others, 2):
        assert harness.limiter(other).take("a", 7).allowed
        assert (len(harness.stored()) if harness.kind == "redis" else len(harness.store)) == n
    assert not harness.limiter(policy).allow("a")


@one_of_each
def test_g10_forget_gives_the_whole_limit_back_to_one_key_alone(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    for key in ("a", "b"):
        limiter.take(key, 7)
    limiter.forget("a")
    assert limiter.take("a", 7).allowed
    assert not limiter.allow("b")


# The token bucket alone


@pytest.mark.parametrize("limit", [7, 59, 1000])
def test_a_bucket_of_one_gives_its_full_rate_and_each_unit_at_the_microsecond_at_which_it_has_flown_out(
    harness: Harness, limit: int
):
    limiter = harness.limiter(TokenBucket(limit, window=60, burst=1))
    minutes = min(10, Fraction(2000, limit)) if harness.kind == "memory" else min(1, Fraction(60, limit))
    end_us, allowed = harness.now_us + minutes * 60_000_000, 0
    while harness.now_us < end_us:
        allowed += limiter.allow("a")
        denied = limiter.take("a")
        assert us(denied.retry_after) == -(-60_000_000 // limit)
        if allowed % 10 == 0:
            harness.advance(denied.retry_after - US)
            assert not limiter.allow("a")
            harness.advance(US)
        else:
            harness.advance(denied.retry_after)
    assert allowed == minutes * limit


@pytest.mark.parametrize("limit", [7, 59, 1000])
def test_in_ten_minutes_exactly_what_flows_out_of_a_bucket_is_allowed(harness: Harness, limit: int):
    limiter, chance = harness.limiter(TokenBucket(limit, window=60)), Random(limit)
    start_us, taken = harness.now_us, limit
    assert limiter.allow("a", limit)
    while harness.now_us < start_us + 600_000_000:
        harness.advance(chance.uniform(1, 20))
        due = limit + (harness.now_us - start_us) * limit // 60_000_000 - taken
        assert limiter.peek("a").remaining == due
        if due:
            assert limiter.allow("a", due)
        assert not limiter.allow("a")
        taken += due
    assert taken >= 11 * limit


@pytest.mark.parametrize("burst", [1, 3, 7, 20])
def test_a_bucket_gives_its_burst_at_once_and_again_after_a_silence(harness: Harness, burst: int):
    limiter = harness.limiter(TokenBucket(7, window=60, burst=burst))
    for _ in range(2):
        assert [limiter.allow("a") for _ in range(burst + 1)] == [True] * burst + [False]
        empty = limiter.peek("a").reset_after
        assert us(empty) == -(-burst * 60_000_000 // 7)
        harness.advance(empty)


def test_a_burst_may_be_raised_and_lowered_on_a_live_key(harness: Harness):
    small, large = (harness.limiter(TokenBucket(60, window=60, burst=burst, name=NAME)) for burst in (3, 20))
    assert small.take("a", 3).remaining == 0
    assert large.take("a", 10).remaining == 7
    denied = small.take("a")
    assert (denied.remaining, denied.retry_after, denied.reset_after) == (0, 11.0, 13.0)
    harness.advance(11 - US)
    assert not small.allow("a")
    harness.advance(US)
    assert small.allow("a")


def test_a_bucket_of_a_low_limit_is_not_forgotten_where_another_key_has_a_high_one(harness: Harness):
    high, low = (harness.limiter(TokenBucket(limit, window=60, burst=100, name=NAME)) for limit in (100, 1))
    high.take("rich")
    low.take("poor", 100)
    for _ in range(90):
        harness.advance(2)
        high.take("rich")
    assert low.peek("poor").remaining == 3


# Windows with edges alone


@pytest.mark.parametrize("policy", [EXAMPLES["fixed-window"][0], EXAMPLES["calendar-window"][0]], ids=short_repr)
def test_a_count_keeps_the_edges_that_it_was_made_between_when_the_clock_steps_behind_them(
    harness: Harness, policy: Policy
):
    limiter = harness.limiter(policy)
    to_an_edge(harness, policy)
    limiter.take("a", 5)
    harness.advance(-1)
    assert limiter.take("a").remaining == 1
    assert limiter.peek("a").reset_after == policy.window + 1
    harness.advance(1)
    assert limiter.peek("a").remaining == 1


def test_a_window_of_a_span_begins_at_its_multiples_since_1970(harness: Harness):
    limiter = harness.limiter(FixedWindow(7, window=86400))
    harness.advance((us(datetime(2024, 5, 1, 18, tzinfo=UTC).timestamp()) - harness.now_us) / 1_000_000)
    assert limiter.take("a").reset_after == 6 * 3600
