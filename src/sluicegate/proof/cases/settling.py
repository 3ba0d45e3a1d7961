"""Cases on settling: a reservation takes an estimate, and ends with what was used."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import unless
from sluicegate.proof.cases.story import Part, compared, steps_of
from sluicegate.proof.environment import Environment
from sluicegate.proof.history import Record
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import Finding
from sluicegate.proof.workers import call

_LIMIT = 5
_LONG = 60.0


def _reserve(key: str, cost: int, answer: str = "a") -> Part:
    return Part([call(0, key, cost=cost, verb="reserve")], answer)


def _settle(key: str, used: int) -> Part:
    return Part([call(0, key, cost=used, verb="settle")])


def _cancel(key: str) -> Part:
    return Part([call(0, key, verb="cancel")])


def _room_for(key: str, units: int, at: float = 0.0) -> Part:
    """Take as many units as are left, one by one, and see that there is not one more."""
    return Part([call(at, key, units + 1)], "a" * units + "d")


def _story(env: Environment, says: str, *parts: Part) -> Finding:
    """Make the calls of a story one after the other, and compare each answer with the only right one."""
    result = env.worker(limit=_LIMIT, window=_LONG).run(steps_of(parts), lasts=5)
    history = env.history(result, limit=_LIMIT, window=_LONG, save=False)
    return compared(history, result, parts, says)


@case(
    "correctness/settle/gives-back",
    "What was reserved and not used comes back when the reservation is settled.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
)
def gives_back(env: Environment) -> Finding:
    key = env.key()
    says = "5 of 5 were reserved and 2 used, so 3 were left"
    return _story(env, says, _reserve(key, 5), _room_for(key, 0), _settle(key, 2), _room_for(key, 3))


@case(
    "correctness/settle/above",
    "What was used beyond the reservation is charged when it is settled.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
)
def above(env: Environment) -> Finding:
    key = env.key()
    says = "2 of 5 were reserved and 4 used, so 1 was left"
    return _story(env, says, _reserve(key, 2), _settle(key, 4), _room_for(key, 1))


@case(
    "correctness/settle/cancelled",
    "A cancelled reservation gives back all that it took, once, and nothing if it was denied.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
)
def cancelled(env: Environment) -> Finding:
    key, full = env.keys(2)
    says = "3 of 5 were reserved and cancelled twice, so 5 were left; a denied reservation of a full key gave back none"
    first = [_reserve(key, 3), _cancel(key), _cancel(key), _room_for(key, 5)]
    return _story(env, says, *first, _room_for(full, 5), _reserve(full, 3, "d"), _cancel(full), _room_for(full, 0))


@case(
    "correctness/settle/once",
    "A reservation is settled once: a second time gives nothing back.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
)
def once(env: Environment) -> Finding:
    key = env.key()
    says = "3 of 5 were reserved and settled with 1 twice, while another 2 were taken, so 2 were left"
    taken = Part([call(0, key, 2)], "aa")
    return _story(env, says, _reserve(key, 3), taken, _settle(key, 1), _settle(key, 1), _room_for(key, 2))


@case(
    "correctness/settle/late",
    "When its window has passed, a reservation gives nothing back, whether it is settled then or was cancelled before.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
)
def late(env: Environment) -> Finding:
    (key, other), manual = env.keys(2), Requirement.MANUAL_CLOCK in env.survey.met
    window = _LONG if manual else 2.0
    says = (
        "of one key 5 of 5 were reserved, of another 3, cancelled, and later 2 taken; a window after the start 5 and 3 "
        "were free, and settling the first with none used gave nothing back"
    )
    taken = Part([call(0.5 * window, other, 2)], "aa")
    early = [_reserve(key, 5), _reserve(other, 3), _cancel(other), taken]
    after = [_room_for(key, 5, at=1.05 * window), _room_for(other, 3), _settle(key, 0), _room_for(key, 0)]
    parts = [*early, *after]
    worker = env.worker(limit=_LIMIT, window=window, clock="manual" if manual else "real")
    result = worker.run(steps_of(parts), lasts=5)
    history = env.history(result, limit=_LIMIT, window=window, save=False)
    finding = compared(history, result, parts, says)
    return unless(finding, "" if _in_time(history.records, window) else "the calls came too late")


def _in_time(records: Sequence[Record], window: float) -> bool:
    """Tell whether the later calls came when what was reserved had left the window, and what was taken had not."""
    if len(records) < 5:
        return False
    reserved, taken, later = records[0], records[2], records[4:]
    return later[0].start >= reserved.end + window and later[-1].end < taken.start + window


@case(
    "correctness/settle/own",
    "A cancelled reservation gives back its own units, not those that were taken since.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
    Requirement.MANUAL_CLOCK,
)
def own(env: Environment) -> Finding:
    key, window = env.key(), 8.0
    says = (
        "2 of 5 were reserved, 2 taken half a window later, and the reservation cancelled: those 2 counted for a window"
    )
    parts = [
        _reserve(key, 2),
        Part([call(window / 2, key, 2)], "aa"),
        _cancel(key),
        Part([call(1.25 * window, key, 4)], "aaad"),
        Part([call(1.5 * window, key, 3)], "aad"),
    ]
    result = env.worker(limit=_LIMIT, window=window, clock="manual").run(steps_of(parts))
    return compared(env.history(result, limit=_LIMIT, window=window, save=False), result, parts, says)


@case(
    "correctness/settle/moment",
    "What a reservation keeps counts from when it was reserved, not from when it was settled.",
    RubricLine.CORRECTNESS,
    Requirement.RESERVE,
    Requirement.CONSTRUCTOR,
    Requirement.MANUAL_CLOCK,
)
def moment(env: Environment) -> Finding:
    key, window = env.key(), 8.0
    says = "5 of 5 were reserved, half a window later 3 were used, and a window after the reservation all 5 were free"
    parts = [
        _reserve(key, 5),
        Part([call(window / 2, key, cost=3, verb="settle")]),
        Part([call(window - 0.125, key, 3)], "aad"),
        Part([call(window, key, 4)], "aaad"),
    ]
    result = env.worker(limit=_LIMIT, window=window, clock="manual").run(steps_of(parts))
    return compared(env.history(result, limit=_LIMIT, window=window, save=False), result, parts, says)
