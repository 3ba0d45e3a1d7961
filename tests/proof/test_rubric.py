"""The questions of the rubric, and which are asked first."""

from __future__ import annotations

import pytest

from sluicegate.proof.cases import cases
from sluicegate.proof.rubric import QUESTIONS, RubricLine, ordered


@pytest.mark.parametrize("question", [each for questions in QUESTIONS.values() for each in questions], ids=str)
def test_a_question_is_about_cases_that_exist(question):
    assert all(
        any(case.id == prefix or case.id.startswith(f"{prefix}/") for case in cases()) for prefix in question.about
    )


def test_questions_about_failed_cases_come_first_with_their_ids():
    failed = ["correctness/denied/free", "correctness/denied/other", "correctness/deniedness/x"]
    found = ordered(QUESTIONS[RubricLine.CORRECTNESS], failed)
    assert [(question.text[:6], ids) for question, ids in found] == [
        ("I send", failed[:2]),
        ("Which ", []),
        ("Why is", []),
    ]
