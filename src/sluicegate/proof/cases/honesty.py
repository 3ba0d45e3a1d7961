"""Honesty: what a limiter tells beside yes and no is true."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import exact, raised
from sluicegate.proof.crew import Played, Step, Worker, ask, keep_asking
from sluicegate.proof.history import History, Record
from sluicegate.proof.need import Need
from sluicegate.proof.rig import Rig
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Finding, Verdict

_LONG = 60.0


# Waits


@dataclass(frozen=True, slots=True)
class _Wait:
    """A wait that was told, and what those were answered who asked again without a pause.

    Attributes:
        record: The denial that told it.
        told: Seconds.
        again: The requests after it, up to the first that was allowed: until then nobody took what was free.
    """

    record: Record
    told: float
    again: Sequence[Record]

    @property
    def broken(self) -> Record | None:
        """A request that was denied though the wait had certainly ended."""
        ends_by = self.record.end + self.told + 1e-6
        return next((r for r in self.again if r.allowed is False and r.start >= ends_by), None)

    @property
    def allowed(self) -> Record | None:
        """The first request that was allowed; the true wait had ended by then."""
        return self.again[-1] if self.again and self.again[-1].allowed else None


def _told(rig: Rig) -> tuple[History, Played, list[_Wait]]:
    """Fill keys bit by bit, let one more be told to wait, and go on asking until it is allowed."""
    window = max(rig.window, 3.0) if Need.MADE_HERE in rig.survey.met else rig.window
    pause, lanes = min(window / 150, 0.1), []
    for n, key in enumerate(rig.keys(4)):
        begin = n * 0.13
        told_at = begin + 0.5 * window
        fill = [ask(begin, key), ask(begin + 0.4 * window, key, rig.limit)]
        again = keep_asking(told_at + pause, begin + 1.15 * window, key, pause=pause)
        lanes.append([*fill, ask(told_at, key, verb="take"), again])
    played = rig.worker(window=window).play(*lanes)
    history = rig.history(played, window=window)
    waits = []
    for lane in lanes:
        mine = [record for record in history.records if record.key == lane[0].keys[0]]
        if len(mine) < rig.limit + 2:
            continue
        denied, later = mine[rig.limit + 1], mine[rig.limit + 2 :]
        if denied.allowed is False and denied.retry_after is not None:
            until = next((n for n, record in enumerate(later, 1) if record.allowed), len(later))
            waits.append(_Wait(denied, denied.retry_after, later[:until]))
    return history, played, waits


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
    for wait in waits:
        if wait.broken:
            after = wait.broken.start - wait.record.end
            says = f"told to wait {wait.told:g} s, and denied again when {after:.3f} s had passed"
            return Finding(Verdict.FAILED, says, history, wait.broken)
    if not all(wait.allowed for wait in waits):
        return raised(played) or Finding(Verdict.UNDECIDED, "some waits did not end while they were watched", history)
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
    # Retry-After tells whole seconds, or a date, which is whole seconds as well.
    resolution = 1.0 if Need.HTTP in rig.survey.met or _whole(wait.told for wait in waits) else 0.001
    gaps = []
    for wait in waits:
        if wait.allowed is None:
            continue
        after = wait.allowed.end - wait.record.start
        if wait.told > after + resolution:
            says = f"told to wait {wait.told:g} s, and allowed when {after:.3f} s had passed"
            return Finding(Verdict.FAILED, says, history, wait.allowed)
        gaps.append(wait.allowed.end - (wait.again[-2] if len(wait.again) > 1 else wait.record).start)
    if len(gaps) < len(waits) or max(gaps) > 0.25:
        return raised(played) or Finding(Verdict.UNDECIDED, "the ends of some waits could not be told", history)
    return Finding(Verdict.PASSED, f"{len(waits)} waits, none too long", history, waits[-1].record)


def _whole(told: Iterable[float]) -> bool:
    return all(wait == int(wait) for wait in told if math.isfinite(wait))


@case(
    "honesty/wait/exact",
    "The wait is exact: denied an instant before it ends, allowed when it ends.",
    Line.CORRECTNESS,
    Need.WAIT_TOLD,
    Need.MOVED_CLOCK,
    Need.MADE_HERE,
)
def exact_wait(rig: Rig) -> Finding:
    worker = rig.worker(limit=3, window=8.0, clock="moved")
    # At 7.875 s the three keys have different waits, and none of them a whole second.
    keys = dict(zip(rig.keys(3), (0.0, 2.125, 5.0), strict=True))
    fill = [ask(begin + at, key) for key, begin in keys.items() for at in (0.0, 1.5, 2.25)]
    return _held_to_their_ends(rig, worker, fill, [ask(7.875, key, verb="take") for key in keys])


@case(
    "honesty/wait/cost",
    "The wait of a dearer request is its own: until as many units are free as it costs.",
    Line.CORRECTNESS,
    Need.WAIT_TOLD,
    Need.MOVED_CLOCK,
    Need.COST,
    Need.TAKE_COST,
    Need.MADE_HERE,
)
def wait_for_a_cost(rig: Rig) -> Finding:
    worker, key = rig.worker(limit=4, window=8.0, clock="moved"), rig.key()
    fill = [ask(at, key) for at in (0.125, 1.125, 2.125, 3.125)]
    return _held_to_their_ends(rig, worker, fill, [ask(4.0, key, cost=3, verb="take")])


def _held_to_their_ends(rig: Rig, worker: Worker, fill: Sequence[Step], takes: Sequence[Step]) -> Finding:
    """Let some be told to wait, and ask again just before each wait ends, and when it ends."""
    first = worker.play(sorted([*fill, *takes], key=lambda step: step.at))
    history = rig.history(first, limit=4, window=8.0)
    denials = {record.key: record for record in history.records[-len(takes) :]}
    failure = raised(first)
    if failure:
        return failure
    for denial in denials.values():
        if denial.allowed is not False:
            return Finding(Verdict.UNDECIDED, "nothing was denied", history, denial)
        if denial.retry_after is None or math.isinf(denial.retry_after):
            return Finding(Verdict.FAILED, "a denial told no wait, or one for ever", history, denial)
    told = {key: record.retry_after or 0.0 for key, record in denials.items()}
    # Where whole seconds are told, an instant is one of them.
    instant = 1.0 if _whole(told.values()) else 1e-6
    asks = [(wait - early, take) for take in takes for wait in [told[take.keys[0]]] for early in (instant, 0.0)]
    steps = [ask(max(0.0, at), take.keys[0], cost=take.cost) for at, take in sorted(asks, key=lambda each: each[0])]
    again = worker.play(steps)
    seen: dict[str, list[Record]] = {key: [] for key in told}
    for record in again.records:
        seen[record.key].append(record)
    for key, (before, at_the_end) in seen.items():
        cost = f" for a cost of {before.cost}" if before.cost > 1 else ""
        if before.allowed:
            says = f"told to wait {told[key]:.9g} s{cost}, and allowed {instant:g} s before its end"
            return Finding(Verdict.FAILED, says, history, denials[key])
        if not at_the_end.allowed:
            says = f"told to wait {told[key]:.9g} s{cost}, and denied at its end"
            return Finding(Verdict.FAILED, says, history, denials[key])
    says = f"{len(told)} told: denied {instant:g} s before the end, and allowed at it"
    return raised(again) or Finding(Verdict.PASSED, says, history, history.records[-1])


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
    looks = ask(0, key, limit + 2, verb="peek")
    played = rig.worker(window=_LONG).play([looks, ask(0, key, limit), looks, ask(0, key)])
    says = f"after {limit + 2} peeks the whole limit was left, and after as many more nothing was given back"
    return exact(rig.history(played, window=_LONG), played, denied=1, says=says)
