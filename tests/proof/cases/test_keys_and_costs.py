"""Cases on keys and costs: what a limiter may refuse, and which limiters may share what they count."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import pytest

from proof.single_case import found
from proof.targets import written
from sluicegate.proof.environment import Environment
from sluicegate.proof.verdict import CaseVerdict, Finding


@pytest.fixture
def moved_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give workers a manual clock, so that no case waits."""
    monkeypatch.setattr(Environment, "worker", partialmethod(Environment.worker, clock="manual"))


_REFUSES = """
    class Limiter:
        def __init__(self, limit, window):
            self.left, self.limit = {{}}, limit
        def allow(self, user_id):
            if {refused}:
                raise ValueError(f"invalid id: {{user_id!r}}")
            self.left[{counted}] = self.left.get({counted}, self.limit) - 1
            return self.left[{counted}] >= 0
    """


def refusing(folder: Path, refused: str, counted: str = "user_id") -> Finding:
    """Return the finding on a limiter that raises for some ids, and counts by what it makes of the others."""
    return found("correctness/keys/apart", written(folder, _REFUSES.format(refused=refused, counted=counted)))


@pytest.mark.usefixtures("moved_by_hand")
def test_a_limiter_that_refuses_most_ids_is_undecided_and_the_finding_says_why(tmp_path: Path):
    finding = refusing(tmp_path, "not user_id.replace('-', '').isalnum()")
    assert finding.verdict is CaseVerdict.UNDECIDED
    assert "ids were rejected, too many to tell whether users share a limit: ValueError: invalid id: " in finding.says


@pytest.mark.usefixtures("moved_by_hand")
def test_a_limiter_that_refuses_a_few_ids_fails_if_others_share_a_limit(tmp_path: Path):
    finding = refusing(tmp_path, "len(user_id) > 200", counted="user_id.lower()")
    assert finding.verdict is CaseVerdict.FAILED
    assert "was denied though its window held at most" in finding.says


@pytest.mark.slow
def test_a_limiter_that_refuses_a_few_ids_passes(tmp_path: Path):
    finding = refusing(tmp_path, "len(user_id) > 200")
    assert finding.verdict is CaseVerdict.PASSED, finding.says
    assert finding.says.endswith("each with its own limit; 4 of them were rejected")


_STRICT = """
    class Limiter:
        def __init__(self, limit, window):
            self.limit = self.left = limit
        def allow(self, user_id, cost=1):
            if cost > {most}:
                self.left -= {taken}
                raise ValueError("cost must not be above the limit")
            if cost > self.left:
                return False
            self.left -= cost
            return True
    """


@pytest.mark.parametrize(
    ("most", "taken", "verdict"),
    [
        ("self.limit", 0, CaseVerdict.PASSED),
        ("self.limit", 1, CaseVerdict.FAILED),
        ("4", 0, CaseVerdict.FAILED),
    ],
    ids=["raises", "raises and charges", "raises for a cost that fits"],
)
def test_a_cost_above_the_limit_may_raise(tmp_path: Path, most: str, taken: int, verdict: CaseVerdict):
    finding = found("correctness/cost/above-limit", written(tmp_path, _STRICT.format(most=most, taken=taken)))
    assert finding.verdict is verdict, finding.says


_COUNTS = """
    import json, pathlib
    class Limiter:
        of_all = {{}}
        def __init__(self, limit, window):
            self.limit = limit
        def allow(self, user_id):
            {count}
            return counts[user_id] <= self.limit
    """
_IN_FILE = """file = pathlib.Path({path!r})
            counts = json.loads(file.read_text()) if file.exists() else {{}}
            counts[user_id] = counts.get(user_id, 0) + 1
            file.write_text(json.dumps(counts))"""
_IN_CLASS = """counts = self.of_all
            counts[user_id] = counts.get(user_id, 0) + 1"""


def test_limiters_may_share_what_they_count_in_a_file_that_other_processes_read(tmp_path: Path):
    in_file = _COUNTS.format(count=_IN_FILE.format(path=str(tmp_path / "counts.json")))
    finding = found("correctness/limiters/apart", written(tmp_path, in_file))
    assert finding.verdict is CaseVerdict.SKIPPED
    assert finding.says == "the target counts outside of its process, so its limiters may share a limit"


def test_limiters_must_not_share_what_they_count_in_their_process(tmp_path: Path):
    in_class = written(tmp_path, _COUNTS.format(count=_IN_CLASS))
    assert found("correctness/limiters/apart", in_class).verdict is CaseVerdict.FAILED
