"""The four verdicts, and what a case found: a verdict with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sluicegate.proof.growth import Growth
from sluicegate.proof.history import History, Record


class Verdict(StrEnum):
    """What can be said of a limiter by one case. Only `PASSED` is praise: where evidence is weak it is `UNDECIDED`."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


class Decided(Exception):
    """A case is decided before its end: raised with what it found."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.says)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Finding:
    """What one run of a case found.

    Attributes:
        verdict: What it comes to.
        says: What was seen and what was expected of it, in a sentence or two, with figures.
        history: The answers that show it, where there are any: what the report draws.
        at: The record that shows it best, one of ``history``; the report draws the window that ends with it.
        growth: How time or memory grew, where the case measures that; the report draws it.
        figures: What was measured beside, by name; the unit is in the name.
        output: What the target had printed, its last lines, where that explains a failure.
    """

    verdict: Verdict
    says: str
    history: History | None = None
    at: Record | None = None
    growth: Growth | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    output: str = ""
