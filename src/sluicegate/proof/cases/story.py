"""A story: calls made one after the other, each of which has only one right answer, whatever happens between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluicegate.proof.cases.evidence import failure_if_raised, unless_stalled
from sluicegate.proof.history import History
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import ScenarioResult, Step


class Part(NamedTuple):
    """Steps of a story, and the answers that they must get.

    Attributes:
        steps: The steps.
        answers: A letter for each answer: a for allowed, d for denied. What only ends something gets no answer.
    """

    steps: Sequence[Step]
    answers: str = ""


def steps_of(parts: Sequence[Part]) -> list[Step]:
    """Return the steps of a story, for one client."""
    return [step for part in parts for step in part.steps]


def compared(history: History, result: ScenarioResult, parts: Sequence[Part], says: str) -> Finding:
    """Compare each answer with the only right one.

    Args:
        history: The answers, in the order of the calls.
        result: The result that the history was made from.
        parts: The story.
        says: What is right, in a sentence.
    """
    answers = "".join(part.answers for part in parts)
    raised = failure_if_raised(result)
    if raised:
        return raised
    if len(history.records) < len(answers):
        return Finding(CaseVerdict.UNDECIDED, "the target took too long: some calls were not made", history)
    for record, answer in zip(history.records, answers, strict=True):
        if record.allowed is not (answer == "a"):
            word = "denied" if answer == "a" else "allowed"
            finding = Finding(CaseVerdict.FAILED, f"expected: {says}. But a request was {word}", history, record)
            return unless_stalled(finding, result)
    return Finding(CaseVerdict.PASSED, says, history, history.records[-1])
