"""Summarise a report: the rubric line by line, and the whole report in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.text import counted
from sluicegate.proof.verdict import CaseVerdict

BY_SEVERITY = (CaseVerdict.FAILED, CaseVerdict.UNDECIDED, CaseVerdict.PASSED, CaseVerdict.SKIPPED)

JUDGED_BY_PEOPLE = frozenset({RubricLine.QUALITY, RubricLine.COMMUNICATION})

SYMBOLS = {CaseVerdict.PASSED: "✓", CaseVerdict.FAILED: "✗", CaseVerdict.UNDECIDED: "?", CaseVerdict.SKIPPED: "○"}

MEANINGS = {
    CaseVerdict.PASSED: "the case would have shown the fault, and did not",
    CaseVerdict.FAILED: "the fault was seen; no delay can explain it, except in cases that measure time, marked timed",
    CaseVerdict.UNDECIDED: "the evidence is too weak for either verdict",
    CaseVerdict.SKIPPED: "the case does not apply to this target, which is not a fault",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """The results for one line of the rubric.

    Attributes:
        line: The line.
        results: The results of its cases, the worst first.
    """

    line: RubricLine
    results: tuple[CaseResult, ...]

    @property
    def counts(self) -> Counter[CaseVerdict]:
        """The number of its cases for each verdict."""
        return Counter(result.finding.verdict for result in self.results)

    @property
    def verdict(self) -> CaseVerdict | None:
        """The worst verdict of its cases; None if none was run."""
        return next((verdict for verdict in BY_SEVERITY if self.counts[verdict]), None)

    @property
    def says(self) -> str:
        """The number of cases for each verdict, in words; or that a person judges the line, or that no case was run."""
        found = [f"{self.counts[verdict]} {verdict}" for verdict in BY_SEVERITY if self.counts[verdict]]
        return ", ".join(found) or ("for a person to judge" if self.line in JUDGED_BY_PEOPLE else "no case was run")


def summaries(report: Report) -> list[Summary]:
    """Return a summary for every line of the rubric, in order."""
    return [Summary(line, _by_severity(r for r in report.results if r.case.line is line)) for line in RubricLine]


def by_reason(results: tuple[CaseResult, ...]) -> dict[str, list[CaseResult]]:
    """Return the skipped results, grouped by their reason."""
    found: dict[str, list[CaseResult]] = {}
    for result in results:
        if result.finding.verdict is CaseVerdict.SKIPPED:
            found.setdefault(result.finding.says, []).append(result)
    return found


def one_line_summary(report: Report) -> str:
    """Return the report in one line: ``failed: 3 of 35 cases; undecided: 1; skipped: 6`` (35 were tried)."""
    if not report.results:
        return "no case was run"
    counts = report.counts
    worst = next((verdict for verdict in BY_SEVERITY[:-1] if counts[verdict]), None)
    first = f"{worst}: {counts[worst]} of {counted(report.tried, 'case')}" if worst else "nothing could be tried"
    rest = (
        verdict for verdict in (CaseVerdict.UNDECIDED, CaseVerdict.SKIPPED) if counts[verdict] and verdict is not worst
    )
    return "; ".join([first, *(f"{verdict}: {counts[verdict]}" for verdict in rest)])


def _by_severity(results: Iterable[CaseResult]) -> tuple[CaseResult, ...]:
    return tuple(sorted(results, key=lambda result: BY_SEVERITY.index(result.finding.verdict)))
