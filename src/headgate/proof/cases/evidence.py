"""From answers to findings: what the cases have in common."""

from __future__ import annotations

from collections.abc import Iterable

from headgate.proof.crew import Played
from headgate.proof.history import History, Record
from headgate.proof.judge import never_over, never_under, owed, spans
from headgate.proof.verdict import Finding, Verdict

_ORDER = (Verdict.FAILED, Verdict.UNDECIDED, Verdict.PASSED)


def worst(*findings: Finding) -> Finding:
    """Return the finding that says most against the target; the first of several that say as much."""
    return min(findings, key=lambda finding: _ORDER.index(finding.verdict))


def raised(*played: Played) -> Finding | None:
    """Return a failure if any call raised."""
    errors = [error for each in played for error in each.errors]
    return Finding(Verdict.FAILED, f"a call raised {errors[0]}") if errors else None


def kept(history: History, *played: Played) -> Finding:
    """Find whether the limit was kept, never over and never under, and no call raised."""
    return worst(kept_below(history, *played), never_under(history))


def kept_below(history: History, *played: Played) -> Finding:
    """Find whether the limit was never exceeded though it was pressed on, and no call raised."""
    failure = raised(*played)
    if failure:
        return failure
    finding = never_over(history)
    fullest = max((span.units for span in spans(history.records, history.window)), default=0)
    if finding.verdict is Verdict.PASSED and fullest < history.limit:
        why = f"no window was certainly full, only {fullest} of {history.limit} units: nothing pressed on the limit"
        return Finding(Verdict.UNDECIDED, why, history)
    return finding


def exact(history: History, *played: Played, denied: int, says: str) -> Finding:
    """Find whether each request had the answer that an exact limiter owed to it, where every one has only one.

    Args:
        history: Made so that each answer is owed, unless the machine was slow.
        played: Where it is from.
        denied: Requests that were made to be denied: where fewer fell as they were meant to, nothing was tried.
        says: What to say if all are right.
    """
    failure = raised(*played)
    if failure:
        return failure
    answers = owed(history.records, history.limit, history.window)
    wrong = [each for each in answers if each.answer is not None and each.record.allowed is not each.answer]
    if wrong:
        over, under = never_over(history), never_under(history)
        for finding in (over, under):
            if finding.verdict is Verdict.FAILED:
                return finding
    open_ = sum(each.answer is None for each in answers)
    if open_:
        why = f"{open_} of {len(answers)} answers prove nothing: they took too long, or came at another time than asked"
        return Finding(Verdict.UNDECIDED, why, history)
    tried = sum(each.answer is False for each in answers)
    if tried < denied:
        why = f"only {tried} of {denied} requests came while the window was full: the answers took too long"
        return Finding(Verdict.UNDECIDED, why, history)
    return Finding(Verdict.PASSED, says, history, history.records[-1])


def expected(history: History, wanted: Iterable[bool], *played: Played, says: str) -> Finding:
    """Find whether the answers, in their order, are the ones wanted: for a moved clock, where no delay excuses one."""
    failure = raised(*played)
    if failure:
        return failure
    records, answers = history.records, list(wanted)
    assert len(records) == len(answers), (len(records), len(answers))
    for number, (record, right) in enumerate(zip(records, answers, strict=True), 1):
        if record.allowed is not right:
            return Finding(Verdict.FAILED, _mismatch(number, record, right, records[0].start), history, record)
    return Finding(Verdict.PASSED, says, history, records[-1])


def _mismatch(number: int, record: Record, right: bool, began: float) -> str:
    word = {True: "allowed", False: "denied", None: "not answered"}
    cost = f" of cost {record.cost}" if record.cost != 1 else ""
    return (
        f"request {number}{cost}, {record.start - began:g} s after the first, was {word[record.allowed]}; an exact "
        f"window has it {word[right]}"
    )
