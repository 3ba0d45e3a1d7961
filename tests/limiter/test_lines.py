"""The lines in which callers wait: who is tried next, who gets what, when the server looks again, and what is left."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sluicegate import Concurrency, SlidingWindow, StoreUnavailable
from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.request import Charge, Request
from sluicegate._limiter.lines import (
    FIRST_BATCH,
    LAST_BATCH,
    POLL,
    Beside,
    Line,
    Lines,
    Ticket,
    cannot_be_met,
    later,
    line_name,
    never_fits,
    refusal,
)
from sluicegate._stores.base import Fallback

POLICY = SlidingWindow(10, window=60)
PERMITS = Concurrency(2, ttl=30)
DOWN = StoreUnavailable("down", reason="unreachable")


class Caller(Ticket):
    """A caller in a line that counts how often it was woken."""

    def __init__(self, cost: int = 1, until: float | None = None, policy: Any = POLICY) -> None:
        self.woken = 0
        super().__init__(Request((Charge(policy, "a", cost),), reserves=True), until, self._count)

    def _count(self) -> None:
        self.woken += 1


def yes() -> list[Verdict]:
    return [Verdict(True, 0, 0, 60_000_000)]


def no(seconds: float) -> list[Verdict]:
    return [Verdict(False, 0, NEVER if seconds == math.inf else round(seconds * 1_000_000), 60_000_000)]


def line_of(*callers: Caller) -> Line:
    line = Line()
    for caller in callers:
        line.join(caller)
    return line


def grow(line: Line, callers: int) -> None:
    """Let one call allow so many, so that the next call tries more."""
    batch = [Caller() for _ in range(callers)]
    for caller in batch:
        line.join(caller)
    line.deliver(batch, [yes() for _ in batch], 0.0)


# Batches


def test_a_call_tries_twice_as_many_as_the_last_one_allowed_within_bounds():
    line = line_of(*(Caller() for _ in range(1000)))
    sizes = []
    for allowed in (2, 4, 3, 0, 1, 100, 1):
        batch = line.next_batch()
        sizes.append(len(batch))
        line.deliver(batch, [yes() for _ in batch][:allowed], 0.0)
    assert (FIRST_BATCH, LAST_BATCH) == (2, 128)
    assert sizes == [2, 4, 8, 6, 2, 2, 4]
    grow(line, 100)
    assert len(line.next_batch()) == 128


def test_a_batch_is_the_first_ones_that_wait_in_their_order():
    gone, answered, first, second, third = (Caller() for _ in range(5))
    line = line_of(gone, first, answered, second, third)
    line.leave(gone)
    answered.end(yes())
    assert line.next_batch() == [first, second]
    assert line.first() is first


# Answers


def test_the_allowed_get_their_answers_and_the_denied_one_says_when_to_look_again():
    first, second, third = Caller(50), Caller(), Caller()
    line = line_of(first, second, third)
    answers = [yes(), no(7)]
    assert line.deliver([first, second], answers, 100.0) == []
    assert first.answer is answers[0]
    assert [first.woken, second.woken, third.woken] == [1, 0, 0]
    assert line.first() is second
    assert line.due_at == 107.0
    assert second.denied == line.denied == (answers[1], 100.0)


def test_after_a_batch_that_was_allowed_as_a_whole_the_next_is_due_at_once():
    line = line_of(*(Caller() for _ in range(3)))
    line.deliver(line.next_batch(), [yes(), yes()], 100.0)
    assert line.due_at == 100.0


@pytest.mark.parametrize("seconds", [7, math.inf])
def test_a_denied_one_that_does_not_wait_so_long_is_refused_and_the_next_is_tried_at_once(seconds: float):
    first, second = Caller(until=106.9), Caller()
    line = line_of(first, second)
    denial = no(seconds)
    line.deliver(line.next_batch(), [denial], 100.0)
    assert first.answer is denial
    assert line.first() is second
    assert line.due_at == 100.0


def test_what_a_caller_was_allowed_that_has_left_goes_to_the_next_of_the_same_cost():
    first, second, third, fourth = (Caller() for _ in range(4))
    line = line_of(first, second, third, fourth)
    batch = line.next_batch()
    line.leave(second)
    answers = [yes(), yes()]
    assert line.deliver(batch, answers, 0.0) == []
    assert [first.answer, third.answer] == answers
    assert third.answer is answers[1]
    assert line.first() is fourth


def test_several_that_have_left_are_succeeded_in_order():
    callers = [Caller() for _ in range(6)]
    line = line_of(*callers)
    grow(line, 2)
    batch = line.next_batch()
    assert len(batch) == 4
    for caller in batch[:3]:
        line.leave(caller)
    answers = [yes() for _ in batch]
    assert line.deliver(batch, answers, 0.0) == [(batch[2].request, answers[2])]
    assert callers[3].answer is answers[3]
    assert callers[4].answer is answers[0]
    assert callers[5].answer is answers[1]


def test_what_nobody_of_the_same_cost_waits_for_is_to_be_given_back():
    first, second = Caller(5), Caller(1)
    line = line_of(first, second)
    batch = line.next_batch()
    line.leave(first)
    answer = yes()
    assert line.deliver(batch[:1], [answer], 0.0) == [(first.request, answer)]
    assert second.answer is None


def test_an_error_ends_the_waits_of_its_batch_alone():
    callers = [Caller() for _ in range(3)]
    line = line_of(*callers)
    line.fail(line.next_batch(), DOWN)
    assert [caller.answer for caller in callers] == [DOWN, DOWN, None]
    assert line.first() is callers[2]


# When the server looks again


def test_units_that_are_given_back_during_a_call_are_looked_for_again_after_it():
    line = line_of(Caller(), Caller())
    batch = line.next_batch()
    line.look_again()
    line.deliver(batch, [no(60)], 100.0)
    assert line.due_at <= 100.0
    line.deliver(line.next_batch(), [no(60)], 100.0)
    assert line.due_at == 160.0


def test_units_that_are_given_back_during_the_first_call_are_looked_for_again():
    lines = Lines(10)
    caller = Caller()
    assert lines.begin("a", caller)
    lines.look_again_in_all()
    lines.join_first(caller, no(60), 100.0)
    assert caller.line.due_at <= 100.0


def test_to_look_again_wakes_the_server_that_sleeps():
    woken = []
    line = line_of(Caller())
    line.deliver(line.next_batch(), [no(60)], 100.0)
    line.wake_server = lambda: woken.append(line.due_at)
    line.look_again()
    assert woken == [-math.inf]


def test_when_the_first_one_leaves_the_next_of_another_cost_is_tried_at_once():
    woken = []
    costly, cheap = Caller(50), Caller(1)
    line = line_of(costly, cheap)
    line.deliver(line.next_batch(), [no(60)], 100.0)
    line.wake_server = lambda: woken.append(line.first())
    line.leave(costly)
    assert line.due_at <= 100.0
    assert woken == [cheap]


def test_when_the_first_one_leaves_the_next_of_the_same_cost_waits_as_long_as_it_did():
    first, second = Caller(), Caller()
    line = line_of(first, second)
    line.deliver(line.next_batch(), [no(60)], 100.0)
    line.leave(first)
    assert line.due_at == 160.0


def test_when_another_one_than_the_first_leaves_nothing_changes():
    first, second, third = Caller(), Caller(50), Caller()
    line = line_of(first, second, third)
    line.deliver(line.next_batch(), [no(60)], 100.0)
    line.leave(second)
    assert line.due_at == 160.0


def test_the_denial_of_a_costly_one_that_left_during_the_call_delays_no_cheap_one():
    first, costly, cheap = Caller(1), Caller(50), Caller(1)
    line = line_of(first, costly, cheap)
    batch = line.next_batch()
    line.leave(costly)
    line.deliver(batch, [yes(), no(60)], 100.0)
    assert line.first() is cheap
    assert line.due_at == 100.0


def test_whose_time_is_over_stays_for_the_call_that_is_due_and_is_woken_when_none_is():
    first, late, other = Caller(), Caller(until=100.0), Caller()
    line = line_of(first, late, other)
    assert line.stays_for_call(late, later(100.0, POLL / 2))
    line.deliver([first], [yes()], 100.0)  # the next call is due, which may be its own
    assert late.woken == 0
    line.deliver([other], [no(5)], 100.0)
    assert late.woken == 1
    assert not line.stays_for_call(late, 100.0)


@pytest.mark.parametrize(("within", "most"), [(None, POLL), (2.0, 2.0)])
def test_whose_time_is_over_stays_for_no_longer_than_a_call_may_last(within: float | None, most: float):
    late = Caller(until=100.0)
    late.request = late.request._replace(within=within)
    line = line_of(Caller(), late)
    assert line.stays_for_call(late, 100.0)
    assert line.stays_for_call(late, later(100.0, most - 0.000001))
    assert not line.stays_for_call(late, later(100.0, most))


def test_for_want_of_permits_the_server_looks_again_sooner_than_the_denial_says():
    line = line_of(Caller(policy=PERMITS))
    line.deliver(line.next_batch(), [no(30)], 100.0)
    assert line.due_at == later(100.0, POLL)
    line.deliver(line.next_batch(), [no(POLL / 2)], 100.0)
    assert line.due_at == later(100.0, POLL / 2)


@pytest.mark.parametrize(("rate", "due_in"), [(60, 60), (0.02, POLL), (POLL, POLL), (7, 7)])
def test_for_want_of_permits_and_units_the_server_looks_again_when_there_may_be_units(rate: float, due_in: float):
    caller = Caller(policy=PERMITS)
    charges = (*caller.request.charges, Charge(POLICY, "a", 1))
    caller.request = caller.request._replace(charges=charges)
    line = line_of(caller)
    line.deliver(line.next_batch(), [[*no(30), *no(rate)]], 100.0)
    assert line.due_at == later(100.0, due_in)


def test_a_wait_for_permits_and_units_cannot_be_met_if_that_for_units_alone_cannot():
    charges = (Charge(PERMITS, "a", 1), Charge(POLICY, "a", 1))
    assert cannot_be_met(charges, [*no(30), *no(60)], 105.0, 100.0)
    assert not cannot_be_met(charges, [*no(30), *no(5)], 105.0, 100.0)
    assert not cannot_be_met(charges, [*no(30), *yes()], 105.0, 100.0)
    assert cannot_be_met(charges, [*no(math.inf), *no(5)], None, 100.0)


def test_the_denial_of_one_that_is_refused_is_not_told_to_the_others():
    never, late = Caller(11), Caller()
    line = line_of(never, late)
    line.deliver(line.next_batch(), [no(math.inf)], 100.0)
    assert never.denied is not None
    assert line.denied is None


def test_times_are_added_to_the_microsecond_that_a_clock_moved_by_hand_reads():
    assert 0.1 + 0.2 > 0.3
    assert later(0.1, 0.2) == 300_000 / 1_000_000
    assert later(1_700_000_000.1, 0.2) == 1_700_000_000_300_000 / 1_000_000
    charges = Caller().request.charges
    assert not cannot_be_met(charges, no(0.2), 0.3, 0.1)


def test_a_new_line_is_due_whatever_the_clock_reads():
    assert Line().due_at == -math.inf


# Refusals


@pytest.mark.parametrize(
    ("policy", "seconds", "until", "expected"),
    [
        (POLICY, 5, None, False),
        (POLICY, 5, 105.0, False),
        (POLICY, 5.000001, 105.0, True),
        (POLICY, math.inf, None, True),
        (PERMITS, 30, 105.0, False),
        (PERMITS, math.inf, None, True),
    ],
)
def test_a_wait_cannot_be_met_if_it_ends_after_the_time_out_or_never(
    policy: Any, seconds: float, until: float | None, expected: bool
):
    charges = Caller(policy=policy).request.charges
    assert cannot_be_met(charges, no(seconds), until, 100.0) is expected


def test_the_longest_wait_of_those_that_deny_counts():
    charges = (Charge(POLICY, "a", 1), Charge(SlidingWindow(2, window=1), "a", 1), Charge(PERMITS, "a", 1))
    answer = [*no(5), *no(7), *yes()]
    assert cannot_be_met(charges, answer, 106.0, 100.0)
    assert not cannot_be_met(charges, answer, 107.0, 100.0)


def test_a_cost_above_a_burst_never_fits():
    assert never_fits(Caller(11).request.charges)
    assert not never_fits(Caller(10).request.charges)


def test_a_refusal_is_the_last_denial_by_what_has_passed_since():
    charges = Caller().request.charges
    (verdict,) = refusal(no(7), 100.0, 105.0, charges)
    assert verdict == Verdict(False, 0, 2_000_000, 55_000_000)
    (verdict,) = refusal(no(7), 100.0, 200.0, charges)
    assert verdict == Verdict(False, 0, 1, 0)
    (verdict,) = refusal(no(math.inf), 100.0, 105.0, charges)
    assert verdict.retry_after_us == NEVER


@pytest.mark.parametrize("answer", [None, yes()])
def test_a_refusal_without_a_denial_is_one_all_the_same(answer: list[Verdict] | None):
    assert refusal(answer, 0.0, 5.0, Caller().request.charges) == [Verdict(False, 0, 1, 0)]


def test_a_refusal_says_that_it_comes_from_an_outage_if_its_denial_did():
    charges = Caller().request.charges
    assert isinstance(refusal(Fallback(no(7)), 100.0, 105.0, charges), Fallback)
    assert type(refusal(no(7), 100.0, 105.0, charges)) is list


# The lines of a limiter


def test_lines_are_told_apart_by_their_counters_and_not_by_cost_or_limit():
    def name(policy: Any, key: str, cost: int = 1) -> Any:
        return line_name((Charge(policy, key, cost),))

    assert name(POLICY, "a") == name(SlidingWindow(20, window=60), "a", 5)
    assert len({name(POLICY, "a"), name(POLICY, "b"), name(SlidingWindow(10, window=61), "a")}) == 3


def test_a_line_is_there_for_as_long_as_somebody_waits_in_it():
    lines = Lines(10)
    first, second = Caller(), Caller()
    line = lines.join("a", first)
    assert lines.join("a", second) is line
    assert (lines.waiting, bool(lines)) == (2, True)
    lines.leave("a", first)
    lines.leave("a", first)
    assert (lines.waiting, bool(lines)) == (1, True)
    lines.leave("a", second)
    assert (lines.waiting, bool(lines)) == (0, False)


def test_a_line_that_nobody_waits_in_any_more_wakes_its_server():
    lines = Lines(10)
    caller, woken = Caller(), []
    line = lines.join("a", caller)
    line.wake_server = lambda: woken.append(True)
    lines.leave("a", caller)
    assert woken == [True]


def test_of_a_line_that_is_forgotten_and_made_anew_the_old_callers_do_no_harm():
    lines = Lines(10)
    old, new = Caller(), Caller()
    before = lines.join("a", old)
    lines.leave("a", old)
    line = lines.join("a", new)
    assert line is not before
    lines.leave("a", old)
    assert lines.join("a", Caller()) is line


def test_one_caller_at_a_time_begins_a_line():
    lines = Lines(10)
    first = Caller()
    assert lines.begin("a", first)
    assert not lines.begin("a", Caller())
    assert lines.begin("b", Caller())
    lines.leave("a", first)
    assert lines.begin("a", Caller())


def test_a_line_stays_while_the_call_of_the_one_that_began_it_is_under_way():
    lines = Lines(10)
    first, other = Caller(), Caller()
    assert lines.begin("a", first)
    line = first.line
    assert lines.join("a", other) is line
    lines.leave("a", other)
    assert not lines.begin("a", Caller())
    lines.join_first(first, no(5), 100.0)
    assert lines.join("a", Caller()) is line
    assert line.first() is first


def test_the_one_that_began_a_line_stands_before_those_that_came_while_it_asked():
    lines = Lines(10)
    first, *others = Caller(), Caller(), Caller()
    assert lines.begin("a", first)
    for other in others:
        lines.join("a", other)
    lines.join_first(first, no(5), 100.0)
    assert first.line.all_waiting() == [first, *others]
    assert first.line.due_at == 105.0


def test_ten_thousand_that_leave_while_the_first_waits_leave_nothing():
    lines = Lines(10)
    line = lines.join("a", Caller())
    for _ in range(10_000):
        caller = Caller()
        lines.join("a", caller)
        lines.leave("a", caller)
    assert lines.waiting == 1
    assert len(line._tickets) == 1


def test_to_look_again_reaches_the_line_of_its_counters_alone():
    lines = Lines(10)
    denied = {}
    for key in ("a", "b"):
        charges = (Charge(POLICY, key, 1),)
        caller = Caller()
        denied[key] = lines.join(line_name(charges), caller)
        denied[key].deliver([caller], [no(60)], 100.0)
    lines.look_again((Charge(POLICY, "a", 7),))
    assert [line.due_at for line in denied.values()] == [-math.inf, 160.0]
    lines.look_again_in_all()
    assert denied["b"].due_at == -math.inf


def test_to_look_again_reaches_the_lines_beside_that_of_its_counters():
    lines = Lines(10)
    charges = (Charge(POLICY, "a", 1),)
    names = [Beside(line_name((Charge(POLICY, key, 1),)), object()) for key in "aab"]
    assert len(set(names)) == 3
    callers = [Caller() for _ in names]
    for name, caller in zip(names, callers, strict=True):
        lines.join(name, caller).deliver([caller], [no(60)], 100.0)
    lines.look_again(charges)
    assert [caller.line.due_at for caller in callers] == [-math.inf, -math.inf, 160.0]
    for name, caller in zip(names, callers, strict=True):
        lines.leave(name, caller)
    assert not lines


class Calls(dict[Any, Any]):
    """A mapping that says how often it was looked through."""

    looks = 0

    def __iter__(self) -> Any:
        self.looks += 1
        return super().__iter__()

    def items(self) -> Any:
        self.looks += 1
        return super().items()

    def values(self) -> Any:
        self.looks += 1
        return super().values()


def test_to_look_again_looks_through_no_lines_of_other_counters():
    """Even if somebody may overtake, or another event loop has lines beside."""
    lines = Lines(10)
    lines._by_name = by_name = Calls()
    lines.join(Beside(line_name((Charge(POLICY, "b", 1),)), object()), Caller())
    caller = Caller()
    charges = (Charge(POLICY, "a", 1),)
    lines.join(line_name(charges), caller)
    lines.look_again(charges)
    assert by_name.looks == 0


def test_all_that_wait_can_be_failed():
    lines = Lines(10)
    callers = {name: [Caller(), Caller()] for name in "ab"}
    for name, both in callers.items():
        for caller in both:
            lines.join(name, caller)
    callers["a"][0].end(yes())
    lines.fail_all(DOWN)
    assert [caller.answer for both in callers.values() for caller in both] == [yes(), DOWN, DOWN, DOWN]


def test_a_forked_child_has_no_lines():
    lines = Lines(10)
    lines.join("a", Caller())
    lock = lines.lock
    lines.after_fork()
    assert (lines.waiting, bool(lines)) == (0, False)
    assert lines.lock is not lock
