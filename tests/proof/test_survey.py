"""What the kit finds out about a target before it runs a case: what it limits, and whether it has a manual clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from proof.targets import written
from sluicegate.proof import grading
from sluicegate.proof.cases import cases
from sluicegate.proof.environment import GradeSettings, Survey
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.target import Target

_LENDS = """
    import time
    class Limiter:
        def __init__(self, limit, ttl_seconds):
            self.left, self.ends = limit, []
            self.ttl = ttl_seconds
        def acquire(self, user_id):
            now = time.monotonic()
            self.left += sum(end <= now for end in self.ends)
            self.ends = [end for end in self.ends if end > now]
            if not self.left:
                return None
            self.left -= 1
            self.ends.append(now + self.ttl)
            return object()
    """

_ALLOWS = """
    import time
    class Limiter:
        def __init__(self, limit, window_seconds):
            self.limit, self.window, self.log = limit, window_seconds, []
        def allow(self, user_id):
            {first}
            now = time.monotonic()
            self.log = [at for at in self.log if at > now - self.window]
            if len(self.log) >= self.limit:
                return False
            self.log.append(now)
            return True
        def acquire(self, user_id): ...
    """


def reasons_without(kind: Requirement, seen: Survey, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return why the cases that require it are skipped, all of them, on a target of which so much is known."""
    monkeypatch.setattr(grading, "survey", lambda *_: seen)
    chosen = [case for case in cases() if kind in case.requires]
    report = grading.grade(Target("target", {}), GradeSettings(), chosen)
    assert {result.runs for result in report.results} == {0}
    return {result.finding.says for result in report.results}


def test_a_target_that_has_acquire_and_no_allow_lends_permits_and_is_graded_for_leases_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = grading.survey(written(tmp_path, _LENDS), GradeSettings())
    assert seen.abilities.acquire
    assert {Requirement.LEASES, Requirement.MANUAL_CLOCK} <= seen.met
    says = "the target lends permits and has no allow(user_id)"
    assert reasons_without(Requirement.RATE, seen, monkeypatch) == {says}


def test_a_target_that_has_allow_limits_a_rate_and_is_not_graded_for_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = grading.survey(written(tmp_path, _ALLOWS.format(first="pass")), GradeSettings())
    assert {Requirement.RATE, Requirement.MANUAL_CLOCK} <= seen.met
    says = "the target has no acquire(user_id): it limits a rate, not concurrent calls"
    assert reasons_without(Requirement.LEASES, seen, monkeypatch) == {says}


def test_a_target_that_sleeps_in_allow_is_given_no_manual_clock(tmp_path: Path):
    seen = grading.survey(written(tmp_path, _ALLOWS.format(first="time.sleep(0.001)")), GradeSettings())
    assert Requirement.RATE in seen.met
    assert Requirement.MANUAL_CLOCK not in seen.met


def test_every_case_is_one_on_rates_or_one_on_leases():
    for case in cases():
        assert len({Requirement.RATE, Requirement.LEASES} & case.requires) == 1, case.id
