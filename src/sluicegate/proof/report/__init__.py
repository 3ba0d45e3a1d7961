"""`Report`: the results of every case on one target. The modules in this package write it in each of its formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate.proof.case import Case
from sluicegate.proof.facts import Facts
from sluicegate.proof.verdict import CaseVerdict, Finding


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case and its final finding.

    Attributes:
        case: The case.
        finding: The finding of its last run.
        seconds: The time that all its runs took.
        runs: The number of runs; an undecided case is run again, alone.
    """

    case: Case
    finding: Finding
    seconds: float
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """The results of grading one target.

    Attributes:
        target: The target as the user named it.
        limit: N, units per window.
        window: T, seconds.
        results: One for each case that was chosen, in the order of the cases.
        made_at: The time it was made, ISO 8601 with the offset.
        seconds: The time it took in all.
        versions: The versions it ran on: Python, the servers, this kit.
        facts: Counts of the target's file; None if it is not a file.
        questions: Whether the terminal and the page show the questions to ask; the JSON always has them.
    """

    target: str
    limit: int
    window: float
    results: tuple[CaseResult, ...]
    made_at: str
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    facts: Facts | None = None
    questions: bool = False

    @property
    def counts(self) -> Counter[CaseVerdict]:
        """The number of cases for each verdict."""
        return Counter(result.finding.verdict for result in self.results)

    @property
    def failed(self) -> list[str]:
        """The ids of the cases that failed, in order."""
        return [result.case.id for result in self.results if result.finding.verdict is CaseVerdict.FAILED]

    @property
    def tried(self) -> int:
        """The number of cases that were not skipped."""
        return len(self.results) - self.counts[CaseVerdict.SKIPPED]

    @property
    def exit_code(self) -> int:
        """0: every case that was tried passed. 1: one failed. 3: none failed, but some are undecided or none passed."""
        if self.counts[CaseVerdict.FAILED]:
            return 1
        return 3 if self.counts[CaseVerdict.UNDECIDED] or not self.counts[CaseVerdict.PASSED] else 0
