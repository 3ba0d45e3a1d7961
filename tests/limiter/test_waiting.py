"""`wait` in memory: turns in order, time-outs, cancellation, what wakes a line, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest

from limiter.waits import Waits, until
from sluicegate import (
    AsyncLimiter,
    CalendarWindow,
    Concurrency,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    InvalidSpan,
    Limiter,
    LimiterClosed,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.decision import Verdict
from sluicegate._limiter.lines import Ticket, line_name
from sluicegate.testing import ManualClock

TEN = SlidingWindow(10, window=10)
Make = Callable[..., Waits]


@pytest.fixture(params=["threads", "tasks"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(form: str) -> Iterator[Make]:
    """Make limiters with callers; none of these may be left in the end, nor anything of their lines."""
    made: list[Waits] = []

    def one(*policies: Any, **options: Any) -> Waits:
        made.append(Waits(form, *policies, **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


def are_done(*callers: Any) -> list[bool]:
    return [caller.is_done for caller in callers]


# One's own wait


def test_with_room_a_wait_is_a_take(make: Make):
    waits = make(TEN)
    decision = waits.call("wait", "a", 4)
    assert (decision.allowed, decision.remaining, decision.source) == (True, 6, "store")
    assert waits.call("peek", "a").remaining == 6
    statistics = waits.limiter.statistics()
    assert (statistics.allowed, statistics.denied, statistics.waiting) == (1, 0, 0)


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (TEN, 10),
        (SlidingWindow(10, window=10, buckets=3), 12.333336),  # the stamp is rounded up to a third of the window
        (TokenBucket(10, window=10), 1),
        (FixedWindow(10, window=10), 9),
        (CalendarWindow(10, every="hour"), 3599),
    ],
    ids=["sliding", "buckets", "bucket", "fixed", "calendar"],
)
def test_a_wait_ends_to_the_microsecond_when_there_is_room(make: Make, policy: Any, seconds: float):
    waits = make(policy)
    waits.advance(1)
    waits.call("take", "a", 10)
    assert waits.call("peek", "a").retry_after == pytest.approx(seconds, abs=5e-6)
    seconds = waits.call("peek", "a").retry_after
    caller = waits.wait("a")
    waits.advance(seconds - 0.000001)
    assert (caller.is_done, waits.waiting) == (False, 1)
    waits.advance(0.000001)
    assert caller.decision.allowed
    assert waits.waiting == 0


@pytest.mark.parametrize(("start", "window"), [(0.1, 0.2), (-5, 3.3), (1_700_000_000.1, 0.7), (12345.678901, 1.1)])
def test_a_wait_ends_in_time_whatever_the_clock_reads(make: Make, start: float, window: float):
    waits = make(SlidingWindow(1, window=window), start=start)
    waits.call("take", "a")
    callers = [waits.wait("a", timeout=window), waits.wait("a")]
    waits.advance(window)
    assert callers[0].decision.allowed
    waits.advance(window)
    assert callers[1].decision.allowed


def test_a_wait_goes_on_when_somebody_else_took_the_unit(make: Make):
    waits = make(SlidingWindow(1, window=10))
    waits.call("take", "a")
    caller = waits.wait("a")
    waits.clock._now_us += 10_000_000  # nobody has noticed yet
    assert waits._run(waits.limiter.take("a")).allowed
    waits.advance(0)
    assert not caller.is_done
    waits.advance(10)
    assert caller.decision.allowed


def test_a_charge_meanwhile_makes_a_wait_longer(make: Make):
    waits = make(SlidingWindow(1, window=10))
    waits.call("take", "a")
    caller = waits.wait("a")
    waits.advance(5)
    waits.call("charge", "a", 1)
    waits.advance(5)
    assert not caller.is_done
    waits.advance(5)
    assert caller.decision.allowed


def test_a_wait_is_counted_once_as_it_ended(make: Make):
    waits = make(SlidingWindow(1, window=10))
    waits.call("take", "a")
    waits.wait("a")
    waits.wait("a", timeout=5)
    waits.advance(10)
    statistics = waits.limiter.statistics()
    assert (statistics.allowed, statistics.denied) == (2, 1)


# Turns


def test_callers_are_served_in_the_order_in_which_they_came(make: Make):
    waits = make(SlidingWindow(1, window=10))
    waits.call("take", "a")
    callers = [waits.wait("a") for _ in range(5)]
    for _ in callers:
        waits.advance(10)
    assert waits.done == callers


def test_a_cheap_one_never_overtakes_a_dear_one(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 5)
    dear, cheap = waits.wait("a", 10), waits.wait("a")
    waits.advance(9.999999)
    assert are_done(dear, cheap) == [False, False]
    assert waits.call("peek", "a").remaining == 5
    waits.advance(0.000001)
    assert are_done(dear, cheap) == [True, False]
    waits.advance(10)
    assert cheap.decision.allowed


def test_one_that_may_overtake_waits_beside_the_line(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 5)
    waits.advance(2)
    dear = waits.wait("a", 10)
    assert waits.wait("a", 5, overtake=True).decision.allowed
    beside = waits.wait("a", 5, overtake=True)
    assert not waits.wait("a", overtake=True, timeout=7).decision.allowed
    waits.advance(8)
    assert are_done(dear, beside) == [False, True]
    assert beside.decision.allowed
    waits.advance(10)
    assert dear.decision.allowed


def test_a_wait_for_one_key_delays_no_other(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    waits.call("take", "b", 10)
    others = [waits.wait("a", 10) for _ in range(3)]
    waits.advance(5)
    assert waits.wait("c").decision.allowed
    caller = waits.wait("b", timeout=5)
    waits.advance(5)
    assert caller.decision.allowed
    assert are_done(*others) == [True, False, False]


def test_mixed_costs_are_served_in_order_and_none_waits_longer_than_its_place_allows(make: Make):
    """Each wait ends at the first instant at which the window has room, after all that stood before."""
    waits = make(SlidingWindow(100, window=10))
    costs = [1, 50] * 10 + [1] * 30 + [50] * 4
    callers = [waits.wait("a", cost) for cost in costs]
    ends: dict[Any, float] = {}
    while len(ends) < len(callers):
        now = waits.clock.now_us() / 1_000_000
        ends |= {caller: now for caller in callers if caller.is_done and caller not in ends}
        assert list(ends) == callers[: len(ends)]
        waits.advance(1)
    taken: list[tuple[float, int]] = []  # by the rule, worked out apart
    for caller, cost in zip(callers, costs, strict=True):
        now = taken[-1][0] if taken else 0.0
        while sum(units for at, units in taken if at > now - 10) + cost > 100:
            now += 1
        taken.append((now, cost))
        assert ends[caller] == now


def test_of_300_callers_100_in_the_middle_are_cancelled_and_cost_nobody_a_turn():
    waits = Waits("tasks", SlidingWindow(10, window=1))
    waits.call("take", "a", 10)
    callers = [waits.wait("a") for _ in range(300)]
    for caller in callers[100:200]:
        caller.task.cancel()
    waits.rest()
    assert waits.waiting == 200
    waits.done.clear()
    waits._callers -= 100
    for _ in range(20):
        waits.advance(1)
    assert waits.done == callers[:100] + callers[200:]
    assert all(caller.decision.allowed for caller in waits.done)
    assert waits.limiter.statistics().allowed == 201
    waits.close()


# Time-outs


def test_a_time_out_of_0_takes_what_is_there_and_waits_for_nothing(make: Make):
    waits = make(TEN)
    assert waits.wait("a", 10, timeout=0).decision.allowed
    decision = waits.wait("a", timeout=0).decision
    assert (decision.allowed, decision.retry_after) == (False, 10)


@pytest.mark.parametrize("timeout", [9.999999, timedelta(seconds=9)])
def test_a_wait_that_is_longer_than_its_time_out_is_refused_at_once(make: Make, timeout: Any):
    waits = make(TEN)
    waits.call("take", "a", 10)
    decision = waits.wait("a", timeout=timeout).decision
    assert (decision.allowed, decision.retry_after) == (False, 10)
    assert waits.limiter.statistics().denied == 1


def test_all_whose_time_out_is_exactly_long_enough_are_served_if_there_is_room_for_them(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    callers = [waits.wait("a", timeout=10) for _ in range(12)]
    waits.advance(10)
    assert [caller.decision.allowed for caller in callers] == [True] * 10 + [False] * 2
    assert {caller.decision.retry_after for caller in callers[10:]} == {10}


def test_a_time_out_counts_from_the_call(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    first = waits.wait("a", 10)
    waits.advance(1)
    caller = waits.wait("a", timeout=9)
    waits.advance(9)
    assert first.decision.allowed
    assert not caller.decision.allowed


def test_a_time_out_ends_a_wait_behind_others_and_disturbs_none(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 5)
    waits.advance(8)
    waits.call("take", "a", 5)
    first, late, last = waits.wait("a", 10), waits.wait("a", timeout=7), waits.wait("a", 10)
    waits.advance(6.999999)
    assert are_done(first, late, last) == [False, False, False]
    waits.advance(0.000001)
    assert are_done(first, late, last) == [False, True, False]
    assert (late.decision.allowed, late.decision.limit) == (False, 10)
    assert 0 < late.decision.retry_after < 1e-5  # the two units that it needed are free, but for the one in front
    waits.advance(3)
    assert are_done(first, last) == [True, False]
    waits.advance(10)
    assert last.decision.allowed


def test_a_caller_is_refused_as_soon_as_the_store_says_that_its_wait_is_too_long(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    first, late = waits.wait("a", 10), waits.wait("a", timeout=15)
    waits.advance(10)
    assert first.decision.allowed
    assert (late.decision.allowed, late.decision.retry_after) == (False, 10)


def test_a_caller_behind_others_is_refused_by_its_own_wait_and_not_by_its_place(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    waits.wait("a", 10)
    assert waits.wait("a", timeout=9).decision.retry_after == 10
    behind = waits.wait("a", timeout=10)  # it would have room then, if nobody were in front
    assert not behind.is_done
    waits.advance(10)
    assert not behind.decision.allowed


@pytest.mark.parametrize("timeout", [None, 5, 10**6])
def test_a_cost_that_never_fits_is_refused_at_once(make: Make, timeout: float | None):
    waits = make(TEN)
    assert waits.wait("a", 11, timeout=timeout).decision.retry_after == math.inf
    waits.call("take", "a", 10)
    first = waits.wait("a")
    assert waits.wait("a", 11, timeout=timeout).decision.retry_after == math.inf
    assert waits.waiting == 1
    waits.advance(10)
    assert first.decision.allowed


BAD_TIMEOUTS = [
    -1,
    -1e-9,
    math.nan,
    math.inf,
    True,
    "5",
    10**400,
    1e300,
    timedelta(seconds=-1),
    [],
    10 * 366 * 86400 + 1,
]


@pytest.mark.parametrize("timeout", BAD_TIMEOUTS, ids=repr)
def test_a_bad_time_out_is_refused_and_nothing_is_taken(make: Make, timeout: Any):
    waits = make(TEN)
    for verb in ("wait", "limited"):
        with pytest.raises(
            InvalidSpan, match=r"^timeout must be None or a number of seconds \(or a timedelta\) from 0"
        ):
            waits.call(verb, "a", timeout=timeout)
    assert waits.call("peek", "a").remaining == 10
    assert waits.waiting == 0


def test_the_longest_time_out_is_fine(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    caller = waits.wait("a", timeout=10 * 366 * 86400)
    waits.advance(10)
    assert caller.decision.allowed


def test_a_bad_key_or_cost_is_refused_and_nothing_waits(make: Make):
    waits = make(TEN)
    with pytest.raises(InvalidKey):
        waits.call("wait", 5)
    for cost in (0, -1, True, 1.5, 10**12):
        with pytest.raises(InvalidCost):
            waits.call("wait", "a", cost)
    assert waits.waiting == 0


def test_permits_are_waited_for_by_reserve_alone(make: Make):
    waits = make(Concurrency(2, ttl=30))
    with pytest.raises(InvalidPolicy, match="reserve"):
        waits.call("wait", "a")


class AllowedWhilePeeked(MemoryStore):
    """A store that lets all who wait be allowed while it peeks, once told to."""

    limiter: Any = None

    def decide(self, request: Any) -> Any:
        answer = super().decide(request)
        limiter, self.limiter = self.limiter, None
        if limiter is not None and not request.commit:
            (line,) = limiter._waiting.lines._by_name.values()
            batch = line.all_waiting()
            self.forget([charge[:2] for charge in request.charges])
            line.deliver(batch, self.decide_line([ticket.request for ticket in batch]), 0.0)
        return answer

    def decide_line(self, requests: Any) -> Any:
        return super().decide_line(requests)


def test_a_caller_that_was_allowed_while_it_is_refused_is_allowed(make: Make):
    waits = make(SlidingWindow(2, window=10), store=AllowedWhilePeeked)
    waits.call("take", "a", 2)
    first = waits.wait("a")
    waits.store.limiter = waits.limiter
    second = waits.wait("a", timeout=9)
    assert [first.decision.allowed, second.decision.allowed] == [True, True]
    assert waits.call("peek", "a").remaining == 0


# Who leaves


def test_when_a_dear_head_runs_out_of_time_the_next_one_is_served_at_once(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 5)
    dear, cheap = waits.wait("a", 10, timeout=11), waits.wait("a", 1)
    waits.advance(5)
    waits.call("charge", "a", 1)
    waits.advance(5)
    assert are_done(dear, cheap) == [True, True]
    assert [dear.decision.allowed, cheap.decision.allowed] == [False, True]  # it was to be denied until 15, not 11


def test_when_a_dear_head_is_cancelled_the_next_one_is_served_at_once():
    waits = Waits("tasks", TEN)
    waits.call("take", "a", 5)
    dear, cheap = waits.wait("a", 10), waits.wait("a", 1)
    dear.task.cancel()
    waits.rest()
    assert cheap.decision.allowed
    with pytest.raises(asyncio.CancelledError):
        _ = dear.decision
    assert waits.call("peek", "a").remaining == 4
    waits.close()


class CancelledWhileDecided(MemoryStore):
    """A store that cancels a task while it decides, so that a grant is on its way to nobody."""

    victim: asyncio.Task[None] | None = None

    def decide_line(self, requests: Any) -> Any:
        answers = super().decide_line(requests)
        if self.victim is not None and all(verdict.allowed for verdict in answers[0]):
            self.victim.cancel()
            self.victim = None
        return answers


def test_what_was_granted_to_a_task_that_is_cancelled_meanwhile_is_given_back_to_the_next_at_once():
    waits = Waits("tasks", SlidingWindow(1, window=10), store=CancelledWhileDecided)
    waits.call("take", "a")
    first, second, third = (waits.wait("a") for _ in range(3))
    waits.store.victim = first.task
    waits.advance(10)
    assert are_done(first, second, third) == [True, True, False]
    with pytest.raises(asyncio.CancelledError):
        _ = first.decision
    assert second.decision.allowed
    waits.advance(10)
    assert third.decision.allowed
    waits.close()


# What wakes a line


def test_units_that_a_reservation_gives_back_serve_the_line_at_once(make: Make):
    waits = make(TEN)
    reserved = waits.limiter.reserve("a", 10)
    waits._run(reserved.__enter__() if waits.runner is None else reserved.__aenter__())
    callers = [waits.wait("a", 4) for _ in range(3)]
    reserved._actual = 2
    waits._run((reserved.__exit__ if waits.runner is None else reserved.__aexit__)(None, None, None))
    waits.rest()
    assert are_done(*callers) == [True, True, False]
    assert waits.call("peek", "a").remaining == 0
    waits.advance(10)
    assert callers[2].decision.allowed


def test_units_that_come_back_are_for_one_that_may_overtake_as_well(make: Make):
    waits = make(TEN)
    reserved = waits.limiter.reserve("a", 10)
    waits._run(reserved.__enter__() if waits.runner is None else reserved.__aenter__())
    dear, beside = waits.wait("a", 10), waits.wait("a", 4, overtake=True)
    other = waits.wait("b", overtake=True)
    assert other.decision.allowed
    reserved._actual = 5
    waits._run((reserved.__exit__ if waits.runner is None else reserved.__aexit__)(None, None, None))
    waits.rest()
    assert are_done(dear, beside) == [False, True]
    waits.advance(10)
    assert dear.decision.allowed


def test_a_key_that_is_forgotten_serves_its_line_at_once(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    waits.call("take", "b", 10)
    caller, other = waits.wait("a"), waits.wait("b")
    waits.call("forget", "a")
    assert are_done(caller, other) == [True, False]
    waits.advance(10)
    assert other.decision.allowed


def test_a_block_is_waited_for_and_its_end_serves_the_line_at_once(make: Make):
    waits = make(TEN)
    waits.call("block", "a", 60)
    callers = [waits.wait("a"), waits.wait("a", timeout=60)]
    assert waits.wait("a", timeout=59).decision.retry_after == 60
    waits.advance(10)
    waits.call("block", "a", 0)
    assert are_done(*callers) == [True, True]


# Several policies, and what is not limited


def test_a_wait_for_several_policies_ends_when_all_have_room_and_takes_from_none_before(make: Make):
    waits = make(SlidingWindow(1, window=10, name="burst"), SlidingWindow(2, window=60, name="minute"))
    waits.call("take", "a")
    waits.advance(10)
    waits.call("take", "a")
    caller, next_one = waits.wait("a", {"minute": 2}), waits.wait("a")
    assert not caller.is_done
    waits.advance(10)
    assert not caller.is_done
    assert [part.remaining for part in waits.call("peek", "a").decisions] == [1, 0]
    waits.advance(40)  # the first of the minute has left
    assert not caller.is_done
    assert [part.remaining for part in waits.call("peek", "a").decisions] == [1, 1]
    waits.advance(10)
    assert are_done(caller, next_one) == [True, False]
    waits.advance(60)
    assert next_one.decision.allowed


def test_callers_wait_for_the_counters_that_they_charge(make: Make):
    waits = make(SlidingWindow(1, window=10, per="user"), SlidingWindow(3, window=60, per="tenant"))
    for user in "ab":
        waits.call("take", {"user": user, "tenant": "t"})
    callers = [waits.wait({"user": user, "tenant": "t"}) for user in "ab"]
    waits.advance(10)  # the tenant has one left
    assert sorted(are_done(*callers)) == [False, True]
    waits.advance(50)
    assert are_done(*callers) == [True, True]


def test_the_limit_of_the_key_applies(make: Make):
    waits = make(TEN, limits={"small": 1, "none": 0}.get, limits_ttl=0)
    assert waits.wait("none").decision.retry_after == math.inf
    assert waits.wait("small", 2).decision.retry_after == math.inf
    assert waits.wait("small").decision.allowed
    caller = waits.wait("small")
    assert not caller.is_done
    waits.advance(10)
    assert caller.decision.allowed


def test_what_is_not_limited_waits_for_nothing(make: Make):
    waits = make(SlidingWindow(1, window=10), exempt={"root"})
    decisions = [waits.wait("root").decision for _ in range(3)]
    assert {(decision.allowed, decision.source) for decision in decisions} == {(True, "bypass")}
    waits.call("take", "a")
    waits.limiter.enabled = False
    assert waits.wait("a", 5).decision.source == "bypass"


# How many may wait


def test_one_more_than_may_wait_is_denied_at_once(make: Make):
    waits = make(SlidingWindow(1, window=10), max_waiting=2)
    for key in "ab":
        waits.call("take", key)
    callers = [waits.wait("a"), waits.wait("b")]
    decision = waits.wait("a").decision
    assert (decision.allowed, decision.retry_after) == (False, 10)
    assert not waits.wait("b", overtake=True).decision.allowed
    assert waits.waiting == 2
    assert waits.wait("c").decision.allowed  # there is room, and nobody waits for it
    waits.advance(10)
    assert all(caller.decision.allowed for caller in callers)
    assert not waits.wait("a", timeout=1).decision.allowed


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "2", None])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_max_waiting_is_a_whole_number_of_1_or_more(kind: Any, most: Any):
    with pytest.raises(InvalidPolicy, match=r"^max_waiting must be a whole number of 1 or more, got"):
        kind(TEN, max_waiting=most)


# Closing, errors, and what is left


def test_all_that_wait_when_a_limiter_is_closed_get_an_error(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    callers = [waits.wait(key, 10) for key in "aabc" for _ in range(2)]
    assert waits.waiting == len([caller for caller in callers if not caller.is_done])
    waiting = [caller for caller in callers if not caller.is_done]
    waits.call("close" if waits.runner is None else "aclose")
    errors = []
    for caller in waiting:
        with pytest.raises(LimiterClosed) as caught:
            _ = caller.decision
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == len(waiting)  # each has a traceback of its own
    with pytest.raises(LimiterClosed):
        waits.call("wait", "a")
    waits.limiter._open()
    assert waits.wait("d", 10).decision.allowed


class ClosedWhileDecided(MemoryStore):
    """A store that closes a limiter while it decides, once."""

    limiter: Any = None

    def decide_line(self, requests: Any) -> Any:
        answers = super().decide_line(requests)
        limiter, self.limiter = self.limiter, None
        if limiter is not None:
            limiter._end()
        return answers


def test_a_limiter_that_is_closed_during_a_first_call_lets_that_caller_wait_for_nothing(make: Make):
    waits = make(TEN, store=ClosedWhileDecided)
    waits.call("take", "a", 10)
    waits.store.limiter = waits.limiter
    with pytest.raises(LimiterClosed):
        _ = waits.wait("a").decision
    assert waits.waiting == 0


class Broken(MemoryStore):
    """A store that raises, once told to."""

    is_broken = False

    def decide_line(self, requests: Any) -> Any:
        if self.is_broken:
            raise ZeroDivisionError
        return super().decide_line(requests)


def test_an_unexpected_error_reaches_callers_and_leaves_no_line_unserved(make: Make):
    waits = make(SlidingWindow(1, window=10), store=Broken)
    waits.call("take", "a")
    callers = [waits.wait("a") for _ in range(3)]
    waits.store.is_broken = True
    waits.advance(10)
    assert are_done(*callers) == [True, True, True]
    for caller in callers:
        with pytest.raises(ZeroDivisionError):
            _ = caller.decision
    waits.store.is_broken = False
    assert waits.wait("a").decision.allowed


def test_a_caller_that_is_interrupted_while_it_serves_the_line_hands_it_over():
    """By an exception of a signal handler, which only the main thread runs."""
    waits = Waits("threads", SlidingWindow(1, window=10))
    waits.call("take", "a")
    behind: list[Any] = []

    def interrupt() -> None:
        until(lambda: waits._sleepers.are(1))  # the main thread
        behind.append(waits.wait("a"))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def handler(*_: object) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        waits._callers += 1  # this one
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(ZeroDivisionError):
            waits.limiter.wait("a")
        waits._callers -= 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    waits.rest()
    assert waits.waiting == 1
    waits.advance(10)
    assert behind[0].decision.allowed
    waits.close()


class Interrupted(Exception):
    """What a signal handler raises."""


@contextlib.contextmanager
def interruption(after: int) -> Iterator[None]:
    """Raise an exception in this thread before some instruction of the code that lets callers wait."""
    left = after

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("_limiter/lines.py", "_limiter/waiting.py")):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class Joined(MemoryStore):
    """A store that lets a caller join the line while it decides for the first one."""

    join: Callable[[], object] | None = None

    def decide_line(self, requests: Any) -> Any:
        join, self.join = self.join, None
        if join is not None:
            join()
        return super().decide_line(requests)


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("overtake", [False, True])
def test_a_caller_that_is_interrupted_anywhere_leaves_no_line_unserved(has_room: bool, overtake: bool):
    """By an exception before any instruction: of the first call, while it waits, serves the line, or leaves it."""
    store = Joined()
    limiter = Limiter(Concurrency(1, ttl=600), store=store)
    lines = limiter._waiting.lines
    request = limiter._plan.request("a", 1, True, reserves=True)
    if not has_room:
        limiter.reserve("a").__enter__()
    after, interrupted = 0, True
    while interrupted:
        after += 1
        interrupted = False
        if has_room:
            limiter.forget("a")
        woken: list[bool] = []
        behind = Ticket(request, None, lambda woken=woken: woken.append(True))
        names: list[Any] = []

        def join(behind: Ticket = behind, names: list[Any] = names) -> None:
            trace = sys.gettrace()
            sys.settrace(None)  # another thread does this
            names.extend([*lines._by_name, *chain.from_iterable(lines._beside.values())])
            lines.join(names[0], behind)
            sys.settrace(trace)

        store.join = join
        try:
            with interruption(after):
                limiter._waiting.wait(request, 0, overtake=overtake)
        except Interrupted:
            interrupted = True
        if names:
            assert (behind.line.server, behind.line.all_waiting(), bool(woken)) == (None, [behind], True), after
            lines.leave(names[0], behind)
        assert (bool(lines), lines.waiting) == (False, 0), after
    assert after > 200


def test_a_caller_that_is_interrupted_anywhere_while_others_stand_before_it_leaves_their_line():
    limiter = Limiter(Concurrency(1, ttl=600))
    lines = limiter._waiting.lines
    request = limiter._plan.request("a", 1, True, reserves=True)
    limiter.reserve("a").__enter__()
    first = Ticket(request, None)
    line = lines.join(line_name(request.charges), first)
    line.server, line.due_at = first, math.inf
    after, interrupted = 0, True
    while interrupted:
        after += 1
        interrupted = False
        try:
            with interruption(after):
                limiter._waiting.wait(request, 0, overtake=False)
        except Interrupted:
            interrupted = True
        assert (line.server, line.all_waiting(), lines.waiting) == (first, [first], 1), after
    assert after > 200


def test_a_time_out_ends_a_wait_in_a_line_that_nobody_serves(make: Make):
    waits = make(SlidingWindow(1, window=10))
    request = waits.limiter._plan.request("a", 1, True, reserves=True)
    gone = Ticket(request, None)
    line = waits.limiter._waiting.lines.join(line_name(request.charges), gone)
    line.server = gone
    caller = waits.wait("a", timeout=5)
    waits.advance(5)
    waits.advance(60)  # it may stay for a call, for as long as one lasts
    assert not caller.decision.allowed
    waits.limiter._waiting.lines.leave(line_name(request.charges), gone)


def test_when_the_task_that_serves_a_line_is_cancelled_another_one_does():
    waits = Waits("tasks", SlidingWindow(1, window=10))
    waits.call("take", "a")
    callers = [waits.wait("a") for _ in range(2)]
    (server,) = waits.limiter._waiting._servers
    server.cancel()
    waits.rest()
    for caller in callers:
        waits.advance(10)
        assert caller.decision.allowed
    waits.close()


def test_10000_waits_that_are_cancelled_leave_nothing():
    waits = Waits("tasks", SlidingWindow(1, window=10), max_waiting=10_000)
    waits.call("take", "a")
    loop = waits.runner.get_loop()

    async def waited(key: str) -> None:
        await waits.limiter.wait(key)

    tasks = [loop.create_task(waited("a")) for _ in range(10_000)]
    waits.rest()
    assert waits.waiting == 10_000
    for task in tasks:
        task.cancel()
    waits.rest()
    assert (waits.waiting, waits.alarms) == (0, 0)
    assert not waits.limiter._waiting.lines
    assert waits.call("peek", "a").retry_after == 10
    waits.close()


def test_1000_waits_that_are_refused_behind_one_that_waits_leave_nothing(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    head = waits.wait("a", 10)
    for _ in range(1000):
        assert not waits._run(waits.limiter.wait("a", timeout=1)).allowed
    (line,) = waits.limiter._waiting.lines._by_name.values()
    assert len(line._tickets) == 1
    assert waits.alarms == 1
    waits.advance(10)
    assert head.decision.allowed


@pytest.mark.usefixtures("quiet")
def test_a_loop_that_ends_while_tasks_wait_ends_quietly_and_the_next_one_waits_anew():
    clock = ManualClock()
    limiter = AsyncLimiter(SlidingWindow(1, window=10), store=MemoryStore(clock=clock))

    async def leave() -> None:
        await limiter.take("a")
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(50)]
        while limiter.statistics().waiting < 50:
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)

    async def wait() -> None:
        waiting = asyncio.ensure_future(limiter.wait("a"))
        while not clock._alarms:
            await asyncio.sleep(0)
        clock.advance(10)
        assert (await waiting).allowed

    asyncio.run(leave())
    assert limiter.statistics().waiting == 0
    asyncio.run(wait())


def test_tasks_of_several_loops_wait_beside_each_other():
    limiter = AsyncLimiter(SlidingWindow(4, window=0.05))
    outcomes: list[bool] = []

    async def use(number: int) -> None:
        decisions = await asyncio.gather(*(limiter.wait("a") for _ in range(8)))
        outcomes.extend(decision.allowed for decision in decisions)
        async with limiter.reserve("a", 4, wait=True) as turn:
            outcomes.append(turn.allowed)
            turn.cancel()

    threads = [threading.Thread(target=lambda n=n: asyncio.run(use(n)), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == [True] * 36
    assert limiter.statistics().waiting == 0
    assert not limiter._waiting.lines


def test_the_line_of_a_loop_that_is_closed_is_the_next_ones():
    limiter = AsyncLimiter(SlidingWindow(1, window=0.02))

    async def use() -> None:
        await asyncio.gather(*(limiter.wait("a") for _ in range(2)))
        assert limiter._waiting._loop is asyncio.get_running_loop()

    for _ in range(2):
        asyncio.run(use())


def test_a_loop_that_does_not_run_holds_up_no_other():
    limiter = AsyncLimiter(SlidingWindow(1, window=0.05))
    stopped = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[Any]:
        await limiter.take("a")
        waiting = asyncio.ensure_future(limiter.wait("a"))
        while not limiter.statistics().waiting:
            await asyncio.sleep(0)
        return waiting

    async def wait() -> bool:
        return (await asyncio.wait_for(limiter.wait("a"), 60)).allowed

    waiting = stopped.run_until_complete(begin())
    assert asyncio.run(wait())
    assert stopped.run_until_complete(waiting).allowed
    stopped.close()


def test_units_that_come_back_in_one_loop_wake_a_task_of_another():
    limiter = AsyncLimiter(SlidingWindow(1, window=600))
    answers: list[bool] = []

    async def wait() -> None:
        answers.append((await limiter.wait("a")).allowed)

    async def hold() -> None:
        async with limiter.reserve("a") as turn:
            with pytest.raises(TimeoutError):  # this loop has a line of its own, the first one
                await asyncio.wait_for(limiter.wait("a"), 0.001)
            thread.start()
            while not limiter.statistics().waiting:
                await asyncio.sleep(0.001)
            turn.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(wait()), daemon=True)
    asyncio.run(hold())
    thread.join(60)
    assert answers == [True]


def test_a_forked_child_waits_by_itself():
    code = """
