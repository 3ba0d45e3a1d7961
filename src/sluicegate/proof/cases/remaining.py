"""Cases on what a limiter reports beside its answers: the units that remain, and what `peek` sees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import answers_exact, failure_if_raised
from sluicegate.proof.environment import Environment
from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import Owed, owed
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.stalls import excused
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import ScenarioResult, Step, call

_LONG = 60.0
_EIGHTH = 0.125  # seconds; exact on manual clocks


class _Terms(NamedTuple):
    """What a limiter is held to, and whether only the kit moves its clock."""

    limit: int
    window: float
    manual: bool


def _terms(env: Environment) -> _Terms:
    manual = Requirement.MANUAL_CLOCK in env.survey.met
    return _Terms(max(2, min(env.limit, 20)), 4.0 if manual else 1.2, manual)


def _run(env: Environment, terms: _Terms, *clients: Sequence[Step]) -> ScenarioResult:
    worker = env.worker(limit=terms.limit, window=terms.window, clock="manual" if terms.manual else "real")
    return worker.run(*clients, lasts=5)


def _visits(env: Environment, terms: _Terms, keys: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Yield moments at random, over some windows, each with a key."""
    at = 0.0
    while at < (200 if terms.manual else 3) * terms.window:
        yield at, env.random.choice(keys)
        unit = _EIGHTH if terms.manual else terms.window / 32
        at += unit * env.random.choice((1, 1, 2, 3, 8, 31, 33))


def _pause(terms: _Terms) -> float:
    # The judge takes calls at one instant to be in any order, so on a manual clock no two are.
    return _EIGHTH if terms.manual else 0.0


@case(
    "honesty/remaining/true",
    "The reported remaining units are exactly those that could still be taken, in any window.",
    RubricLine.CORRECTNESS,
    Requirement.REPORTS_REMAINING,
    Requirement.CONSTRUCTOR,
)
def remaining(env: Environment) -> Finding:
    terms, keys = _terms(env), env.keys(4)
    steps = [call(0, keys[0], terms.limit + 2, verb="take", pause=_pause(terms))]
    for at, key in _visits(env, terms, keys[1:]):
        times = env.random.choice((1, 1, 2, terms.limit))
        steps.append(call(at, key, times, verb="take", pause=_pause(terms)))
    result = _run(env, terms, steps)
    history = env.history(result, limit=terms.limit, window=terms.window)
    certain = owed(excused(history.records, remote=history.remote), terms.limit, terms.window)
    return failure_if_raised(result) or _judged(history, certain, takes=True)


@case("honesty/peek/free", "peek() takes nothing.", RubricLine.CORRECTNESS, Requirement.PEEK, Requirement.CONSTRUCTOR)
def peek(env: Environment) -> Finding:
    key, limit = env.key(), env.limit
    looks = call(0, key, limit + 2, verb="peek")
    result = env.worker(window=_LONG).run([looks, call(0, key, limit), looks, call(0, key)])
    says = f"after {limit + 2} peeks the whole limit was left, and after as many more nothing was given back"
    return answers_exact(env.history(result, window=_LONG), result, denied=1, says=says)


@case(
    "honesty/peek/true",
    "peek() sees what the next call would find, in any window.",
    RubricLine.CORRECTNESS,
    Requirement.PEEK,
    Requirement.CONSTRUCTOR,
)
def peek_is_true(env: Environment) -> Finding:
    terms, keys = _terms(env), env.keys(4)
    pause = _pause(terms)
    steps = [call(0, keys[0], verb="peek", pause=pause)]
    for at, key in _visits(env, terms, keys[1:]):
        times = env.random.choice((1, 2, terms.limit))
        look = call(at, key, verb="peek", pause=pause)
        steps += [look, call(at, key, times, pause=pause), look]
    if env.survey.abilities.peek_cost:
        steps += [step._replace(cost=env.random.choice((1, 2, terms.limit))) for step in steps if step.verb == "peek"]
        steps.sort(key=lambda step: step.at)
    result = _run(env, terms, steps)
    history = env.history(result, limit=terms.limit, window=terms.window)
    raised = failure_if_raised(result)
    if raised:
        return raised
    slow_from = result.times.slow_from if history.remote else math.inf
    answered = [each for each in result.peeks if each.allowed is not None and each.end - each.start <= slow_from]
    looks = _owed_to_looks(history, answered)
    wrong = next((each for each in looks if each.answer is not None and each.record.allowed is not each.answer), None)
    if wrong:
        word = "allowed" if wrong.record.allowed else "denied"
        cost = f"of cost {wrong.record.cost} " if wrong.record.cost > 1 else ""
        says = f"peek() said that a call {cost}would be {word}, though its window held {_held(wrong)} of {terms.limit}"
        return Finding(CaseVerdict.FAILED, says, history)
    return _judged(history, looks, takes=False)


def _owed_to_looks(history: History, looks: Sequence[Record]) -> list[Owed]:
    """Return the answers owed to peeks, which take nothing: as denials they count for no other answer."""
    as_denials = {each._replace(allowed=False): each for each in looks}
    answers = owed([*excused(history.records, remote=history.remote), *as_denials], history.limit, history.window)
    return [each._replace(record=as_denials[each.record]) for each in answers if each.record in as_denials]


def _held(each: Owed) -> str:
    return str(each.at_least) if each.at_least == each.at_most else f"{each.at_least} to {each.at_most}"


def _judged(history: History, answers: Sequence[Owed], *, takes: bool) -> Finding:
    """Compare the remaining units that were reported with the fewest and the most that there can have been."""
    reported = [each for each in answers if each.record.remaining is not None and each.record.allowed is not None]
    for each in reported:
        taken = each.record.cost if takes and each.record.allowed else 0
        fewest, most = (max(0, history.limit - held - taken) for held in (each.at_most, each.at_least))
        if not fewest <= (each.record.remaining or 0) <= most:
            expected = str(most) if fewest == most else f"{fewest} to {most}"
            says = (
                f"{each.record.remaining} of {history.limit} units were reported to remain, of a key whose window had "
                f"held {_held(each)} before; expected {expected}"
            )
            return Finding(CaseVerdict.FAILED, says, history, each.record if takes else None)
    if takes and not reported:
        return Finding(CaseVerdict.UNDECIDED, "no answer reported what remained", history)
    exact = sum(each.at_least == each.at_most for each in answers)
    if exact < len(answers) / 2:
        says = f"for only {exact} of {len(answers)} answers it is certain what the window held: they took too long"
        return Finding(CaseVerdict.UNDECIDED, says, history)
    return Finding(CaseVerdict.PASSED, f"{len(answers)} answers over several windows, all of them true", history)
