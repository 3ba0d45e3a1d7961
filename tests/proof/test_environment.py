"""The environment of a case: which of its histories come from a store, and so excuse what was slow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proof.single_case import ABILITIES
from sluicegate.proof.environment import Environment, GradeSettings, Survey
from sluicegate.proof.history import History
from sluicegate.proof.target import Target, service

IN_MEMORY = Target("a.py:A", {"file": "a.py", "name": "A"})


@pytest.mark.parametrize(
    ("target", "takes_redis", "remote"),
    [(IN_MEMORY, False, False), (IN_MEMORY, True, True), (service("http://127.0.0.1:1/{key}"), False, True)],
    ids=["memory", "redis", "service"],
)
def test_the_answers_of_a_store_or_a_service_are_saved_as_such(
    tmp_path: Path, target: Target, *, takes_redis: bool, remote: bool
):
    survey = Survey(replace(ABILITIES, takes_redis=takes_redis), frozenset())
    with Environment("correctness/limit/exact", target, survey, GradeSettings(save=tmp_path)) as env:
        assert env.history().remote is remote
    [saved] = tmp_path.iterdir()
    assert History.load(saved).remote is remote