import os, threading, time, warnings
from sluicegate import Limiter, MemoryStore, SlidingWindow
warnings.simplefilter("ignore")
limiter = Limiter(SlidingWindow(1, window=0.2))
limiter.take("a")
limiter.take("b")
for _ in range(3):
    threading.Thread(target=limiter.wait, args=("a",), daemon=True).start()
while limiter.statistics().waiting < 3:
    time.sleep(0.001)
child = os.fork()
if not child:
    alone = limiter.statistics().waiting == 0
    os._exit(0 if alone and limiter.wait("a", timeout=30).allowed and limiter.wait("b").allowed else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0\n"


# Stores of one's own


class Own:
    """A store of somebody else's, with nothing but the verbs that each has."""

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.asked = 0

    def decide(self, request):
        self.asked += 1
        return self._inner.decide(request._replace(reserves=False))

    def forget(self, counters):
        self._inner.forget(counters)

    def block(self, counters, span_us): ...

    def close(self): ...


class OwnAwaited(Own):
    close = None  # type: ignore[assignment]

    async def decide(self, request):
        return super().decide(request)

    async def forget(self, counters): ...

    async def block(self, counters, span_us): ...

    async def aclose(self): ...


def test_threads_wait_for_a_store_that_knows_no_lines():
    store = Own()
    limiter = Limiter(SlidingWindow(5, window=0.05), store=store)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(limiter.wait("a").allowed)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 20
    assert store.asked < 20 * 3
    assert limiter.statistics().waiting == 0


def test_tasks_wait_for_a_store_that_knows_no_lines():
    async def wait() -> list[bool]:
        limiter = AsyncLimiter(SlidingWindow(5, window=0.05), store=OwnAwaited())
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in waiting[5:10]:
            task.cancel()
        answers = await asyncio.gather(*waiting[:5], *waiting[10:])
        assert limiter.statistics().waiting == 0
        return [answer.allowed for answer in answers]

    assert asyncio.run(wait()) == [True] * 15


class Strict(MemoryStore):
    """A store with a rule of its own for single requests."""

    def decide(self, request: Any) -> Any:
        if request.charges[0].key == "bad":
            return [Verdict(False, 0, 60_000_000, 0) for _ in request.charges]
        return super().decide(request)


class StrictInLines(Strict):
    """A store with a rule of its own for lines, too."""

    def decide_line(self, requests: Any) -> Any:
        if requests[0].charges[0].key == "worse":
            return [self.decide(requests[0]._replace(charges=(requests[0].charges[0]._replace(key="bad"),)))]
        return super().decide_line(requests)


def test_a_wait_does_not_bypass_a_store_with_a_rule_of_its_own(make: Make):
    waits = make(TEN, store=Strict)
    assert not waits.call("take", "bad").allowed
    assert not waits.wait("bad", timeout=5).decision.allowed
    waits.call("take", "a", 10)
    callers = [waits.wait("a", 5) for _ in range(3)]
    waits.advance(10)
    assert are_done(*callers) == [True, True, False]
    waits.advance(10)
    assert callers[2].decision.allowed
    waits = make(TEN, store=StrictInLines)
    waits.call("take", "a", 10)
    waits.wait("a")
    assert not waits.wait("worse", timeout=5).decision.allowed


# Many at once, by the real clock


def marks(reservation: Any) -> Any:
    return reservation.answered[1].marks


def most_in_a_window(stamps: list[tuple[int, int]], window: int) -> int:
    """Return the most units that stamps have in any half-open window, each a time and a cost."""
    stamps = sorted(stamps)
    most = used = oldest = 0
    for at, cost in stamps:
        used += cost
        while stamps[oldest][0] <= at - window:
            used -= stamps[oldest][1]
            oldest += 1
        most = max(most, used)
    return most


def test_threads_that_come_and_go_lose_no_turn_and_take_no_unit_too_many(hasty_threads: None):
    """Each leaves as it likes: allowed, out of time, or with an exception in its block."""
    limiter = Limiter(SlidingWindow(40, window=0.02))
    stamps: list[tuple[int, int]] = []
    outcomes: Counter[str] = Counter()

    def use(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(30):
            cost, timeout = dice.choice([1, 1, 1, 20]), dice.choice([None, None, 0, 0.005, 0.05])
            with limiter.reserve("a", cost, wait=True, timeout=timeout) as turn:
                outcomes["allowed" if turn else "denied"] += 1
                if turn and dice.random() < 0.1:
                    turn.cancel()
                elif turn:
                    stamps.append((marks(turn)[0][1], cost))

    threads = [threading.Thread(target=use, args=(seed,), daemon=True) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sum(outcomes.values()) == 12 * 30
    assert most_in_a_window(stamps, 20_000_000) <= 40
    assert limiter.statistics().waiting == 0
    assert not limiter._waiting.lines


@pytest.mark.slow
def test_300_threads_are_served_in_order_and_never_over():
    limiter = Limiter(SlidingWindow(100, window=1))
    stamps: dict[int, int] = {}

    def wait(number: int) -> None:
        with limiter.reserve("a", wait=True) as turn:
            stamps[number] = marks(turn)[0][1]

    limiter.take("a", 100)
    threads = [threading.Thread(target=wait, args=(number,), daemon=True) for number in range(300)]
    for number, thread in enumerate(threads):
        thread.start()
        until(lambda number=number: limiter.statistics().waiting + len(stamps) > number)
    for thread in threads:
        thread.join(60)
    in_order = [stamps[number] for number in range(300)]
    assert in_order == sorted(in_order)
    assert most_in_a_window([(at, 1) for at in in_order], 1_000_000_000) <= 100


@pytest.mark.slow
def test_300_tasks_are_served_in_order_and_never_over():
    async def storm() -> list[int]:
        limiter = AsyncLimiter(SlidingWindow(100, window=1))
        done: list[tuple[int, int]] = []

        async def wait(number: int) -> None:
            async with limiter.reserve("a", wait=True) as turn:
                done.append((number, marks(turn)[0][1]))

        tasks = [asyncio.ensure_future(wait(number)) for number in range(400)]
        while limiter.statistics().waiting < 300:
            await asyncio.sleep(0)
        for task in tasks[200:300]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [number for number, _ in done] == [*range(200), *range(300, 400)]
        return [at for _, at in done]

    began = time.monotonic_ns()
    stamps = asyncio.run(storm())
    assert stamps == sorted(stamps)
    assert most_in_a_window([(at, 1) for at in stamps], 1_000_000_000) <= 100
    assert stamps[-1] - began >= 2_000_000_000 - 1  # three hundred take two windows
