"""The guarantees of the design, each test named after its sentence, on every store; with a sliding window.

Those of every algorithm are in `test_algorithms.py`.
"""

from __future__ import annotations

import itertools
import math
from enum import Enum

import pytest

from sluicegate import SlidingWindow
from sluicegate._algorithms.sliding_window import Units
from stores.harness import Harness, charges

US = 0.000001


class Plan(str, Enum):  # noqa: UP042 - a StrEnum writes itself as its text, this one as Plan.FREE
    FREE = "free"


def per_minute(limit: int, **options) -> SlidingWindow:
    return SlidingWindow(limit, window=60, name="per-minute", **options)


# G1 never over


def test_g1_never_over_the_cost_allowed_in_any_window_is_at_most_the_limit(harness: Harness):
    limiter = harness.limiter(SlidingWindow(5, window=1))
    allowed_at = []
    for _ in range(300):
        harness.advance(0.05)
        if limiter.allow("a"):
            allowed_at.append(harness.now_us)
    for t in allowed_at:
        assert sum(t - 1_000_000 < at <= t for at in allowed_at) <= 5
    assert len(allowed_at) == 75  # 15 s at 5 a second: and not one too few


def test_g1_exactly_at_the_edge_a_unit_is_free_again(harness: Harness):
    limiter = harness.limiter(per_minute(2))
    assert limiter.allow("a")
    harness.advance(10)
    assert limiter.allow("a")
    harness.advance(50 - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.allow("a")
    assert not limiter.allow("a")


def test_g1_a_burst_around_the_turn_of_a_minute_is_not_doubled(harness: Harness):
    limiter = harness.limiter(per_minute(10))
    harness.advance(60 - harness.now_us % 60_000_000 / 1_000_000 - 1)
    assert [limiter.allow("a") for _ in range(11)] == [True] * 10 + [False]
    harness.advance(2)
    assert not limiter.allow("a")


def test_g1_when_limits_differ_each_caller_is_held_to_the_limit_it_sends(harness: Harness):
    low, high = harness.limiter(per_minute(3)), harness.limiter(per_minute(5))
    assert [low.allow("a") for _ in range(4)] == [True, True, True, False]
    assert [high.allow("a") for _ in range(3)] == [True, True, False]
    assert not low.allow("a")


# G2 never under


def test_g2_never_under_it_denies_only_when_allowing_would_break_the_limit(harness: Harness):
    limiter = harness.limiter(per_minute(7))
    for cost in (3, 4):
        assert limiter.allow("a", cost)
        harness.advance(30)
    # The 3 have just left, the 4 have not.
    assert not limiter.allow("a", 4)
    assert limiter.allow("a", 3)


def test_g2_with_buckets_a_unit_is_held_at_most_a_bucket_longer(harness: Harness):
    limiter = harness.limiter(per_minute(10, buckets=6))
    harness.advance(0.3)
    for _ in range(10):
        assert limiter.allow("a")
    harness.advance(60 - US)
    assert not limiter.allow("a")
    harness.advance(10)
    assert limiter.allow("a", 10)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [10, 25, 100])
