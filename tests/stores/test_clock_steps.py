"""What steps of a store's clock must not give, on every store: cases that were wrong once (G1, G8). The property over
random steps is in ``properties/test_steps_back.py``."""

from __future__ import annotations

import itertools
import time

import pytest

from sluicegate import CalendarWindow, FixedWindow, Limiter, MemoryStore, SlidingWindow
from sluicegate._core.policy import Policy
from stores.harness import Harness, LimiterAdapter

US = 0.000001
HOUR = 3600

edged = pytest.mark.parametrize(
    "policy", [FixedWindow(5, window=60), CalendarWindow(5, every="hour")], ids=lambda policy: policy.algorithm
)


def two(harness: Harness, buckets: int | None) -> LimiterAdapter:
    return harness.limiter(SlidingWindow(2, window=60, buckets=buckets, name="two"))


def to_a_minute(harness: Harness, after: float) -> None:
    """Move the clock to where a window of 60 s begins, and with buckets a grain, and so many seconds on."""
    harness.advance((60_000_000 - harness.now_us % 60_000_000) / 1_000_000 + after)


# Logs with buckets, whose stamps are up to a grain ahead of the clock


@pytest.mark.parametrize("back", [31.5, 60, 90, 100, 365 * 86400])
@pytest.mark.parametrize(("writer", "mender"), [*itertools.combinations_with_replacement([None, 60, 2, 1], 2)], ids=str)
def test_what_buckets_rounded_up_is_not_given_back_early_after_a_step_back(
    harness: Harness, writer: int | None, mender: int | None, back: float
):
    to_a_minute(harness, after=30)
    assert two(harness, writer).allow("a")
    harness.advance(US)
    assert two(harness, writer).allow("a")
    harness.advance(1 - back)
    denied = two(harness, mender).take("a")
    # By a clock that does not step the first one leaves 59 s from here, less a microsecond.
    assert not denied.allowed
    assert denied.retry_after >= 59 - US
    harness.advance(denied.retry_after - US)
    assert not two(harness, mender).allow("a")
    harness.advance(US)
    assert two(harness, mender).allow("a")


@pytest.mark.parametrize("buckets", [None, 1, 2, 60])
def test_a_step_back_of_a_window_is_not_repaired_and_one_by_a_grain_longer_is(harness: Harness, buckets: int | None):
    policy = SlidingWindow(2, window=60, buckets=buckets, name="two")
    grain = policy.grain_us * US
    to_a_minute(harness, after=US)  # so that the stamp is a grain less a microsecond ahead
    limiter = harness.limiter(policy)
    limiter.take("a", 2)
    harness.advance(-60)
    assert limiter.take("a").retry_after == pytest.approx(120 + grain - US, abs=US / 2)
    assert harness.store.repaired == 0
    harness.advance(-US)
    assert limiter.take("a").retry_after == 60
    assert harness.store.repaired == 1


def test_a_step_back_of_two_microseconds_is_not_repaired_where_all_of_a_window_is_one_bucket(harness: Harness):
    limiter = two(harness, 1)
    to_a_minute(harness, after=US)
    limiter.allow("a")
    harness.advance(-2 * US)
    assert limiter.take("a").remaining == 0
    assert harness.store.repaired == 0


def test_what_had_left_before_the_clock_stepped_is_not_held_again_by_mending(harness: Harness):
    limiter = harness.limiter(SlidingWindow(5, window=60, name="five"))
    for _ in range(4):
        limiter.allow("a")
    harness.advance(60)
    assert limiter.allow("a")
    harness.advance(-1000)
    assert limiter.peek("a").remaining == 4
    denied = limiter.take("a", 5)
    assert (denied.remaining, denied.retry_after) == (4, 60)
    assert limiter.take("a", 4).allowed


def test_a_log_of_many_pages_is_shifted_as_a_whole(harness: Harness):
    limiter = harness.limiter(SlidingWindow(1000, window=60, name="pages"))
    harness.advance(3600)
    for n in range(90):
        assert limiter.allow("a", 1 + n % 3)
        harness.advance(0.1)
    harness.advance(-3600)
    # The newest is as if taken now, the oldest 8.9 s before it.
    denied = limiter.take("a", 1000 - 180 + 1)
    assert (denied.remaining, denied.retry_after, denied.reset_after) == (1000 - 180, pytest.approx(51.1), 60)
    harness.advance(51.1)
    assert limiter.peek("a").remaining == 1000 - 180 + 1
    harness.advance(8.9)
    assert limiter.peek("a").remaining == 1000


