"""Grade undecided cases again, by themselves, for tests that run on a busy machine. A failure is certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluicegate.proof.case import Case
from sluicegate.proof.report import Report
from sluicegate.proof.verdict import CaseVerdict, Finding

TIMES = 3


def regraded(report: Report, again: Callable[[Sequence[Case]], Report]) -> dict[str, Finding]:
    """Return the finding of each case by its id, after up to three gradings."""
    results = {result.case.id: result for result in report.results}
    for _ in range(TIMES - 1):
        undecided = [each.case for each in results.values() if each.finding.verdict is CaseVerdict.UNDECIDED]
        if not undecided:
            break
        results |= {each.case.id: each for each in again(undecided).results}
    return {id_: each.finding for id_, each in results.items()}


def with_verdict(verdict: CaseVerdict, findings: dict[str, Finding]) -> dict[str, str]:
    """Return the texts of the findings with that verdict, by the ids of their cases."""
    return {id_: finding.says for id_, finding in findings.items() if finding.verdict is verdict}
