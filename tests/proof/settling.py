"""What a grading comes to on a machine that others load: where that may be to blame, a case is graded again by itself.

A failure is not looked at twice unless it rests on how long something took: any other one is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sluicegate.proof.case import Case
from sluicegate.proof.report import Report
from sluicegate.proof.verdict import Finding, Verdict

TIMES = 3


def settled(report: Report, again: Callable[[Sequence[Case]], Report], but: Collection[str] = ()) -> dict[str, Finding]:
    """Return the finding of each case by its id, the last of up to three; those in ``but`` are left as they are."""
    results = {result.case.id: result for result in report.results}
    for _ in range(TIMES - 1):
        doubtful = [each.case for id_, each in results.items() if id_ not in but and _doubtful(each.case, each.finding)]
        if not doubtful:
            break
        results |= {each.case.id: each for each in again(doubtful).results}
    return {id_: each.finding for id_, each in results.items()}


def having(verdict: Verdict, findings: dict[str, Finding]) -> dict[str, str]:
    """Return what those findings say that have a verdict, by the ids of their cases."""
    return {id_: finding.says for id_, finding in findings.items() if finding.verdict is verdict}


def _doubtful(case: Case, finding: Finding) -> bool:
    return finding.verdict is Verdict.UNDECIDED or (case.timed and finding.verdict is Verdict.FAILED)
