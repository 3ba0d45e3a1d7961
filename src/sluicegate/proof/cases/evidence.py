"""Functions that the cases share: from the answers to a scenario to a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import never_over, never_under, owed
from sluicegate.proof.stalls import Times, excused
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import ScenarioResult, Step

_ORDER = (CaseVerdict.FAILED, CaseVerdict.UNDECIDED, CaseVerdict.PASSED)


def worst(*findings: Finding) -> Finding:
    """Return the worst finding for the target; the first of several equally bad ones."""
    return min(findings, key=lambda finding: _ORDER.index(finding.verdict))


def failure_if_raised(*results: ScenarioResult) -> Finding | None:
    """Return a failure if any call raised, undecided if a stall explains all that did; None if none did."""
    errors = [error for each in results for error in each.errors]
    if not errors:
        return None
    finding = Finding(CaseVerdict.FAILED, f"a call raised {errors[0]}")
    records = [record for each in results for record in each.records]
    pairs = [pair for pair in zip(records, excused(records), strict=True) if pair[0].allowed is None]
    # Quick ones count as well: calls may share a call to the store, and the last to join it raises soon after it did.
    certain = any(before is after for before, after in pairs)
    return finding if certain else unless_stalled(finding, *results)


def unless_raised(finding: Finding, *results: ScenarioResult) -> Finding:
    """Return the finding, or that calls raised if that is as bad for the target or worse."""
    raised = failure_if_raised(*results)
    return worst(raised, finding) if raised else finding


def unless_stalled(finding: Finding, *results: ScenarioResult) -> Finding:
    """Return a failure as undecided if the target or its store stalled meanwhile; else the finding itself."""
    remote, times = finding.history is not None and finding.history.remote, _times(results)
    return unless(finding, times.stall_of_any if remote else times.stall)


def unless_paused(finding: Finding, *results: ScenarioResult, for_: float) -> Finding:
    """Return a failure as undecided if the machine paused for so many seconds; else the finding itself."""
    paused = max(each.paused for each in results)
    return unless(finding, f"the machine did not run the target for {paused:.2f} s" if paused >= for_ else "")


def unless(finding: Finding, why: str) -> Finding:
    """Return a failure as undecided if there is a reason to doubt it; with an empty one, the finding itself."""
    if finding.verdict is not CaseVerdict.FAILED or not why:
        return finding
    return replace(finding, verdict=CaseVerdict.UNDECIDED, says=f"{finding.says}. But {why}")


def twice(measure: Callable[[], Finding]) -> Finding:
    """Measure again after a failure: noise, and memory allocated once for all keys, hardly shows a second time."""
    finding = measure()
    if finding.verdict is not CaseVerdict.FAILED:
        return finding
    again = measure()
    if again.verdict is CaseVerdict.FAILED:
        return again
    return replace(again, verdict=CaseVerdict.UNDECIDED, says=f"{again.says}; but the time before: {finding.says}")


def _times(results: Sequence[ScenarioResult]) -> Times:
    each = [result.times for result in results]
    return Times([took for times in each for took in times.allowed], [took for times in each for took in times.others])


def undecided_if_cut(*results: ScenarioResult) -> Finding | None:
    """Return an undecided finding if the target was so slow that some calls were not made; else None."""
    unfinished = any(each.cut for each in results)
    return Finding(CaseVerdict.UNDECIDED, "the target took too long: some calls were not made") if unfinished else None


def limit_kept(history: History, *results: ScenarioResult) -> Finding:
    """Check that the limit was kept, never over and never under, and that no call raised."""
    return worst(limit_not_exceeded(history, *results), never_under(history))


def limit_not_exceeded(history: History, *results: ScenarioResult) -> Finding:
    """Check that the limit was reached but never exceeded, and that no call raised."""
    return unless_raised(never_over(history), *results)


def answers_exact(history: History, *results: ScenarioResult, denied: int, says: str) -> Finding:
    """Check that each answer is the one an exact limiter would have given, in a scenario where only one is right.

    Args:
        history: The answers. Unless the machine was slow, only one answer to each request is right.
        *results: The results that the history was made from.
        denied: The number of requests meant to be denied. If fewer arrived while the window was full, the case is
            undecided, as the fault it is there to catch was not tried.
        says: The text of the finding if all answers are right.
    """
    failure, over = failure_if_raised(*results), never_over(history)
    if failure:
        return worst(failure, over)
    answers = owed(history.records, history.limit, history.window)
    one_too_many = any(each.answer is False and each.record.allowed for each in answers)
    if over.verdict is CaseVerdict.FAILED or one_too_many:  # the latter even if a stall may explain it
        return over
    if any(each.answer and each.record.allowed is False for each in answers):
        return never_under(history)
    open_ = sum(each.answer is None for each in answers)
    if open_:
        why = (
            f"{open_} of {len(answers)} answers prove nothing: they took too long, or the calls came at the wrong time"
        )
        return Finding(CaseVerdict.UNDECIDED, why, history)
    tried = sum(each.answer is False for each in answers)
    if tried < denied:
        why = f"only {tried} of {denied} requests came while the window was full: the answers took too long"
        return Finding(CaseVerdict.UNDECIDED, why, history)
    return Finding(CaseVerdict.PASSED, says, history, history.records[-1])


def answers_match_model(history: History, result: ScenarioResult, steps: Sequence[Step], says: str) -> Finding:
    """Check each answer against an exact sliding window. For manual clocks, with which no delay excuses another answer.

    Args:
        history: The answers, in the order of the calls.
        result: The result that the history was made from.
        steps: The steps that the client made.
        says: The text of the finding if all answers are right.
    """
    failure = failure_if_raised(result)
    if failure:
        return failure
    calls = sum(step.times for step in steps)
    if len(history.records) < calls or any(record.start != record.end for record in history.records):
        return Finding(CaseVerdict.UNDECIDED, "the target advanced the clock itself, or took too long", history)
    seen: dict[str, list[Record]] = {}
    for record in history.records:
        mine = seen.setdefault(record.key, [])
        held = sum(r.cost for r in mine if r.allowed and r.start > record.start - history.window)
        mine.append(record)
        if record.allowed is not (held + record.cost <= history.limit):
            return Finding(CaseVerdict.FAILED, _mismatch(history, mine, held), history, record)
    return Finding(CaseVerdict.PASSED, says, history, history.records[-1])


def _mismatch(history: History, mine: Sequence[Record], held: int) -> str:
    last, word = mine[-1], {True: "allowed", False: "denied", None: "not answered"}
    right = held + last.cost <= history.limit
    cost = f" of cost {last.cost}" if last.cost != 1 else ""
    return (
        f"request {len(mine)} of its key{cost}, {last.start - mine[0].start:g} s after the first, was "
        f"{word[last.allowed]}; with {history.limit} in any {history.window:g} s it should be {word[right]}: "
        f"its window held {held}"
    )
