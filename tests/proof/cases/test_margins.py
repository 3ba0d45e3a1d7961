"""The margins of cases: the unit that a wait is rounded to, and by how much a decision must have become slower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, repeat

import pytest

from sluicegate.proof.cases.honesty import _resolution
from sluicegate.proof.cases.performance import _grown
from sluicegate.proof.verdict import CaseVerdict, Finding


@pytest.mark.parametrize(
    ("waits", "http", "seconds"),
    [
        ([1.0, 3.0, math.inf], False, 1.0),
        ([1.0, 2.9, 0.3], False, 0.1),
        ([1.0, 2.95], False, 0.001),
        ([0.1 + 0.2, 0.7], False, 0.1),  # 0.30000000000000004
        ([1.0, 3.0], True, 2.0),  # whole seconds, which may be those of a date
        ([1.0, 2.9], True, 2.0),  # a date, and the clock of this host
    ],
)
def test_a_wait_may_be_too_long_by_the_unit_that_all_of_them_are_rounded_to(
    waits: Sequence[float], *, http: bool, seconds: float
):
    assert _resolution(waits, http=http) == seconds


SIZES = (10, 100, 1000, 8000)


def judged(slope: float, again: float, least: float) -> Finding:
    """Return the finding on decisions that take ``slope`` µs for each of the size; ``again`` when measured again."""
    slopes = chain([slope] * len(SIZES), repeat(again))
    return _grown("limit", SIZES, lambda size: 0.3 + next(slopes) * size, least=least)


@pytest.mark.parametrize(
    ("slope", "again", "least", "verdict"),
    [
        (0.002, 0.002, 20, CaseVerdict.PASSED),  # 16 µs: a cache that overflows
        (0.003, 0.003, 20, CaseVerdict.FAILED),
        (0.003, 0.002, 20, CaseVerdict.UNDECIDED),
        (0.3, 0.3, 3000, CaseVerdict.PASSED),
        (0.4, 0.4, 3000, CaseVerdict.FAILED),
    ],
)
def test_a_decision_that_becomes_slower_by_a_few_microseconds_is_no_failure(
    slope: float, again: float, least: float, verdict: CaseVerdict
):
    finding = judged(slope, again, least)
    assert finding.verdict is verdict
    assert finding.growth is not None
    assert finding.growth.linear
