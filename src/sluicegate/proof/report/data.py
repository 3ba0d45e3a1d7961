"""A report as plain data, for programs: strict JSON, whose names keep their meaning.

``sluicegate-report`` is the version of this form: 1. A number that is not finite is null. The answers that a case
recorded are not in it: they are histories, saved each to a file of its own.

    sluicegate-report   1
    target            as it was named
    limit, window     N units per T seconds
    made_at           ISO 8601 with the offset
    seconds           how long it took in all
    versions          what it ran on, by name
    exit_code         0 all passed, 1 one failed, 3 none failed but some stayed undecided, or none passed
    says              all of it in one line
    counts            how many cases found each verdict: passed, failed, undecided, skipped
    rubric            by line: its verdict (null: no case was run), its counts, the questions to ask
    facts             of the target's file, or null; names as in `sluicegate.proof.facts.Facts`
    results           one for each case, in order:
        id, sentence, line   as in `sluicegate.proof.case.Case`
        level                "must", or "should": a recommendation
        timed                whether it measures time, so that a busy machine may speak in what it found
        verdict, says        what it found; says is the reason where it was skipped
        seconds, runs        how long all its runs took, and how many there were
        figures              what was measured beside, by name; the unit is in the name
        growth               null, or of, by, sizes, costs, factor (last cost over first) and linear
        output               the last lines of what the target printed
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter

from sluicegate.proof.case import Case
from sluicegate.proof.growth import Growth
from sluicegate.proof.report import Report, Result
from sluicegate.proof.report.summary import in_a_line, summaries
from sluicegate.proof.rubric import QUESTIONS
from sluicegate.proof.verdict import Verdict

VERSION = 1


def as_data(report: Report) -> dict[str, object]:
    """Return the report in the form of the module's description."""
    rubric = {
        summary.line.value: {
            "verdict": summary.verdict and summary.verdict.value,
            "counts": _counts(summary.counts),
            "questions": list(QUESTIONS[summary.line]),
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
        "says": in_a_line(report),
        "counts": _counts(report.counts),
        "rubric": rubric,
        "facts": report.facts and _facts(dataclasses.asdict(report.facts)),
        "results": [_result(result) for result in report.results],
    }


def text(report: Report) -> str:
    """Return the report as a text of strict JSON."""
    return json.dumps(as_data(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def case_data(case: Case) -> dict[str, object]:
    """Return what there is to say of a case before it is run."""
    return {
        "id": case.id,
        "sentence": case.sentence,
        "line": case.line.value,
        "level": "should" if case.should else "must",
        "timed": case.timed,
    }


def _result(result: Result) -> dict[str, object]:
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


def _counts(counts: Counter[Verdict]) -> dict[str, int]:
    return {verdict.value: counts[verdict] for verdict in Verdict}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(text: str) -> str:
    # Half a surrogate pair is no character: strict readers refuse the whole file.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
