"""What a report comes to: the rubric line by line, and all of it in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sluicegate.proof.report import Report, Result
from sluicegate.proof.report.text import counted
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Verdict

GRAVEST = (Verdict.FAILED, Verdict.UNDECIDED, Verdict.PASSED, Verdict.SKIPPED)

PERSONS = frozenset({Line.QUALITY, Line.COMMUNICATION})

SYMBOLS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.UNDECIDED: "?", Verdict.SKIPPED: "○"}

MEANS = {
    Verdict.PASSED: "the case would have shown the fault, and did not",
    Verdict.FAILED: (
        "the fault was seen; certain whatever the delays were, but for cases that measure time, marked timed"
    ),
    Verdict.UNDECIDED: "the evidence is too weak to say either",
    Verdict.SKIPPED: "the case does not apply to this target; nothing is held against it",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the rubric.

    Attributes:
        line: Which.
        results: Of its cases, the gravest first.
    """

    line: Line
    results: tuple[Result, ...]

    @property
    def counts(self) -> Counter[Verdict]:
        """How many of its cases found each verdict."""
        return Counter(result.finding.verdict for result in self.results)

    @property
    def verdict(self) -> Verdict | None:
        """The gravest verdict of its cases; None where none was run."""
        return next((verdict for verdict in GRAVEST if self.counts[verdict]), None)

    @property
    def says(self) -> str:
        """How many cases found what; without any, whose the line is to judge."""
        found = [f"{self.counts[verdict]} {verdict}" for verdict in GRAVEST if self.counts[verdict]]
        return ", ".join(found) or ("for a person to judge" if self.line in PERSONS else "no case was run")


def summaries(report: Report) -> list[Summary]:
    """Return every line of the rubric, in its order."""
    return [Summary(line, _gravest_first(r for r in report.results if r.case.line is line)) for line in Line]


def by_reason(results: tuple[Result, ...]) -> dict[str, list[Result]]:
    """Return the skipped ones of these results by their reason."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.finding.verdict is Verdict.SKIPPED:
            found.setdefault(result.finding.says, []).append(result)
    return found


def in_a_line(report: Report) -> str:
    """Say all of it: ``failed: 3 of 35 cases; undecided: 1; skipped: 6``. The 35 are those that were tried."""
    if not report.results:
        return "no case was run"
    counts = report.counts
    worst = next((verdict for verdict in GRAVEST[:-1] if counts[verdict]), None)
    first = f"{worst}: {counts[worst]} of {counted(report.tried, 'case')}" if worst else "nothing could be tried"
    rest = (verdict for verdict in (Verdict.UNDECIDED, Verdict.SKIPPED) if counts[verdict] and verdict is not worst)
    return "; ".join([first, *(f"{verdict}: {counts[verdict]}" for verdict in rest)])


def _gravest_first(results: Iterable[Result]) -> tuple[Result, ...]:
    return tuple(sorted(results, key=lambda result: GRAVEST.index(result.finding.verdict)))
