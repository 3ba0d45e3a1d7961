"""A decision that a limiter makes is the same value as one that is built by its name."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest

from sluicegate import Decision
from sluicegate._core.decision import NEVER, Verdict, decision_of, verdict_of

MADE = decision_of(("a",), (5,), [Verdict(False, 0, 1_500_000, 2_000_000)])
BUILT = Decision(False, "a", 5, 0, 1.5, 2.0)


def test_it_is_equal_to_one_that_is_built_by_its_name():
    assert type(MADE) is Decision
    assert (MADE, hash(MADE), repr(MADE)) == (BUILT, hash(BUILT), repr(BUILT))
    assert MADE.decisions == (BUILT,)


def test_it_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MADE.allowed = True
    with pytest.raises((AttributeError, TypeError)):
        MADE.other = 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_of_it_is_equal_to_it(copied):
    several = decision_of(("a", "b"), (5, 6), [Verdict(True, 4, 0, 1), Verdict(True, 2, 0, 1)])
    for made in (MADE, several):
        assert copied(made) == made
        assert copied(made).decisions == made.decisions


def test_a_field_of_it_can_be_replaced():
    assert dataclasses.replace(MADE, source="fallback") == dataclasses.replace(BUILT, source="fallback")
    assert [field.name for field in dataclasses.fields(MADE)] == [field.name for field in dataclasses.fields(BUILT)]


def test_a_wait_that_never_ends_is_infinite():
    assert decision_of(("a",), (5,), [Verdict(False, 5, NEVER, 0)]).retry_after == math.inf


def test_a_verdict_of_its_numbers_is_the_one_of_its_name():
    assert verdict_of((True, 4, 0, 7)) == Verdict(True, 4, 0, 7)
    assert verdict_of((True, 4, 0, 7)).reset_after_us == 7
    assert type(verdict_of((True, 4, 0, 7))) is Verdict
