"""Reported waits: judged by the calls that follow, with what earlier calls explain allowed for."""

from __future__ import annotations

from sluicegate.proof.history import Record
from sluicegate.proof.waits import Wait, waits

RESOLUTION = 0.001


def record(start: float, took: float, *, allowed: bool | None, wait: float | None = None) -> Record:
    return Record(start, start + took, "a", 1, allowed, wait)


def only(records: list[Record], number: int) -> Wait:
    [wait] = waits(records, number)
    return wait


def remembered(first_took: float, told: float) -> Wait:
    """Return a wait of 1 s from 10.1 on, told at 10.5 after a denial that took so long, and ended by a call at 11.1."""
    first, again = record(10.1, first_took, allowed=False), record(10.5, 0.0, allowed=False, wait=told)
    return only([record(10.0, 0.01, allowed=True), first, again, record(11.1, 0.002, allowed=True)], 2)


def test_a_wait_that_is_told_from_memory_may_be_too_long_by_the_call_that_was_remembered():
    assert remembered(0.001, 0.6).too_long(RESOLUTION) is False
    assert remembered(0.001, 0.62).too_long(RESOLUTION) is True
    assert remembered(0.02, 0.62).too_long(RESOLUTION) is False
    assert remembered(0.02, 0.626).too_long(RESOLUTION) is True


def test_a_slow_call_that_came_later_or_for_another_key_explains_nothing():
    slow, denied = Record(10.0, 12.0, "b", 1, True), record(10.1, 0.001, allowed=False, wait=0.9)
    retries = [record(10.2, 0.3, allowed=False), record(10.6, 0.001, allowed=True)]
    assert waits([slow, denied, *retries], 0)[0].too_long(RESOLUTION)


def test_a_call_denied_after_the_wait_breaks_it_but_not_after_a_call_that_may_have_taken_the_unit():
    denied, end = record(10.0, 0.01, allowed=False, wait=0.5), record(10.6, 0.01, allowed=False)
    assert only([denied, end], 0).broken == end
    assert only([denied, record(10.52, 0.01, allowed=None), end], 0).broken is None
    assert only([denied, record(10.52, 0.01, allowed=True), end], 0).broken is None


def test_a_key_without_a_denial_at_its_place_reports_no_wait():
    assert waits([record(10.0, 0.01, allowed=True, wait=0.0)], 0) == []
    assert waits([record(10.0, 0.01, allowed=False)], 0) == []
    assert waits([record(10.0, 0.01, allowed=False, wait=1.0)], 1) == []
