"""Write a report as plain data, for programs: strict JSON whose names keep their meaning.

``sluicegate-report`` is the version of this format: 1. A number that is not finite is null. The recorded answers are
not included: they are histories, each saved to its own file.

    sluicegate-report   1
    target            the target as the user named it
    limit, window     N units per T seconds
    made_at           ISO 8601 with the offset
    seconds           the time it took in all
    versions          the versions it ran on, by name
    exit_code         0 all passed, 1 one failed, 3 none failed but some are undecided or none passed
    says              a summary in one line
    counts            the number of cases for each verdict: passed, failed, undecided, skipped
    rubric            by line: its verdict (null if no case was run), its counts, the questions to ask,
                      those about failed cases first
    facts             counts of the target's file, or null; names as in `sluicegate.proof.facts.Facts`
    results           one for each case, in order:
        id, sentence, line   as in `sluicegate.proof.case.Case`
        level                "must", or "should": a recommendation
        timed                whether it measures time, so that a busy machine can affect the verdict
        verdict, says        the finding; says is the reason if the case was skipped
        seconds, runs        the time that all its runs took, and their number
        figures              further measurements, by name; the unit is in the name
        growth               null, or of, by, sizes, costs, factor (last cost over first) and linear
        output               the last lines that the target printed
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter

from sluicegate.proof.case import Case
from sluicegate.proof.growth import Growth
from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.report.summary import one_line_summary, summaries
from sluicegate.proof.rubric import QUESTIONS, ordered
from sluicegate.proof.verdict import CaseVerdict

VERSION = 1


def as_data(report: Report) -> dict[str, object]:
    """Return the report as plain data in the format above."""
    rubric = {
        summary.line.value: {
            "verdict": summary.verdict and summary.verdict.value,
            "counts": _counts(summary.counts),
            "questions": [each.text for each, _ in ordered(QUESTIONS[summary.line], report.failed)],
        }
        for summary in summaries(report)
    }
    return {
        "sluicegate-report": VERSION,
        "target": _text(report.target),
        "limit": report.limit,
        "window": report.window,
        "made_at": report.made_at,
        "seconds": report.seconds,
        "versions": {_text(name): _text(version) for name, version in report.versions.items()},
        "exit_code": report.exit_code,
        "says": one_line_summary(report),
        "counts": _counts(report.counts),
        "rubric": rubric,
        "facts": report.facts and _facts(dataclasses.asdict(report.facts)),
        "results": [_result(result) for result in report.results],
    }


def text(report: Report) -> str:
    """Return the report as strict JSON."""
    return json.dumps(as_data(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def case_data(case: Case) -> dict[str, object]:
    """Return the fields of a case that are known before it is run."""
    return {
        "id": case.id,
        "sentence": case.sentence,
        "line": case.line.value,
        "level": "should" if case.should else "must",
        "timed": case.timed,
    }


def _result(result: CaseResult) -> dict[str, object]:
    finding = result.finding
    return case_data(result.case) | {
        "verdict": finding.verdict.value,
        "says": _text(finding.says),
        "seconds": result.seconds,
        "runs": result.runs,
        "figures": {_text(name): _number(figure) for name, figure in finding.figures.items()},
        "growth": finding.growth and _growth(finding.growth),
        "output": _text(finding.output),
    }


def _growth(growth: Growth) -> dict[str, object]:
    return {
        "of": growth.of,
        "by": growth.by,
        "sizes": [_number(size) for size in growth.sizes],
        "costs": [_number(cost) for cost in growth.costs],
        "factor": _number(growth.factor),
        "linear": growth.linear,
    }


def _facts(facts: dict[str, object]) -> dict[str, object]:
    plain = {name: _text(value) if isinstance(value, str) else value for name, value in facts.items()}
    return plain | {"tests": [_text(str(name)) for name in facts["tests"]]}  # type: ignore[attr-defined]


def _counts(counts: Counter[CaseVerdict]) -> dict[str, int]:
    return {verdict.value: counts[verdict] for verdict in CaseVerdict}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(text: str) -> str:
    # Half a surrogate pair is not a character: strict readers reject the whole file.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