def test_with_buckets_none_moves_back_further_than_the_clock_did_and_none_is_later_than_now(harness: Harness):
    to_a_minute(harness, after=30)
    limiter = two(harness, 2)  # a grain of 30 s
    harness.advance(-29)
    assert limiter.allow("a")  # stamped 29 s ahead
    harness.advance(29 + US)
    assert limiter.allow("a")  # 30 s less a microsecond ahead
    harness.advance(-200)
    # The first is moved by 200 s, from the stamp that it had; the second would then be later than now, and is now.
    seen = limiter.peek("a", 2)
    assert (seen.retry_after, seen.reset_after) == (60, 60)
    assert limiter.peek("a").retry_after == pytest.approx(60 - US, abs=US / 2)
    assert limiter.take("a", 2) == seen


@pytest.mark.parametrize("verb", ["allow", "take"])
def test_the_log_of_an_exact_policy_stays_sorted_where_buckets_stamp_ahead_of_a_steady_clock(
    monkeypatch: pytest.MonkeyPatch, verb: str
):
    now_ns = 10 * HOUR * 10**9
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    store = MemoryStore()
    coarse, exact = (
        Limiter(SlidingWindow(5, window=HOUR, buckets=buckets, name="both"), store=store) for buckets in (1, None)
    )
    now_ns += 10**9
    coarse.allow("a")
    for _ in range(3):
        now_ns += 1000
        assert getattr(exact, verb)("a")
        # The newest stays the newest: the key is idle when it was said to be, and not before.
        assert exact.peek("a").reset_after == pytest.approx(2 * HOUR - 1, abs=0.001)


# Counts between edges


@edged
def test_a_count_that_is_repaired_is_held_until_a_whole_window_has_passed_and_another_edge(
    harness: Harness, policy: Policy
):
    limiter = harness.limiter(policy)
    harness.advance((policy.window_us - harness.now_us % policy.window_us) / 1_000_000 + policy.window - 0.1)
    assert limiter.take("a", 5).allowed
    harness.advance(0.1)
    assert limiter.take("a", 5).allowed
    harness.advance(-3 * policy.window - 0.1)  # a tenth of a second before an edge
    seen = limiter.peek("a")
    assert seen == limiter.take("a")
    assert (seen.remaining, seen.retry_after, seen.reset_after) == (0, policy.window + 0.1, policy.window + 0.1)
    assert harness.store.repaired == 1
    if harness.kind == "redis":
        assert policy.window + 0.1 <= harness.ttl_told() <= policy.window + 0.2
    harness.advance(seen.retry_after - US)
    assert not limiter.allow("a")
    harness.advance(US)
    assert limiter.take("a", 5).allowed
    assert harness.store.repaired == 1


@edged
def test_a_count_of_the_window_after_that_of_now_is_where_a_repaired_one_would_be(harness: Harness, policy: Policy):
    limiter = harness.limiter(policy)
    harness.advance((policy.window_us - harness.now_us % policy.window_us) / 1_000_000)
    limiter.take("a", 5)
    for back in (US, policy.window - US):
        harness.advance(-back)
    assert limiter.take("a").retry_after == 2 * policy.window
    assert harness.store.repaired == 0
    harness.advance(-US)
    assert limiter.take("a").retry_after == policy.window + US
    assert harness.store.repaired == 1


def test_a_month_is_not_repaired_by_a_step_back_within_the_month_before_it_however_short_it_is(harness: Harness):
    policy = CalendarWindow(5, every="month")
    february_us = 1_709_251_200_000_000 - 29 * 86_400_000_000  # of 2024, and March begins 29 days later
    harness.advance((february_us - harness.now_us) / 1_000_000)
    limiter = harness.limiter(policy)
    limiter.take("a", 5)
    harness.advance(-31 * 86400)
    assert limiter.take("a").retry_after == 60 * 86400
    assert harness.store.repaired == 0


def test_a_caller_whose_estimate_of_the_clock_is_a_window_late_repairs_a_count_into_the_right_one(harness: Harness):
    policy = CalendarWindow(5, every="hour")
    limiter = harness.limiter(policy)
    harness.advance((policy.window_us - harness.now_us % policy.window_us) / 1_000_000 + 10 * HOUR)
    limiter.take("a", 5)
    harness.advance(-5 * HOUR)
    if harness.kind == "redis":
        harness.store._server_clock.correct(
            harness.now_us - policy.window_us
        )  # the last edge that it names is the end of now's
    assert limiter.peek("a").retry_after == 2 * HOUR
    if harness.kind == "redis":
        harness.store._server_clock.correct(harness.now_us - policy.window_us)
    assert limiter.take("a").retry_after == 2 * HOUR
    assert harness.store.repaired == 1
