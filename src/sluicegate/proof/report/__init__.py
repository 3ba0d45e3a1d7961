"""A report: what every case found, and what else there is to say of a target. Its forms are in the files beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate.proof.case import Case
from sluicegate.proof.facts import Facts
from sluicegate.proof.verdict import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Result:
    """One case, and what it found in the end.

    Attributes:
        case: Which.
        finding: What the last run of it found.
        seconds: How long all its runs took.
        runs: How often it was run: an undecided case is run again, alone.
    """

    case: Case
    finding: Finding
    seconds: float
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one target.

    Attributes:
        target: As it was named.
        limit: N, units per window.
        window: T, seconds.
        results: One for each case that was asked for, in the order of the cases.
        made_at: When, ISO 8601 with the offset.
        seconds: How long it took in all.
        versions: What it ran on: Python, the servers, this kit.
        facts: Of the target's file, where it is one.
        questions: Whether those that read it see the questions to ask, too; programs always do.
    """

    target: str
    limit: int
    window: float
    results: tuple[Result, ...]
    made_at: str
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    facts: Facts | None = None
    questions: bool = False

    @property
    def counts(self) -> Counter[Verdict]:
        """How many cases found each verdict."""
        return Counter(result.finding.verdict for result in self.results)

    @property
    def tried(self) -> int:
        """How many cases were not skipped."""
        return len(self.results) - self.counts[Verdict.SKIPPED]

    @property
    def exit_code(self) -> int:
        """0 every case that was tried passed, 1 one failed, 3 none failed but some stayed undecided, or none passed."""
        if self.counts[Verdict.FAILED]:
            return 1
        return 3 if self.counts[Verdict.UNDECIDED] or not self.counts[Verdict.PASSED] else 0
