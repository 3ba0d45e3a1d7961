"""`CaseVerdict`, the four verdicts; and `Finding`, a verdict with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sluicegate.proof.growth import Growth
from sluicegate.proof.history import History, Record


class CaseVerdict(StrEnum):
    """The verdict of one case on a limiter. Weak evidence is `UNDECIDED`, never `PASSED`."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


class EndCase(Exception):
    """Raise it to end a case early with a finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.says)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one run of a case.

    Attributes:
        verdict: The verdict.
        says: What was seen and what was expected, in a sentence or two, with figures.
        history: The recorded answers that show it, if any; the report draws them.
        at: The record that shows it best, one of ``history``; the report draws the window that ends with it.
        growth: How time or memory grew, if the case measures that; the report draws it.
        figures: Further measurements, by name; the unit is in the name.
        output: The last lines that the target printed, if they explain a failure.
    """

    verdict: CaseVerdict
    says: str
    history: History | None = None
    at: Record | None = None
    growth: Growth | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    output: str = ""
