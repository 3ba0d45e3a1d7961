"""A target that hangs: its sections end after two cases in a row, so that it costs a minute and not ten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from proof import targets
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import choose, grade
from sluicegate.proof.hangs import Hangs
from sluicegate.proof.verdict import CaseVerdict

CORRECTNESS = choose(["correctness"])
CONCURRENCY = choose(["concurrency"])


def begun(hangs: Hangs, case) -> None:
    assert hangs.why_not(case) == ""


def test_a_section_ends_after_two_hangs_in_a_row_and_the_others_go_on():
    hangs = Hangs([*CORRECTNESS[:5], *CONCURRENCY[:3]])
    for case in CORRECTNESS[:2]:
        begun(hangs, case)
        hangs.ran(case, hung=True)
    said = "2 cases hung, so the remaining 3 cases of correctness were not run"
    assert [hangs.why_not(case) for case in CORRECTNESS[2:5]] == [said] * 3
    begun(hangs, CONCURRENCY[0])


def test_a_target_that_has_only_hung_ends_the_next_section_after_one_case():
    hangs = Hangs([*CORRECTNESS[:3], *CONCURRENCY[:3]])
    for case in (*CORRECTNESS[:2], CONCURRENCY[0]):
        begun(hangs, case)
        hangs.ran(case, hung=True)
    assert hangs.why_not(CONCURRENCY[1]) == "1 case hung, so the remaining 2 cases of concurrency were not run"

    answers = Hangs([*CORRECTNESS[:4], *CONCURRENCY[:3]])
    for case, hung in zip((*CORRECTNESS[:3], CONCURRENCY[0]), (False, True, True, True), strict=True):
        begun(answers, case)
        answers.ran(case, hung=hung)
    begun(answers, CONCURRENCY[1])


def test_a_case_between_two_hangs_that_does_not_hang_keeps_the_section_going():
    hangs = Hangs(CORRECTNESS)
    for case, hung in zip(CORRECTNESS, (True, False, True, False), strict=False):
        begun(hangs, case)
        hangs.ran(case, hung=hung)
    begun(hangs, CORRECTNESS[4])
    hangs.ran(CORRECTNESS[4], hung=True)
    hangs.ran(CORRECTNESS[5], hung=True)
    assert hangs.why_not(CORRECTNESS[6])


def test_the_last_case_of_a_section_is_told_in_the_singular():
    hangs = Hangs(CORRECTNESS[:3])
    for case in CORRECTNESS[:2]:
        begun(hangs, case)
        hangs.ran(case, hung=True)
    assert hangs.why_not(CORRECTNESS[2]) == "2 cases hung, so the last case of correctness was not run"


def test_hangs_are_seen_from_the_first_on():
    hangs = Hangs(CORRECTNESS)
    assert not hangs.any
    hangs.ran(CORRECTNESS[0], hung=False)
    assert not hangs.any
    hangs.ran(CORRECTNESS[0], hung=True)
    hangs.ran(CORRECTNESS[0], hung=False)
    assert hangs.any


@pytest.mark.slow
def test_a_target_that_hangs_is_not_tried_in_every_case(tmp_path: Path):
    hangs = targets.written(
        tmp_path,
        """
        import threading

        class Limiter:
            def __init__(self, limit, window_seconds): ...

            def allow(self, user_id):
                if not user_id.startswith("survey"):
                    threading.Event().wait()
                return True
        """,
    )
    report = grade(hangs, GradeSettings(window=0.2, patience=2), choose(["correctness", "concurrency"]))
    failed = [result for result in report.results if result.finding.verdict is CaseVerdict.FAILED]
    assert all("the target hung in allow() at target.py, line 9" in result.finding.says for result in failed)
    sections = Counter(result.case.section for result in failed)
    assert 2 <= sections["correctness"] <= 8 and 1 <= sections["concurrency"] <= 6  # six at a time were running
    not_run = [result for result in report.results if " hung, so the " in result.finding.says]
    for section in ("correctness", "concurrency"):
        reasons = [result.finding.says for result in not_run if result.case.section == section]
        assert reasons
        assert {says.partition(" hung, so ")[2] for says in reasons} == {
            f"the remaining {len(reasons)} cases of {section} were not run"
        }
    assert report.exit_code == 1
