"""The window of a history that a report draws: which one, its units, and its text."""

from __future__ import annotations

import pytest

from sluicegate.proof.history import History, Record
from sluicegate.proof.report.window import Window, worst


def record(at: float, allowed: bool | None = True, *, key: str = "a", cost: int = 1, took: float = 0.0) -> Record:
    return Record(at, at + took, key, cost, allowed)


def drawn(records: list[Record], at: Record | None = None, *, limit: int = 2, window: float = 1.0) -> Window:
    found = worst(History(limit, window, records), at)
    assert found is not None
    return found


def test_a_span_over_the_limit_is_described_by_its_length_and_its_units():
    records = [record(0.9), record(0.95), record(1.1), record(1.2, cost=2)]
    found = drawn(records, records[-1])
    assert (found.units, found.fault) == (5, True)
    assert found.says == ("0.3 s, less than the window of 1 s:", "5 allowed, limit 2")


def test_a_request_that_took_a_whole_window_is_certain_in_none():
    slow = record(0.1, took=1.15)
    found = drawn([slow, record(0.9), record(1.2)], record(1.2))
    assert found.units == 2 and not found.fault
    assert [units for _, units in found.held] == [0, 1, 2]


def test_a_request_allowed_a_whole_window_before_is_not_counted():
    assert drawn([record(0.0), record(0.5), record(1.0)], record(1.0)).units == 2


def test_a_denial_is_compared_with_all_units_that_may_have_been_allowed():
    denial = record(1.5, False)
    records = [record(0.2), record(0.9), record(1.0, None), denial]
    found = drawn(records, denial)
    assert (found.units, found.fault, found.certain) == (2, False, False)
    assert drawn([*records[:2], denial], denial).says == (
        "denied, though in the 1 s before",
        "at most 1 was allowed, limit 2",
    )


def test_the_steps_rise_when_an_answer_arrives_and_fall_a_window_after_it_was_sent():
    found = drawn([record(0.0), record(0.6, took=0.1), record(1.05)], record(1.05))
    times = {round(time, 6): units for time, units in found.held}
    assert times[0.7] == 2 and times[1.0] == 1 and times[1.05] == 2


def test_units_that_leave_and_units_that_arrive_at_one_moment_never_count_together():
    assert max(units for _, units in drawn([record(0.0), record(0.5), record(1.0)], record(1.0)).held) == 2


def test_without_a_record_to_show_the_fullest_window_is_drawn():
    crowd = [record(5.0 + 0.01 * n, key="b") for n in range(4)]
    found = drawn([record(0.0), *crowd, record(9.0)], limit=9)
    assert (found.key, found.units) == ("b", 4)


def test_only_the_requests_of_the_key_near_the_window_are_drawn():
    records = [record(0.1 * n) for n in range(100)] + [record(5.0, key="b")]
    found = drawn(records, records[50])
    assert all(r.key == "a" and found.begin <= r.start <= r.end <= found.end for r in found.records)
    assert len(found.records) + found.left_out == 100
    assert found.end - found.begin < 1.5


def test_a_burst_in_a_long_window_is_drawn_as_close_as_it_was():
    found = drawn([record(7.0 + 0.001 * n) for n in range(10)], window=60.0)
    assert found.end - found.begin == pytest.approx(0.009, rel=0.2)


def test_a_span_much_shorter_than_its_window_fills_the_drawing_whatever_was_before():
    burst = [record(2.0 + 0.001 * n) for n in range(10)]
    found = drawn([record(0.9), record(0.95, False), *burst, record(2.1, False)], burst[-1])
    assert (found.last - found.first) / (found.end - found.begin) > 0.6
    assert found.left_out == 3


def test_a_window_before_a_denial_fills_the_drawing():
    found = drawn([record(0.5 * n) for n in range(20)], record(8.2, False))
    assert (found.last - found.first) / (found.end - found.begin) > 0.6


def steady(took: float) -> list[Record]:
    """Return a full key: each unit leaves as the next one comes, somewhere in the middle of its call."""
    return [Record(0.5 * n - took / 2, 0.5 * n + took / 2, "a", 1, True) for n in range(12)]


@pytest.mark.parametrize("took", [0.0, 0.002, 0.01])
def test_a_unit_that_leaves_as_another_comes_makes_neither_a_spike_nor_a_gap(took: float):
    full = steady(took)
    denial = Record(4.7, 4.7 + took, "a", 1, False)
    assert {units for _, units in drawn([*full, denial], denial).held} == {2}
    assert {units for _, units in drawn(full, full[-2]).held} == {2}


def test_a_unit_that_comes_while_the_other_is_certainly_there_is_a_spike_all_the_same():
    early = [*steady(0.002)[:9], Record(4.45, 4.452, "a", 1, True)]
    assert max(units for _, units in drawn(early, early[-1]).held) == 3
    denial = Record(4.46, 4.462, "a", 1, False)
    assert max(units for _, units in drawn([*early, denial], denial).held) == 3


def test_a_span_slightly_shorter_than_the_window_does_not_read_as_the_window():
    assert drawn([record(0.0), record(0.99996)], record(0.99996)).says[0].startswith("0.99996 s")


@pytest.mark.parametrize("allowed", [True, False])
def test_one_request_alone_can_be_drawn(allowed: bool):
    found = drawn([record(3.0, allowed)])
    assert found.begin < 3.0 < found.end


def test_no_window_is_drawn_for_a_request_without_an_answer():
    silent = record(3.0, None)
    assert worst(History(1, 1.0, [record(2.9), silent]), silent) is None
    assert worst(History(1, 1.0, [silent]), None) is None


def test_a_history_without_requests_has_no_window():
    assert worst(History(1, 1.0, []), None) is None
