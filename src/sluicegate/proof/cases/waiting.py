"""Cases on waiting: callers that wait for their turn are served in time, in order, and within the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import failure_if_raised, twice, unless_paused, unless_stalled, worst
from sluicegate.proof.environment import Environment
from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import never_over, never_over_in_spans
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import Client, ScenarioResult, TargetFailed, Worker, call, keep_calling

_LONG = 60.0


@case(
    "concurrency/wait/apart",
    "A caller that waits for one key does not hold up calls for another.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def waits_apart(env: Environment) -> Finding:
    return twice(lambda: _waits_apart(env))


def _waits_apart(env: Environment) -> Finding:
    limit, window = 2, 2.0
    waiting, other = env.keys(2)
    worker = env.worker(limit=limit, window=window)
    result = worker.run(
        [call(0, waiting, limit), call(0.1, waiting, verb="wait")],
        [call(0.3, other, limit)],
        lasts=window,
    )
    failure = failure_if_raised(result)
    if failure:
        return failure
    waits = [record for record in result.records if record.key == waiting][-1]
    beside = [record for record in result.records if record.key == other]
    slowest = max(beside, key=lambda record: record.end - record.start)
    took, waited = slowest.end - slowest.start, waits.end - waits.start
    says = f"while one caller waited {waited:.2f} s for its key, a call for another key took {took:.4f} s"
    if waits.end < slowest.start + 0.2:
        says = f"wait() returned after {waited:.2f} s, too early to hold up another call"
        return Finding(CaseVerdict.UNDECIDED, says)
    held_up = slowest.end > waits.end - 0.1
    verdict = CaseVerdict.FAILED if held_up else CaseVerdict.PASSED if took < window / 4 else CaseVerdict.UNDECIDED
    finding = Finding(verdict, says, env.history(result, limit=limit, window=window), slowest)
    return unless_paused(finding, result, for_=window / 4)


@case(
    "concurrency/wait/takes",
    "wait() takes the unit that it waits for: after N waits for a fresh key nothing is left.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.CONSTRUCTOR,
)
def takes(env: Environment) -> Finding:
    limit, keys = 3, env.keys(3)
    clients: list[Client] = [[call(0, key, limit, verb="wait"), call(0, key, 2)] for key in keys]
    result = env.worker(limit=limit, window=_LONG).run(*clients, lasts=5)
    raised = failure_if_raised(result)
    if raised:
        return raised
    if any(record.allowed is None for record in _waits_of(result, limit)):
        # It does not say whether it took anything, so it may be meant to wait only.
        says = f"wait() returned {next(iter(result.unexpected), 'None')}; expected True, or a decision"
        return Finding(CaseVerdict.UNDECIDED, says)
    return never_over(env.history(result, limit=limit, window=_LONG))


def _waits_of(result: ScenarioResult, number: int) -> list[Record]:
    """Return the first records of each key, which are those of ``wait``."""
    seen: dict[str, int] = {}
    found = []
    for record in result.records:
        seen[record.key] = seen.get(record.key, 0) + 1
        if seen[record.key] <= number:
            found.append(record)
    return found


@case(
    "concurrency/wait/limit",
    "However many callers wait for a key, no window has more than N, and a unit that becomes free is taken.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def within_the_limit(env: Environment) -> Finding:
    return twice(lambda: _within_the_limit(env))


def _within_the_limit(env: Environment) -> Finding:
    limit, window, rounds = 2, 0.6, 3
    (key, other), number = env.keys(2), 2 * 3
    # The first is given out alone: then the others come in the middle of its window, and one counts from there if the
    # limiter dates a unit by the call and not by the moment at which it was taken.
    first, others = [call(0, key, verb="wait")], [[call(0.05, key, verb="wait")] for _ in range(number - 1)]
    worker = env.worker(limit=limit, window=window)
    # Whoever waits is slow to be allowed. So a stall of the store is seen by calls for another key, which do not wait.
    watch = [[keep_calling(0, rounds * window, other, pause=0.02)]] if Requirement.REDIS in env.survey.met else []
    result = worker.run(first, *others, *watch, lasts=rounds * window + 5)
    raised = failure_if_raised(result)
    if raised:
        return raised
    watched = ScenarioResult([record for record in result.records if record.key == other])
    waited = replace(result, records=[record for record in result.records if record.key == key])
    history = env.history(_taken(waited), limit=limit, window=window)
    over = never_over_in_spans(replace(history, remote=False), rounds)
    if over.verdict is CaseVerdict.FAILED:
        return unless_stalled(over, watched)
    served = [record for record in history.records if record.allowed]
    if len(served) < number:
        says = f"{len(served)} of {number} callers that waited without a time limit were served"
        return Finding(CaseVerdict.FAILED, says, history)
    took = max(record.end for record in served) - min(record.start for record in served)
    least = (rounds - 1) * window
    says = f"{number} callers were served within {took:.2f} s; at {limit} in {window:g} s that takes {least:.2f} s"
    if took > 1.5 * least + 0.5:
        late = Finding(CaseVerdict.FAILED, f"{says}: units were free and nobody got them", history, served[-1])
        return unless_paused(late, result, for_=0.2)
    return Finding(CaseVerdict.PASSED, says, history, served[-1])


def _taken(result: ScenarioResult) -> ScenarioResult:
    """Return the result with every wait that came back without an answer as one that took its unit."""
    records = [record._replace(allowed=True) if record.allowed is None else record for record in result.records]
    return ScenarioResult(records, paused=result.paused)


@case(
    "concurrency/wait/soon",
    "A caller that waits is served as soon as a unit is free.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def soon_enough(env: Environment) -> Finding:
    return twice(lambda: _soon_enough(env))


def _soon_enough(env: Environment) -> Finding:
    window, key = 1.0, env.key()
    worker = env.worker(limit=2, window=window)
    # The first unit is free a window after the first call, and half a window before the second one.
    result = worker.run([call(0, key)], [call(0.5 * window, key)], [call(0.6 * window, key, verb="wait")], lasts=5)
    raised = failure_if_raised(result)
    if raised:
        return raised
    history = env.history(_taken(result), limit=2, window=window)
    first, last = history.records[0], history.records[-1]
    late = last.end - first.end - window
    says = f"a unit was free {window:g} s after the first call, and the caller that waited got it {late:.2f} s later"
    if not last.allowed or late < -0.01:
        return Finding(CaseVerdict.UNDECIDED, "the caller did not wait for the unit", history, last)
    if late > 0.35:
        return unless_paused(Finding(CaseVerdict.FAILED, says, history, last), result, for_=0.1)
    return Finding(CaseVerdict.PASSED, says, history, last)


@case(
    "concurrency/wait/timeout",
    "A wait with a time limit ends by then, and takes nothing if its turn has not come.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.TIMEOUT,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def times_out(env: Environment) -> Finding:
    return twice(lambda: _times_out(env))


def _times_out(env: Environment) -> Finding:
    numbers = (1, 4)  # alone in a process, and with others whose end might wake it
    workers = [_start_waiters(env, number) for number in numbers]
    return worst(*(_gave_up(env, worker.result(), number) for worker, number in zip(workers, numbers, strict=True)))


_TIMEOUT, _LIMIT, _WINDOW = 0.3, 3, 2.0


def _start_waiters(env: Environment, number: int) -> Worker:
    """Start so many callers that wait for a full key, in a process of their own."""
    key, worker = env.key(), env.worker(limit=_LIMIT, window=_WINDOW)
    # A window after the first calls there is room for as many again; and for no more, if no wait took a unit.
    fill = [call(0, key, _LIMIT), call(1.1 * _WINDOW, key, _LIMIT + 1)]
    worker.start(fill, *([call(0.1, key, verb="wait", timeout=_TIMEOUT)] for _ in range(number)), lasts=5)
    return worker


def _gave_up(env: Environment, result: ScenarioResult, number: int) -> Finding:
    answered, limit, window = _as_denials(result), _LIMIT, _WINDOW
    history = env.history(answered, limit=limit, window=window)
    # The records of a client are together: the calls that fill the key, as many and one more a window later, the waits.
    records = answered.records
    if len(records) < 2 * limit + 1 + number:
        return Finding(CaseVerdict.UNDECIDED, "the target took too long: some calls were not made", history)
    filled, after, waits = records[:limit], records[limit : 2 * limit + 1], records[2 * limit + 1 :]
    if filled[-1].end > min(wait.start for wait in waits) or after[0].start < filled[-1].end + window:
        return Finding(CaseVerdict.UNDECIDED, "the calls that fill the key took too long", history)
    slowest = max(waits, key=_took)
    says = f"{number} waits of at most {_TIMEOUT:g} s for a full key: the longest took {_took(slowest):.2f} s"
    early = next((record for record in waits if record.allowed and record.end < filled[0].start + window), None)
    if early:
        return Finding(CaseVerdict.FAILED, f"{says}, and one was allowed though the key was full", history, early)
    if _took(slowest) > _TIMEOUT + 0.8:
        return unless_paused(Finding(CaseVerdict.FAILED, says, history, slowest), result, for_=0.4)
    return unless_stalled(_nothing_taken(history, after, says), ScenarioResult(filled + after))


def _nothing_taken(history: History, after: Sequence[Record], says: str) -> Finding:
    denied = next((record for record in after[:-1] if not record.allowed), None)
    if denied and after[-1].end - after[0].start < history.window:
        what = f"{says}. When its window was empty a request was denied: a wait that was given up took a unit"
        return Finding(CaseVerdict.FAILED, what, history, denied)
    return Finding(CaseVerdict.PASSED, f"{says}, and they took nothing", history, after[-1])


def _as_denials(result: ScenarioResult) -> ScenarioResult:
    """Return the result with every call that raised, as `TimeoutError`, as a denial."""
    records = [record._replace(allowed=False) if record.allowed is None else record for record in result.records]
    return ScenarioResult(records, paused=result.paused)


def _took(record: Record) -> float:
    return record.end - record.start


@case(
    "concurrency/wait/order",
    "Callers that wait for a key in one process are served in the order in which they came.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.CONSTRUCTOR,
    should=True,
    alone=True,
    timed=True,
)
def in_order(env: Environment) -> Finding:
    return twice(lambda: _in_order(env))


def _in_order(env: Environment) -> Finding:
    window, number, gap = 0.35, 7, 0.04
    key = env.key()
    clients: list[Client] = [[call(n * gap, key, verb="wait")] for n in range(number)]
    worker: Worker = env.worker(limit=1, window=window)
    result = worker.run(*clients, lasts=number * window + 5)
    raised = failure_if_raised(result)
    if raised:
        return raised
    history = env.history(_taken(result), limit=1, window=window)
    overtaken = _overtaken(history.records, window / 2)
    if overtaken:
        earlier, later = overtaken
        says = (
            f"a caller that came {later.start - earlier.start:.2f} s after another was served "
            f"{earlier.end - later.end:.2f} s before it"
        )
        return unless_paused(Finding(CaseVerdict.FAILED, says, history, earlier), result, for_=gap)
    return Finding(CaseVerdict.PASSED, f"{number} callers, served in the order in which they came", history)


def _overtaken(records: Sequence[Record], by: float) -> tuple[Record, Record] | None:
    """Return two callers of whom the later was served first, earlier by so many seconds; None if there are none."""
    ordered = sorted(records, key=lambda record: record.start)
    pairs = ((one, other) for n, one in enumerate(ordered) for other in ordered[n + 1 :])
    return next(((one, other) for one, other in pairs if one.end - other.end > by), None)


@case(
    "concurrency/wait/never",
    "A wait for more units than the limit is refused, and does not last for ever.",
    RubricLine.CONCURRENCY,
    Requirement.WAIT,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
    should=True,
    alone=True,
    timed=True,
)
def never(env: Environment) -> Finding:
    limit, key = 3, env.key()
    worker = env.worker(limit=limit, window=0.5)
    worker.patience = 3.0  # for the wait, and not for loading the target
    try:
        result = worker.run([call(0, key, cost=limit + 1, verb="wait")])
    except TargetFailed as failure:
        says = f"a wait for {limit + 1} of {limit} units, which can never be had, did not return: {failure}"
        return Finding(CaseVerdict.FAILED, says)
    record = result.records[0]
    if record.allowed:
        return Finding(CaseVerdict.FAILED, f"a wait for {limit + 1} of {limit} units was granted")
    return Finding(CaseVerdict.PASSED, f"refused after {_took(record):.2f} s")
