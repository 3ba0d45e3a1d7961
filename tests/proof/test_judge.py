"""The judge of recorded answers: the faults it must find, the answers it must accept, and a check by brute force."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import (
    Span,
    judge,
    never_over,
    never_over_in_spans,
    never_under,
    over,
    owed,
    spans,
    unjustified,
)
from sluicegate.proof.verdict import CaseVerdict


def at(instant: float, *, allowed: bool = True, cost: int = 1, key: str = "a", took: float = 0.0) -> Record:
    return Record(instant, instant + took, key, cost, allowed)


# Over the limit


def test_a_burst_on_both_sides_of_the_edge_of_a_fixed_window_is_over():
    burst = [at(59 + n / 100, took=0.001) for n in range(10)] + [at(60 + n / 100, took=0.001) for n in range(10)]
    assert over(burst, 10, 60)
    assert max(span.units for span in spans(burst, 60)) == 20
    assert not over(burst[:10], 10, 60)


def test_one_unit_more_than_the_limit_is_over():
    records = [at(n / 10, took=0.01) for n in range(6)]
    assert over(records, 5, 1) == [Span("a", 0.0, 6)]
    assert not over(records, 6, 1)


def test_one_request_may_be_over_the_limit_by_its_cost():
    assert over([at(0, cost=11)], 10, 1) == [Span("a", 0, 11)]
    assert over([at(0, cost=6), at(0.5, cost=5)], 10, 1) == [Span("a", 0, 11)]


def test_exactly_at_the_edge_a_unit_is_free_again():
    assert not over([at(0), at(1)], 1, 1)
    assert over([at(0), at(0.999)], 1, 1)


def test_each_key_has_its_own_limit_and_denials_are_not_counted():
    assert not over([at(0, key="a"), at(0, key="b"), at(0, allowed=False)], 1, 1)


def test_a_request_that_may_have_been_decided_outside_the_window_is_not_counted():
    # The first may have been decided at 0.0 and the second at 1.05: a window apart.
    assert not over([at(0, took=0.1), at(0.95, took=0.1)], 1, 1)
    assert over([at(0, took=0.1), at(0.85, took=0.1)], 1, 1)


def test_a_request_that_took_longer_than_the_window_proves_nothing():
    assert not over([at(0, took=5, cost=10), at(2), at(2.1)], 2, 1)
    assert over([at(0, took=5, cost=10), at(2), at(2.1), at(2.2)], 2, 1) == [Span("a", 2, 3)]


# Denied although there was room


def test_a_denial_with_room_is_unjustified():
    denied = at(0.5, allowed=False, took=0.01)
    assert unjustified([at(0), at(0.1), denied], 3, 1) == [denied]
    assert unjustified([at(0), at(0.1), at(0.2), denied], 3, 1) == []


def test_a_denial_after_the_window_has_passed_is_unjustified():
    late = at(1.0, allowed=False)
    assert unjustified([at(0), late], 1, 1) == [late]
    assert unjustified([at(0), at(0.999, allowed=False)], 1, 1) == []


def test_a_denied_cost_needs_room_for_all_of_it():
    assert unjustified([at(0, cost=6), at(0.5, cost=5, allowed=False)], 10, 1) == []
    denied = at(0.5, cost=4, allowed=False)
    assert unjustified([at(0, cost=6), denied], 10, 1) == [denied]
    assert unjustified([at(0, cost=11, allowed=False)], 10, 1) == []


def test_units_of_another_key_do_not_justify_a_denial():
    denied = at(0.5, allowed=False)
    assert unjustified([at(0, key="b"), denied], 1, 1) == [denied]


def test_a_request_in_flight_at_the_same_time_may_have_been_decided_first():
    assert unjustified([at(0.5, took=0.2), at(0.4, allowed=False, took=0.2)], 1, 1) == []
    # It ended within the window of the instant at which the denial began, wherever both were decided.
    assert unjustified([at(0, took=0.2), at(1.1, allowed=False, took=0.2)], 1, 1) == []


# Requests without an answer


def test_a_request_without_an_answer_may_have_taken_its_units_and_may_not():
    unknown = at(0.2, allowed=None)
    assert not over([at(0), unknown, at(0.5)], 2, 1)
    assert unjustified([at(0), unknown, at(0.5, allowed=False)], 2, 1) == []
    denied = at(0.5, allowed=False)
    assert unjustified([at(0), unknown, denied], 3, 1) == [denied]


# Answers that an exact limiter owes


def test_an_answer_is_owed_if_it_is_right_wherever_in_their_intervals_the_decisions_fell():
    first, inside, after = at(0, took=0.1), at(0.5, allowed=False), at(1.2)
    assert [each.answer for each in owed([first, inside, after], 1, 1)] == [True, False, True]


def test_near_the_edge_neither_answer_is_owed():
    # It was decided between 1.0 and 1.2, when the first may or may not have left.
    assert owed([at(0, took=0.1), at(1.0, took=0.2)], 1, 1)[1].answer is None


def test_a_request_that_took_nearly_a_window_makes_the_certain_count_too_low_never_too_high():
    long = at(0, took=0.95, cost=3)
    assert owed([long, at(1.0)], 3, 1)[1].at_least <= 3
    assert owed([at(0.5, cost=2), at(0, took=0.9), at(1.0)], 3, 1)[2].at_least <= 3


# Verdicts


def history_of(records: list[Record], limit: int, window: float = 1) -> History:
    return History(limit, window, records)


def test_a_full_window_and_a_right_denial_pass():
    judgement = judge(history_of([at(0), at(0.1), at(0.5, allowed=False), at(1.05)], 2))
    assert [finding.verdict for finding in judgement] == [CaseVerdict.PASSED, CaseVerdict.PASSED]


def test_one_unit_too_many_fails_and_names_the_request():
    finding = never_over(history_of([at(0), at(0.1), at(0.2)], 2))
    assert finding.verdict is CaseVerdict.FAILED
    assert finding.at == at(0.2)
    assert "3 units were allowed to 'a' within 0.2 s" in finding.says


def test_slow_answers_are_undecided_never_passed():
    assert never_over(history_of([at(n * 0.4, took=0.9) for n in range(6)], 2)).verdict is CaseVerdict.UNDECIDED
    assert never_over(history_of([], 2)).verdict is CaseVerdict.UNDECIDED
    assert (
        never_under(history_of([at(0, took=0.9), at(0.5, took=0.9, allowed=False)], 1)).verdict is CaseVerdict.UNDECIDED
    )


def test_a_denial_with_room_fails_and_says_how_much_room_there_was():
    finding = never_under(history_of([at(0), at(0.5, allowed=False, cost=2)], 4))
    assert finding.verdict is CaseVerdict.FAILED
    assert "was denied a cost of 2 though its window held at most 1 of 4 units" in finding.says


@pytest.mark.parametrize(("took", "says"), [(0.0004, "0.4 ms"), (0.0123, "12.3 ms"), (1.25, "1.25 s")])
def test_a_denial_with_room_says_how_long_its_answer_took(took: float, says: str):
    finding = never_under(History(3, 60, [at(0), at(5, allowed=False, took=took)]))
    assert f"held at most 1 of 3 units; the answer took {says}. " in finding.says


def test_a_history_too_short_to_show_a_fault_is_undecided():
    few = judge(history_of([at(0)], 2))
    assert [finding.verdict for finding in few] == [CaseVerdict.UNDECIDED, CaseVerdict.UNDECIDED]
    assert "the fullest held 1 of 2 units" in few.never_over.says


def test_a_span_is_written_with_enough_digits_to_differ_from_the_window():
    assert "within 0.99999 s, less than the window of 1 s" in never_over(history_of([at(0), at(0.99999)], 1)).says


# Several windows


def test_a_grant_that_came_late_is_seen_in_two_windows_and_not_in_one():
    waited = [at(0, took=0.1), at(0, took=1.05), at(0, took=1.9)]
    history = history_of(waited, 1)
    assert never_over_in_spans(history, 1).verdict is CaseVerdict.PASSED
    finding = never_over_in_spans(history, 2)
    assert finding.verdict is CaseVerdict.FAILED
    assert "3 units were allowed to 'a' within 1.9 s, less than the window of 2 s; the limit is 2" in finding.says
    assert (finding.history, finding.at) == (history, waited[2])


def test_a_fault_in_one_window_is_found_in_that_window():
    finding = never_over_in_spans(history_of([at(0), at(0.1), at(0.2), at(0.5)], 1), 3)
    assert "4 units were allowed to 'a' within 0.5 s, less than the window of 1 s; the limit is 1" in finding.says


def test_so_many_windows_may_hold_as_many_times_the_limit():
    in_turn = [at(n // 2) for n in range(8)]
    for windows in (1, 2, 3, 4):
        assert never_over_in_spans(history_of(in_turn, 2), windows).verdict is CaseVerdict.PASSED
    # One more while three windows have not passed: the last window alone holds no more than 2.
    one_more = [at(0, took=0.01), *(at(0, took=took) for took in (1.01, 1.5, 2.01, 2.02, 2.5, 2.99))]
    assert never_over_in_spans(history_of(one_more, 2), 2).verdict is not CaseVerdict.FAILED
    assert never_over_in_spans(history_of(one_more, 2), 3).verdict is CaseVerdict.FAILED


# Against brute force, on a coarse grid so that edges meet

_RECORDS = st.lists(
    st.builds(
        lambda start, took, key, cost, allowed: Record(start, start + took, key, cost, allowed),
        st.integers(0, 30),
        st.integers(0, 12),
        st.sampled_from("ab"),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=14,
)


@given(_RECORDS, st.integers(1, 8), st.integers(1, 10))
def test_the_judge_agrees_with_brute_force(records: list[Record], limit: int, window: int):
    found = {(span.key, span.start): span.units for span in over(records, limit, window)}
    worst: dict[str, int] = {}
    for first, last in itertools.product([record for record in records if record.allowed], repeat=2):
        begin, end = first.start, last.end
        if first.key != last.key or not 0 <= end - begin < window:
            continue
        inside = [r for r in records if r.allowed and r.key == first.key and begin <= r.start and r.end <= end]
        worst[first.key] = max(worst.get(first.key, 0), sum(r.cost for r in inside))
    for key in "ab":
        units = [units for (of, _), units in found.items() if of == key]
        assert max(units, default=None) == (worst[key] if worst.get(key, 0) > limit else None)

    room = [
        denied
        for denied in records
        if not denied.allowed
        and limit - denied.cost
        >= sum(
            r.cost
            for r in records
            if r.allowed and r.key == denied.key and r.start <= denied.end and r.end > denied.start - window
        )
    ]
    assert sorted(unjustified(records, limit, window)) == sorted(room)


@given(_RECORDS, st.integers(1, 8), st.integers(1, 10))
def test_owed_answers_agree_with_every_way_the_decisions_may_have_fallen(records, limit: int, window: int):
    for each in owed(records, limit, window):
        record = each.record
        others = [r for r in records if r.key == record.key and r.allowed is not False]
        if record.allowed is not False:
            others.remove(record)
        # For each instant on the grid: the most units that may be in the window, and the fewest that must be.
        may, must = [], []
        for now in range(record.start, record.end + 1):
            in_window = range(now - window + 1, now + 1)
            may.append(sum(r.cost for r in others if any(t in in_window for t in range(r.start, r.end + 1))))
            certain = [r for r in others if r.allowed and r.end < now]
            must.append(sum(r.cost for r in certain if all(t in in_window for t in range(r.start, r.end + 1))))
        assert each.at_least <= min(must)
        assert each.at_most >= max(may)


_TRAFFIC = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9), st.integers(1, 4)), max_size=60)


def limited(traffic: list[tuple[int, int, int, int]], limit: int, window: int) -> list[Record]:
    """Return the answers of an exact sliding window, each decided somewhere within its interval."""
    now, log, records = 0, [], []
    for gap, before, after, cost in traffic:
        now += gap
        allowed = sum(units for stamp, units in log if now - window < stamp) + cost <= limit
        if allowed:
            log.append((now, cost))
        records.append(Record(now - before, now + after, "a", cost, allowed))
    return records


@given(_TRAFFIC, st.integers(1, 8), st.integers(1, 12))
def test_an_exact_limiter_never_fails_whatever_the_delays(traffic, limit: int, window: int):
    records = limited(traffic, limit, window)
    assert over(records, limit, window) == []
    assert unjustified(records, limit, window) == []
    assert never_over_in_spans(History(limit, window, records), 4).verdict is not CaseVerdict.FAILED


@given(st.integers(1, 8), st.integers(2, 12), st.integers(0, 30))
def test_a_limiter_that_is_off_by_one_fails(limit: int, window: int, began: int):
    demand = [(began, 0, 0, 1), *[(0, 0, 0, 1)] * 10]
    assert over(limited(demand, limit + 1, window), limit, window)
    assert unjustified(limited(demand, limit, window), limit + 1, window)


@pytest.mark.slow
def test_half_a_million_records_are_judged_in_seconds():
    records = [at(n / 50_000, key=str(n % 20), took=0.005, allowed=n % 50 == 0) for n in range(500_000)]
    began = time.process_time()  # not the time of a machine that does other work as well
    assert not over(records, 1000, 1)
    assert len(unjustified(records, 1001, 1)) == 490_000
    assert time.process_time() - began < 20
