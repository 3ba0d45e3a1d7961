"""Grade doubtful cases again, by themselves, for tests that run on a busy machine.

A case is doubtful if it is undecided, or if it failed and measures time. Any other failure is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sluicegate.proof.case import Case
from sluicegate.proof.report import Report
from sluicegate.proof.verdict import CaseVerdict, Finding

TIMES = 3


def regraded(
    report: Report, again: Callable[[Sequence[Case]], Report], but: Collection[str] = ()
) -> dict[str, Finding]:
    """Return the finding of each case by its id, after up to three gradings; cases in ``but`` are graded only once."""
    results = {result.case.id: result for result in report.results}
    for _ in range(TIMES - 1):
        doubtful = [each.case for id_, each in results.items() if id_ not in but and _doubtful(each.case, each.finding)]
        if not doubtful:
            break
        results |= {each.case.id: each for each in again(doubtful).results}
    return {id_: each.finding for id_, each in results.items()}


def with_verdict(verdict: CaseVerdict, findings: dict[str, Finding]) -> dict[str, str]:
    """Return the texts of the findings with that verdict, by the ids of their cases."""
    return {id_: finding.says for id_, finding in findings.items() if finding.verdict is verdict}


def _doubtful(case: Case, finding: Finding) -> bool:
    return finding.verdict is CaseVerdict.UNDECIDED or (case.timed and finding.verdict is CaseVerdict.FAILED)