def test_g2_steady_demand_is_allowed_its_full_rate_for_ten_minutes(harness: Harness, limit: int):
    limiter = harness.limiter(SlidingWindow(limit, window=10))
    allowed = 0
    for _ in range(600):
        allowed += sum(limiter.allow("a") for _ in range(max(1, limit // 10)))
        harness.advance(1)
    assert allowed == limit * 60 if limit != 25 else allowed >= 2 * 600


# G3 denials are free


def test_g3_a_denied_request_changes_nothing(harness: Harness):
    limiter = harness.limiter(per_minute(10))
    limiter.take("a", 8)
    harness.advance(1)
    before = limiter.peek("a"), harness.stored() if harness.kind == "redis" else None
    for cost in (3, 5, 10, 11, 10**11):
        assert not limiter.take("a", cost).allowed
    assert (limiter.peek("a"), harness.stored() if harness.kind == "redis" else None) == before
    assert limiter.allow("a", 2)


def test_g3_a_denied_request_for_a_new_key_stores_nothing(harness: Harness):
    limiter = harness.limiter(per_minute(10))
    assert not limiter.allow("a", 11)
    assert not (harness.stored() if harness.kind == "redis" else len(harness.store))


def test_g3_a_flood_of_denials_does_not_delay_the_next_allowed_request(harness: Harness):
    limiter = harness.limiter(SlidingWindow(1, window=1))
    assert limiter.allow("a")
    for _ in range(99):
        harness.advance(0.01)
        assert not limiter.allow("a")
    harness.advance(0.01)
    assert limiter.allow("a")


# G4 all or nothing


def test_g4_a_request_is_charged_to_all_of_its_policies_or_to_none(harness: Harness):
    user, everybody = SlidingWindow(5, window=1, name="user"), SlidingWindow(7, window=60, name="everybody")

    def ask(key: str) -> list[bool]:
        (answer,) = harness.decide(charges((user, key, 1), (everybody, "all", 1)))
        return [verdict.allowed for verdict in answer]

    for _ in range(5):
        assert ask("a") == [True, True]
    assert ask("a") == [False, True]  # the wider one had room, and keeps it
    assert ask("b") == [True, True]
    assert ask("b") == [True, True]
    assert ask("b") == [True, False]
    harness.advance(1)
    assert harness.limiter(user).peek("b").remaining == 5


def test_g4_the_requests_of_a_batch_are_decided_one_after_the_other(harness: Harness):
    policy = per_minute(3)
    answers = harness.decide(*(charges((policy, "a", cost)) for cost in (2, 2, 1, 1)))
    assert [verdict.allowed for (verdict,) in answers] == [True, False, True, False]


# G5 honest wait


@pytest.mark.parametrize("cost", [1, 2, 3, 5, 20])
def test_g5_denied_one_microsecond_before_the_wait_ends_and_allowed_when_it_ends(harness: Harness, cost: int):
    limiter = harness.limiter(per_minute(20))
    for spent in (1, 2, 1, 4, 1, 1, 3, 1, 5, 1):
        assert limiter.allow("a", spent)
        harness.advance(0.7)
    denied = limiter.take("a", cost)
    assert not denied.allowed
    harness.advance(denied.retry_after - US)
    assert not limiter.allow("a", cost)
    harness.advance(US)
    assert limiter.allow("a", cost)


def test_g5_the_wait_is_exact_in_a_log_of_many_pages(harness: Harness):
    limiter = harness.limiter(SlidingWindow(200, window=1))
    for _ in range(200):
        assert limiter.allow("a")
        harness.advance(0.001)
    for cost in range(1, 201):
        denied = limiter.take("a", cost)
        assert not denied.allowed
        assert denied.retry_after == pytest.approx(0.8 + (cost - 1) * 0.001, abs=US / 2)


def test_g5_a_cost_that_can_never_fit_waits_for_ever(harness: Harness):
    limiter = harness.limiter(per_minute(5))
    assert limiter.take("a", 6).retry_after == math.inf
    limiter.take("a", 5)
    assert limiter.take("a", 6).retry_after == math.inf
    assert limiter.take("a", 5).retry_after == 60.0


def test_g5_the_wait_after_the_limit_was_lowered_counts_all_that_must_leave(harness: Harness):
    before, after = harness.limiter(per_minute(10)), harness.limiter(per_minute(4))
    for _ in range(10):
        before.allow("a")
        harness.advance(1)
    denied = after.take("a")
    assert denied.remaining == 0
    assert denied.retry_after == 56.0  # the seventh of the ten has to leave
    harness.advance(56 - US)
    assert not after.allow("a")
    harness.advance(US)
    assert after.allow("a")


# G6 one answer


def test_g6_the_decision_carries_everything_from_the_same_step(harness: Harness):
    limiter = harness.limiter(per_minute(10))
    first = limiter.take("a", 4)
    assert first and first.allowed
    assert (first.policy, first.limit, first.remaining) == ("per-minute", 10, 6)
    assert (first.retry_after, first.reset_after, first.source) == (0.0, 60.0, "store")
    harness.advance(20)
    second = limiter.take("a", 7)
    assert not second and not second.allowed
    assert (second.remaining, second.retry_after, second.reset_after) == (6, 40.0, 40.0)
    assert second.decisions == (second,)


def test_g6_peek_gives_the_same_answer_and_takes_nothing(harness: Harness):
    limiter = harness.limiter(per_minute(3))
    assert (limiter.peek("a").remaining, limiter.peek("a").reset_after) == (3, 0.0)
    limiter.take("a", 2)
    for _ in range(5):
        seen = limiter.peek("a", 1)
        assert (seen.allowed, seen.remaining, seen.retry_after) == (True, 1, 0.0)
    peeked, taken = limiter.peek("a", 2), limiter.take("a", 2)
    assert peeked == taken
    assert not taken.allowed


# G7 bounded memory


def test_g7_the_size_of_a_key_is_bounded_by_its_policy_and_not_by_its_cost(harness: Harness):
    limiter = harness.limiter(SlidingWindow(10**11, window=60))
    limiter.take("dear", 10**11)
    if harness.kind == "redis":
        (pages,) = harness.stored().values()
        assert [len(page) for page in pages] == [20 + 12]
    else:
        assert _entries(harness) == [1]


def test_g7_requests_of_one_microsecond_share_an_entry(harness: Harness):
    limiter = harness.limiter(SlidingWindow(1000, window=60, name="many"))
    for _ in range(50):
        limiter.take("a")
    limiter.take("a", 2)
    if harness.kind == "redis":
        (pages,) = harness.stored().values()
        assert [len(page) for page in pages] == [20 + 12]
    else:
        # Requests of one unit are 8 bytes each in memory, and have no total, until one of more units comes.
        assert _entries(harness) == [1]


@pytest.mark.parametrize("buckets", [1, 2, 6, 45])
def test_g7_with_buckets_a_log_has_at_most_one_entry_for_each_and_the_base(harness: Harness, buckets: int):
    limiter = harness.limiter(SlidingWindow(10**6, window=1, buckets=buckets))
    for _ in range(300):
        assert limiter.allow("a")
        harness.advance(0.007)
    if harness.kind == "redis":
        (pages,) = harness.stored().values()
        entries = sum((len(page) - 20) // 12 for page in pages)
        assert entries <= buckets + 1 + 20  # whole pages go: those that have left stay in the oldest one for a while
    else:
        assert _entries(harness)[0] <= 2 * (buckets + 2)


def test_g7_what_has_left_the_window_is_cut_away(harness: Harness):
    limiter = harness.limiter(SlidingWindow(300, window=1))
    for _ in range(1500):
        assert limiter.allow("a")
        harness.advance(0.01)
    if harness.kind == "redis":
        (pages,) = harness.stored().values()
        assert sum((len(page) - 20) // 12 for page in pages) <= 100 + 20
    else:
        assert _entries(harness)[0] <= 2 * 101


def _entries(harness: Harness) -> list[int]:
    logs = [log for table in harness.store._tables.values() for log in table.states.values()]
    return [len(log) - 1 if isinstance(log, Units) else len(log.pairs) // 2 - 1 for log in logs]


# G8 one clock


def test_g8_after_a_step_back_units_are_held_longer_and_the_wait_says_so(harness: Harness):
    limiter = harness.limiter(per_minute(2))
    limiter.take("a")
    limiter.take("a")
    harness.advance(-30)
    denied = limiter.take("a")
    assert denied.retry_after == 90.0
    harness.advance(90 - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.allow("a", 2)


def test_g8_a_step_back_never_lets_one_more_through(harness: Harness):
    limiter = harness.limiter(SlidingWindow(3, window=60))
    elapsed, allowed_at = 0.0, []
    for step in itertools.islice(itertools.cycle([0, 0, -30, 0, 0]), 60):
        harness.advance(step)
        harness.advance(5)
        elapsed += 5
        if limiter.allow("a"):
            allowed_at.append(elapsed)
    for t in allowed_at:
        assert sum(t - 60 < at <= t for at in allowed_at) <= 3


def test_g8_a_step_forward_gives_at_most_one_more_limit(harness: Harness):
    limiter = harness.limiter(per_minute(5))
    assert sum(limiter.allow("a") for _ in range(10)) == 5
    harness.advance(30)
    assert sum(limiter.allow("a") for _ in range(10)) == 0
    harness.advance(365 * 86400)
    assert sum(limiter.allow("a") for _ in range(10)) == 5


def test_g8_a_key_stamped_a_year_ahead_is_rewritten_once_and_counted(harness: Harness):
    limiter = harness.limiter(per_minute(50))
    harness.advance(365 * 86400)
    for _ in range(50):
        assert limiter.allow("a")
        harness.advance(0.1)
    harness.advance(-365 * 86400)
    assert harness.store.repaired == 0
    assert harness.kind == "memory" or harness.ttl_told()
    assert limiter.peek("a").retry_after == pytest.approx(55.1)
    assert harness.store.repaired <= 1  # a peek sees it, and rewrites nothing
    seen = harness.store.repaired
    denied = limiter.take("a")
    assert not denied.allowed
    assert denied.retry_after == pytest.approx(55.1)
    assert harness.store.repaired == seen + 1
    if harness.kind == "redis":  # or the key would stay for a year
        assert 60 <= harness.ttl_told() <= 60 * 9 / 8 + 0.002
    harness.advance(55.1 - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.allow("a")
    assert harness.store.repaired == seen + 1


# G10 no surprise


def test_g10_the_limit_and_the_buckets_are_no_part_of_the_key_so_changing_them_keeps_the_history(harness: Harness):
    harness.limiter(per_minute(5)).take("a", 5)
    assert harness.limiter(per_minute(8)).peek("a").remaining == 3
    assert harness.limiter(per_minute(2)).peek("a").remaining == 0
    assert harness.limiter(per_minute(8, buckets=6)).take("a", 2).remaining == 1
    assert harness.limiter(per_minute(9)).peek("a").remaining == 2


def test_g10_the_window_is_part_of_the_key_even_under_an_explicit_name(harness: Harness):
    minute, hour = (SlidingWindow(5, window=window, name="same") for window in (60, 3600))
    harness.limiter(minute).take("a", 5)
    assert harness.limiter(hour).take("a").remaining == 4
    assert not harness.limiter(minute).allow("a")


def test_g10_any_text_is_a_distinct_and_safe_key(harness: Harness):
    keys = ["", " ", "a", "A", "a b", "a:b", "a/b", "{a}", "}{", "{", "a\0b", "a\0", "%", "%25", "%00", "~", "*", "\n"]
    keys += ["é", "e\u0301", "☃", "\U0001f600", "\u202e", "ff" * 64, "x" * 256, "x" * 257, "é" * 256, "z" * 10**6]
    keys += ["z" * (10**6 - 1) + "y", "~" + "0" * 64, "user:1}:sliding-window-60s"]
    limiter = harness.limiter(per_minute(1))
    assert [key for key in keys if not limiter.allow(key)] == []
    assert [key for key in keys if limiter.allow(key)] == []
    if harness.kind == "redis":
        stored = harness.stored()
        assert len(stored) == len(keys)
        assert max(map(len, stored)) < 400


def test_g10_a_member_of_an_enum_is_the_text_that_it_is(harness: Harness):
    limiter = harness.limiter(per_minute(3))
    assert limiter.take(Plan.FREE).remaining == 2
    assert limiter.take("free").remaining == 1
    assert not limiter.allow(Plan.FREE, 2)
    limiter.forget(Plan.FREE)
    assert limiter.peek("free").remaining == 3


def test_g10_forget_gives_the_whole_limit_back_to_one_key_alone(harness: Harness):
    limiter = harness.limiter(per_minute(2))
    for key in ("a", "b"):
        limiter.take(key, 2)
    limiter.forget("a")
    limiter.forget("never seen")
    assert limiter.peek("a").remaining == 2
    assert limiter.take("a", 2).allowed
    assert not limiter.allow("b")
