"""Honesty: what a limiter tells beside yes and no is true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headgate.proof.case import case
from headgate.proof.cases.evidence import exact, expected, raised
from headgate.proof.crew import Played, Step, ask
from headgate.proof.history import History, Record
from headgate.proof.need import Need
from headgate.proof.rig import Rig
from headgate.proof.rubric import Line
from headgate.proof.verdict import Finding, Verdict

_LONG = 60.0


# Waits


@dataclass(frozen=True, slots=True)
class _Wait:
    """A wait that was told, and between which bounds the true one lay, seconds."""

    record: Record
    told: float
    least: float
    most: float


def _told(rig: Rig) -> tuple[History, Played, list[_Wait]]:
    """Fill keys bit by bit, ask once more, and return what waits were told beside what they should have been."""
    window = max(rig.window, 3.0) if Need.MADE_HERE in rig.survey.met else rig.window
    worker = rig.worker(window=window)
    lanes = []
    for n, key in enumerate(rig.keys(4)):
        begin = n * 0.13
        fill = [ask(begin, key)] + ([ask(begin + 0.4 * window, key, rig.limit - 1)] if rig.limit > 1 else [])
        lanes.append([*fill, ask(begin + 0.5 * window, key, verb="take")])
    played = worker.play(*lanes)
    history = rig.history(played, window=window)
    waits = []
    for lane in lanes:
        mine = [record for record in history.records if record.key == lane[0].keys[0]]
        oldest, denied = mine[0], mine[-1]
        if denied.retry_after is None or denied.allowed is not False or oldest.allowed is not True:
            continue
        least = oldest.start + window - denied.end
        waits.append(_Wait(denied, denied.retry_after, least, oldest.end + window - denied.start))
    return history, played, waits


def _resolution(rig: Rig, waits: Sequence[_Wait]) -> float:
    """Return what a wait may be longer than true by: a second where only whole seconds are told, else a millisecond.

    Retry-After tells whole seconds, or a date, which is whole seconds as well.
    """
    whole = all(wait.told == int(wait.told) for wait in waits if math.isfinite(wait.told))
    return 1.0 if whole or Need.HTTP in rig.survey.met else 0.001


def _without_waits(played: Played) -> Finding:
    return raised(played) or Finding(Verdict.UNDECIDED, "no denial told a wait")


@case(
    "honesty/wait/enough",
    "The wait that a denial tells is long enough: the request is allowed when it ends.",
    Line.CORRECTNESS,
    Need.WAIT_TOLD,
)
def enough(rig: Rig) -> Finding:
    history, played, waits = _told(rig)
    if not waits:
        return _without_waits(played)
    short = [wait for wait in waits if wait.told < wait.least - 1e-6]
    if short:
        says = f"told to wait {short[0].told:g} s, when the unit was not free for at least {short[0].least:.6f} s"
        return Finding(Verdict.FAILED, says, history, short[0].record)
    if all(wait.told < wait.most - 0.05 for wait in waits):
        return Finding(Verdict.UNDECIDED, "the answers took too long to hold the waits against them", history)
    says = f"{len(waits)} waits, of {min(w.told for w in waits):g} to {max(w.told for w in waits):g} s, none too short"
    return Finding(Verdict.PASSED, says, history, waits[-1].record)


@case(
    "honesty/wait/not-too-long",
    "The wait that a denial tells is no longer than true, up to the second that it is told in.",
    Line.CORRECTNESS,
    Need.WAIT_TOLD,
)
def not_too_long(rig: Rig) -> Finding:
    history, played, waits = _told(rig)
    if not waits:
        return _without_waits(played)
    resolution = _resolution(rig, waits)
    long = [wait for wait in waits if wait.told > wait.most + resolution]
    if long:
        says = f"told to wait {long[0].told:g} s, when the unit was free after {long[0].most:.6f} s at the most"
        return Finding(Verdict.FAILED, says, history, long[0].record)
    if all(wait.most - wait.least > 0.2 for wait in waits):
        return Finding(Verdict.UNDECIDED, "the answers took too long to hold the waits against them", history)
    off = max(wait.told - wait.least for wait in waits)
    return Finding(Verdict.PASSED, f"{len(waits)} waits, {off:.6f} s too long at the most", history, waits[-1].record)


@case(
    "honesty/wait/exact",
    "The wait is exact: denied an instant before it ends, allowed when it ends.",
    Line.CORRECTNESS,
    Need.WAIT_TOLD,
    Need.MOVED_CLOCK,
    Need.MADE_HERE,
)
def exact_wait(rig: Rig) -> Finding:
    limit, window = 3, 8.0
    worker, key = rig.worker(limit=limit, window=window, clock="moved"), rig.key()
    steps = [ask(at, key, verb="take") for at in (0.0, 1.5, 2.25, 3.0, 5.125, 7.875)]
    played = worker.play(steps)
    history = rig.history(played, limit=limit, window=window)
    denials = [record for record in history.records if record.allowed is False]
    failure = raised(played)
    if failure or not denials:
        return failure or Finding(Verdict.UNDECIDED, "nothing was denied", history)
    for record in denials:
        wait, told = window - record.start, record.retry_after
        if told is None or math.isinf(told):
            return Finding(Verdict.FAILED, f"a denial told no wait; the true one was {wait:g} s", history, record)
        rounded = told == int(told)
        if not (abs(told - wait) <= 1e-6 or (rounded and told == math.ceil(wait))):
            says = f"told to wait {told:.9g} s; the true wait was {wait:g} s"
            return Finding(Verdict.FAILED, says, history, record)
    return Finding(Verdict.PASSED, f"{len(denials)} waits, none off by a microsecond", history, denials[-1])


@case(
    "honesty/wait/cost",
    "The wait of a dearer request is its own: until as many units are free as it costs.",
    Line.CORRECTNESS,
    Need.WAIT_TOLD,
    Need.MOVED_CLOCK,
    Need.COST,
    Need.MADE_HERE,
)
def wait_for_a_cost(rig: Rig) -> Finding:
    limit, window, key = 4, 8.0, rig.key()
    if not (rig.survey.abilities.take_cost or not rig.survey.abilities.take):
        return Finding(Verdict.PASSED, "take() takes no cost, so it tells no wait for one")
    worker = rig.worker(limit=limit, window=window, clock="moved")
    steps: list[Step] = [ask(float(at), key) for at in range(limit)]
    steps.append(ask(4.0, key, cost=3, verb="take"))
    played = worker.play(steps)
    history = rig.history(played, limit=limit, window=window)
    failure = raised(played)
    last, wait = history.records[-1], 6.0  # the third of the oldest units leaves at 10 s
    if failure or last.allowed is not False:
        return failure or Finding(Verdict.FAILED, "a cost of 3 was allowed on a full key", history, last)
    if last.retry_after is None or abs(last.retry_after - wait) > 1e-6:
        says = f"a cost of 3 was told to wait {last.retry_after} s; 3 units are free after {wait:g} s"
        if not rig.survey.abilities.take:
            return Finding(Verdict.PASSED, "retry_after() is asked for one unit, so it tells no wait for a cost")
        return Finding(Verdict.FAILED, says, history, last)
    return Finding(Verdict.PASSED, f"a cost of 3 was told to wait {wait:g} s", history, last)


@case("honesty/wait/header", "A 429 tells in Retry-After how long to wait.", Line.CORRECTNESS, Need.HTTP)
def header(rig: Rig) -> Finding:
    played = rig.worker().play([ask(0, rig.key(), rig.limit + 3, verb="take")])
    history = rig.history(played)
    denied = [record for record in history.records if record.allowed is False]
    without = [record for record in denied if record.retry_after is None]
    if not denied:
        return raised(played) or Finding(Verdict.UNDECIDED, "nothing was denied", history)
    if without:
        says = f"{len(without)} of {len(denied)} responses with status 429 had no Retry-After in seconds, nor a date"
        return Finding(Verdict.FAILED, says, history, without[0])
    zero = [record for record in denied if not record.retry_after]
    if zero:
        return Finding(Verdict.FAILED, "Retry-After of 0: a client told so is denied again", history, zero[0])
    return Finding(Verdict.PASSED, f"{len(denied)} responses with status 429, each with one", history, denied[-1])


# What remains


@case(
    "honesty/remaining/true",
    "The units said to remain are those that could still be taken.",
    Line.CORRECTNESS,
    Need.REMAINING_TOLD,
    Need.MADE_HERE,
)
def remaining(rig: Rig) -> Finding:
    played = rig.worker(window=_LONG).play([ask(0, rig.key(), rig.limit + 2, verb="take")])
    history = rig.history(played, window=_LONG)
    for number, record in enumerate(history.records, 1):
        left = max(0, rig.limit - number)
        if record.remaining is not None and record.remaining != left:
            says = f"after {number} requests {record.remaining} units were said to remain; it was {left}"
            return Finding(Verdict.FAILED, says, history, record)
    return raised(played) or exact(history, played, denied=2, says=f"from {rig.limit - 1} down to 0, and never below")


@case("honesty/peek/free", "To peek takes nothing.", Line.CORRECTNESS, Need.PEEK, Need.MADE_HERE)
def peek(rig: Rig) -> Finding:
    key, limit = rig.key(), rig.limit
    looks = [ask(0, key, limit + 2, verb="peek")]
    played = rig.worker(window=_LONG).play([*looks, ask(0, key, limit), *looks, ask(0, key)])
    history = rig.history(played, window=_LONG)
    taken = History(limit, _LONG, history.records[limit + 2 : 2 * limit + 2] + history.records[-1:], history.about)
    wanted = [True] * limit + [False]
    return expected(taken, wanted, played, says=f"after {limit + 2} peeks the whole limit was left")
