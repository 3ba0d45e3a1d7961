"""Cases on honesty: the waits that a limiter reports are true."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import failure_if_raised, unless_stalled
from sluicegate.proof.environment import Environment
from sluicegate.proof.history import History, Record
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.stalls import excused, times
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.waits import Wait, waits
from sluicegate.proof.workers import ScenarioResult, Step, Worker, call, keep_calling

_LONG = 60.0


# Waits


def _collect_waits(env: Environment) -> tuple[History, ScenarioResult, list[Wait]]:
    """Fill keys step by step, get one denial with its wait, and keep calling until a call is allowed."""
    window = max(env.window, 3.0) if Requirement.CONSTRUCTOR in env.survey.met else env.window
    pause, clients = min(window / 150, 0.1), []
    for n, key in enumerate(env.keys(4)):
        begin = n * 0.13
        denied_at = begin + 0.5 * window
        fill = [call(begin, key), call(begin + 0.4 * window, key, env.limit)]
        retries = keep_calling(denied_at + pause, begin + 1.15 * window, key, pause=pause)
        clients.append([*fill, call(denied_at, key, verb="take"), retries])
    result = env.worker(window=window).run(*clients)
    history = env.history(result, window=window)
    return history, result, waits(history.records, env.limit + 1)


def _failure(env: Environment, history: History, found: Callable[[Sequence[Wait]], Finding | None]) -> Finding | None:
    """Return what is found wrong with the waits; undecided if it is not found without the answers of a stall."""
    failure = found(waits(history.records, env.limit + 1))
    if failure is None:
        return None
    certain = found(waits(excused(history.records, remote=history.remote), env.limit + 1))
    says = f"{failure.says}. But {times(history.records).stall_of_any}"
    return certain or replace(failure, verdict=CaseVerdict.UNDECIDED, says=says)


def _without_waits(result: ScenarioResult) -> Finding:
    return failure_if_raised(result) or Finding(CaseVerdict.UNDECIDED, "no denial reported a wait")


@case(
    "honesty/wait/enough",
    "The wait that a denial reports is long enough: the request is allowed when it ends.",
    RubricLine.CORRECTNESS,
    Requirement.REPORTS_WAIT,
)
def enough(env: Environment) -> Finding:
    history, result, reported = _collect_waits(env)
    if not reported:
        return _without_waits(result)

    def too_short(reported: Sequence[Wait]) -> Finding | None:
        for wait in reported:
            if wait.broken:
                after = wait.broken.start - wait.record.end
                says = f"the reported wait was {wait.seconds:g} s, but after {after:.3f} s the request was denied again"
                return Finding(CaseVerdict.FAILED, says, history, wait.broken)
        return None

    failure = _failure(env, history, too_short)
    if failure:
        return failure
    if not all(wait.allowed for wait in reported):
        return failure_if_raised(result) or Finding(
            CaseVerdict.UNDECIDED, "some waits did not end before the scenario did", history
        )
    shortest, longest = min(wait.seconds for wait in reported), max(wait.seconds for wait in reported)
    says = f"{len(reported)} waits, of {shortest:g} to {longest:g} s, none too short"
    return Finding(CaseVerdict.PASSED, says, history, reported[-1].record)


@case(
    "honesty/wait/not-too-long",
    "The wait that a denial reports is not too long, by more than the unit it is rounded to.",
    RubricLine.CORRECTNESS,
    Requirement.REPORTS_WAIT,
)
def not_too_long(env: Environment) -> Finding:
    """Allow for the longest call of the key before: a remembered denial is known only from when its reply arrived."""
    history, result, reported = _collect_waits(env)
    if not reported:
        return _without_waits(result)
    resolution = _resolution([wait.seconds for wait in reported], http=Requirement.HTTP in env.survey.met)

    def too_long(reported: Sequence[Wait]) -> Finding | None:
        for wait in reported:
            if wait.allowed and wait.too_long(resolution):
                says = (
                    f"the reported wait was {wait.seconds:g} s, but after {wait.allowed.end - wait.record.start:.3f} s "
                    f"the request was allowed; no call before took longer than {wait.longest:.3f} s"
                )
                return Finding(CaseVerdict.FAILED, says, history, wait.allowed)
        return None

    failure = _failure(env, history, too_long)
    if failure:
        return failure
    gaps = [
        wait.allowed.end - (wait.retries[-2] if len(wait.retries) > 1 else wait.record).start
        for wait in reported
        if wait.allowed
    ]
    if len(gaps) < len(reported) or max(gaps) > 0.25:
        return failure_if_raised(result) or Finding(
            CaseVerdict.UNDECIDED, "the calls came too far apart to tell when some waits ended", history
        )
    return Finding(CaseVerdict.PASSED, f"{len(reported)} waits, none too long", history, reported[-1].record)


def _resolution(waits: Sequence[float], *, http: bool) -> float:
    """Return the unit in seconds that the waits are rounded to: a second, a tenth, or a millisecond for any other.

    A date in Retry-After has whole seconds, and so has the date of the response that it is compared with: each may be
    cut, so together they are off by up to two seconds.
    """
    return 2.0 if http else _unit(waits, least=0.001)


def _unit(waits: Sequence[float], *, least: float) -> float:
    return next((unit for unit in (1.0, 0.1) if _multiples_of(unit, waits)), least)


def _multiples_of(unit: float, waits: Sequence[float]) -> bool:
    return all(abs(wait / unit - round(wait / unit)) < 1e-6 for wait in waits if math.isfinite(wait))


@case(
    "honesty/wait/exact",
    "The wait is exact: denied an instant before it ends, allowed when it ends.",
    RubricLine.CORRECTNESS,
    Requirement.REPORTS_WAIT,
    Requirement.MANUAL_CLOCK,
    Requirement.CONSTRUCTOR,
)
def exact_wait(env: Environment) -> Finding:
    return _exact(env, "take")


@case(
    "honesty/wait/asked",
    "The wait that retry_after() tells when it is asked is exact, too.",
    RubricLine.CORRECTNESS,
    Requirement.RETRY_AFTER,
    Requirement.MANUAL_CLOCK,
    Requirement.CONSTRUCTOR,
)
def asked_wait(env: Environment) -> Finding:
    return _exact(env, "retry_after")


def _exact(env: Environment, verb: str) -> Finding:
    worker = env.worker(limit=3, window=8.0, clock="manual")
    # At 7.875 s the three keys have different waits, none of them whole seconds.
    keys = dict(zip(env.keys(3), (0.0, 2.125, 5.0), strict=True))
    fill = [call(begin + at, key) for key, begin in keys.items() for at in (0.0, 1.5, 2.25)]
    return _check_ends_of_waits(env, worker, fill, [call(7.875, key, verb=verb) for key in keys])


@case(
    "honesty/wait/cost",
    "The wait of a request with a cost lasts until that many units are free.",
    RubricLine.CORRECTNESS,
    Requirement.REPORTS_WAIT,
    Requirement.MANUAL_CLOCK,
    Requirement.COST,
    Requirement.TAKE_COST,
    Requirement.CONSTRUCTOR,
)
def wait_for_a_cost(env: Environment) -> Finding:
    worker, key = env.worker(limit=4, window=8.0, clock="manual"), env.key()
    fill = [call(at, key) for at in (0.125, 1.125, 2.125, 3.125)]
    return _check_ends_of_waits(env, worker, fill, [call(4.0, key, cost=3, verb="take")])


def _check_ends_of_waits(env: Environment, worker: Worker, fill: Sequence[Step], takes: Sequence[Step]) -> Finding:
    """Get denials with their waits, and call again just before each wait ends, and when it ends."""
    first = worker.run(sorted([*fill, *takes], key=lambda step: step.at))
    history = env.history(first, limit=4, window=8.0)
    asked = first.peeks if takes[0].verb == "retry_after" else history.records[-len(takes) :]
    denials = {record.key: record for record in asked}
    failure = failure_if_raised(first)
    if failure:
        return failure
    for denial in denials.values():
        if denial.allowed:
            return Finding(CaseVerdict.UNDECIDED, "nothing was denied", history, denial)
        if denial.retry_after is None or math.isinf(denial.retry_after):
            return Finding(CaseVerdict.FAILED, "a full key had no wait, or an infinite one", history)
    waits = {key: record.retry_after or 0.0 for key, record in denials.items()}
    # If the waits are rounded, call that much before the end.
    instant = _unit(list(waits.values()), least=1e-6)
    calls = [(wait - early, take) for take in takes for wait in [waits[take.keys[0]]] for early in (instant, 0.0)]
    steps = [call(max(0.0, at), take.keys[0], cost=take.cost) for at, take in sorted(calls, key=lambda each: each[0])]
    again = worker.run(steps)
    seen: dict[str, list[Record]] = {key: [] for key in waits}
    for record in again.records:
        seen[record.key].append(record)
    for key, (before, at_the_end) in seen.items():
        cost = f" for a cost of {before.cost}" if before.cost > 1 else ""
        if before.allowed:
            says = (
                f"the reported wait{cost} was {waits[key]:.9g} s, but {instant:g} s before its end the call was allowed"
            )
            return Finding(CaseVerdict.FAILED, says, history, _drawn(history, denials[key]))
        if not at_the_end.allowed:
            says = f"the reported wait{cost} was {waits[key]:.9g} s, but at its end the call was denied"
            return Finding(CaseVerdict.FAILED, says, history, _drawn(history, denials[key]))
    says = f"{len(waits)} waits, each denied {instant:g} s before its end and allowed at its end"
    return failure_if_raised(again) or Finding(CaseVerdict.PASSED, says, history, history.records[-1])


def _drawn(history: History, record: Record) -> Record | None:
    return record if record in history.records else None


@case("honesty/wait/header", "A 429 says in Retry-After how long to wait.", RubricLine.CORRECTNESS, Requirement.HTTP)
def header(env: Environment) -> Finding:
    result = env.worker().run([call(0, env.key(), env.limit + 3, verb="take")])
    history = env.history(result)
    denied = [record for record in history.records if record.allowed is False]
    without = [record for record in denied if record.retry_after is None]
    if not denied:
        return failure_if_raised(result) or Finding(CaseVerdict.UNDECIDED, "nothing was denied", history)
    if without:
        says = f"{len(without)} of {len(denied)} responses with status 429 had no Retry-After, in seconds or as a date"
        return Finding(CaseVerdict.FAILED, says, history, without[0])
    zero = [record for record in denied if not record.retry_after]
    if zero:
        return Finding(CaseVerdict.FAILED, "Retry-After is 0: a client that obeys it is denied again", history, zero[0])
    says = f"{len(denied)} responses with status 429, each with a Retry-After"
    return Finding(CaseVerdict.PASSED, says, history, denied[-1])


@case(
    "honesty/wait/never",
    "A request that can never be allowed is not told to come back at once.",
    RubricLine.CORRECTNESS,
    Requirement.REPORTS_WAIT,
    Requirement.TAKE_COST,
    Requirement.CONSTRUCTOR,
)
def never(env: Environment) -> Finding:
    limit, key = 5, env.key()
    result = env.worker(limit=limit, window=_LONG).run([call(0, key, cost=cost, verb="take") for cost in (6, 100)])
    history = env.history(result, limit=limit, window=_LONG)
    denied = [record for record in history.records if record.allowed is False]
    if any(record.allowed for record in history.records):
        return Finding(CaseVerdict.UNDECIDED, "a cost above the limit was allowed, so no wait was reported", history)
    if not denied:
        says = "no such request was answered, so no wait was reported"
        return unless_stalled(Finding(CaseVerdict.PASSED, says, history), result)
    at_once = [record for record in denied if record.retry_after is not None and record.retry_after <= 0]
    if at_once:
        says = f"a cost of {at_once[0].cost} of {limit} was denied with a wait of {at_once[0].retry_after:g} s"
        return Finding(CaseVerdict.FAILED, f"{says}; expected none, or an infinite one", history, at_once[0])
    says = f"costs of 6 and 100 of {limit} were not told to come back at once"
    return Finding(CaseVerdict.PASSED, says, history)
