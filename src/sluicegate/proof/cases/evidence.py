"""From answers to findings: what the cases have in common."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.proof.crew import Played, Step
from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import never_over, never_under, owed
from sluicegate.proof.verdict import Finding, Verdict

_ORDER = (Verdict.FAILED, Verdict.UNDECIDED, Verdict.PASSED)


def worst(*findings: Finding) -> Finding:
    """Return the finding that says most against the target; the first of several that say as much."""
    return min(findings, key=lambda finding: _ORDER.index(finding.verdict))


def raised(*played: Played) -> Finding | None:
    """Return a failure if any call raised."""
    errors = [error for each in played for error in each.errors]
    return Finding(Verdict.FAILED, f"a call raised {errors[0]}") if errors else None


def cut(*played: Played) -> Finding | None:
    """Return that nothing is known, if the target took so long that not all could be asked."""
    unfinished = any(each.cut for each in played)
    return Finding(Verdict.UNDECIDED, "the target took too long: not all could be asked") if unfinished else None


def kept(history: History, *played: Played) -> Finding:
    """Find whether the limit was kept, never over and never under, and no call raised."""
    return worst(kept_below(history, *played), never_under(history))


def kept_below(history: History, *played: Played) -> Finding:
    """Find whether the limit was never exceeded though it was pressed on, and no call raised."""
    return raised(*played) or never_over(history)


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
    for finding in (never_over(history), never_under(history)):
        if finding.verdict is Verdict.FAILED:
            return finding
    answers = owed(history.records, history.limit, history.window)
    open_ = sum(each.answer is None for each in answers)
    if open_:
        why = f"{open_} of {len(answers)} answers prove nothing: they took too long, or came at another time than asked"
        return Finding(Verdict.UNDECIDED, why, history)
    tried = sum(each.answer is False for each in answers)
    if tried < denied:
        why = f"only {tried} of {denied} requests came while the window was full: the answers took too long"
        return Finding(Verdict.UNDECIDED, why, history)
    return Finding(Verdict.PASSED, says, history, history.records[-1])


def expected(history: History, played: Played, steps: Sequence[Step], says: str) -> Finding:
    """Find whether each answer is the one of an exact window: for a moved clock, where no delay excuses another.

    Args:
        history: Its records in the order in which they were asked.
        played: Where it is from.
        steps: What was asked.
        says: What to say if all are right.
    """
    failure = raised(played)
    if failure:
        return failure
    asked = sum(step.times for step in steps)
    if len(history.records) < asked or any(record.start != record.end for record in history.records):
        return Finding(Verdict.UNDECIDED, "the target moved its own clock, or took too long", history)
    seen: dict[str, list[Record]] = {}
    for record in history.records:
        mine = seen.setdefault(record.key, [])
        held = sum(r.cost for r in mine if r.allowed and r.start > record.start - history.window)
        mine.append(record)
        if record.allowed is not (held + record.cost <= history.limit):
            return Finding(Verdict.FAILED, _mismatch(history, mine, held), history, record)
    return Finding(Verdict.PASSED, says, history, history.records[-1])


def _mismatch(history: History, mine: Sequence[Record], held: int) -> str:
    last, word = mine[-1], {True: "allowed", False: "denied", None: "not answered"}
    right = held + last.cost <= history.limit
    cost = f" of cost {last.cost}" if last.cost != 1 else ""
    return (
        f"request {len(mine)} of its key{cost}, {last.start - mine[0].start:g} s after the first, was "
        f"{word[last.allowed]}; with {history.limit} in any {history.window:g} s it is to be {word[right]}: "
        f"{held} were in its window"
    )
