"""The report as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import demo_report

from sluicegate.proof.growth import Growth
from sluicegate.proof.report.data import as_data
from sluicegate.proof.verdict import CaseVerdict, Finding

REPORT = demo_report.demo()


def with_finding(finding: Finding) -> dict:
    report = replace(REPORT, results=(replace(REPORT.results[0], finding=finding),))
    return json.loads(json.dumps(as_data(report), allow_nan=False))["results"][0]


def test_every_case_appears_once_in_order():
    data = as_data(REPORT)
    assert [found["id"] for found in data["results"]] == [result.case.id for result in REPORT.results]
    assert data["counts"] == {"passed": 5, "failed": 4, "undecided": 1, "skipped": 6}
    assert data["exit_code"] == 1


def test_a_result_has_its_level_its_runs_and_no_history():
    found = {result["id"]: result for result in as_data(REPORT)["results"]}
    assert found["correctness/cost/whole"]["level"] == "should"
    assert found["correctness/denial/room"]["level"] == "must"
    assert found["correctness/denial/room"]["runs"] == 2
    assert found["performance/time/keys"]["timed"] and not found["correctness/denial/room"]["timed"]
    assert set(found["correctness/denial/room"]) == {
        "id", "sentence", "line", "level", "timed", "verdict", "says", "seconds", "runs", "figures", "growth", "output",
    }  # fmt: skip


def test_a_number_that_is_not_finite_is_null():
    growth = Growth("bytes", "keys", (1, 2, 3), (0, 1, 2))
    found = with_finding(
        Finding(CaseVerdict.PASSED, "", growth=growth, figures={"a": math.inf, "b": math.nan, "c": 1.5})
    )
    assert found["figures"] == {"a": None, "b": None, "c": 1.5}
    assert found["growth"]["factor"] is None


def test_half_a_surrogate_pair_does_not_break_strict_readers():
    found = with_finding(Finding(CaseVerdict.FAILED, "key \udc80"))
    assert found["says"] == "key \\udc80"


def test_lines_of_the_rubric_have_their_questions():
    rubric = as_data(REPORT)["rubric"]
    assert list(rubric) == ["correctness", "concurrency", "performance", "resilience", "code quality", "communication"]
    assert rubric["performance"]["verdict"] == "failed"
    assert rubric["communication"]["verdict"] is None
    assert rubric["communication"]["questions"]


def test_facts_keep_their_names():
    assert as_data(REPORT)["facts"]["longest"] == "allow"
    assert as_data(replace(REPORT, facts=None))["facts"] is None
