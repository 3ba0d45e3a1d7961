"""In memory, one thread: a hot key, a saturated one, a full log, and many keys; beside floors and peers."""

from __future__ import annotations

import time
from collections.abc import Callable

from contenders.contender import MANY, Contender, peers
from contenders.floors import DEQUE, FLOOR, BareDeque
from contenders.memory import OURS, TASKS, floors, in_memory, of_limits, ours
from rounds import Run, Spread
from trial import Trial

from sluicegate import Limiter, SlidingWindow

TURN = 0.02  # seconds that a contender has in a round
REQUESTS = 20_000  # that a hot key takes in its window, of every contender: the logs grow to the same size

HOT = "in memory, one hot key, allowed"
SATURATED = "in memory, one hot key, saturated and denied"
FULL = "in memory, one full log of 10 000, at the pace of its limit"
WARM = "in memory, 100 000 keys in turn"

_AIM_FLOOR, _AIM_DEQUE = 1.5, 1.5


def run(trial: Trial) -> None:
    _hot(trial)
    _saturated(trial)
    _full(trial)
    _warm(trial)


def _hot(trial: Trial) -> None:
    with in_memory(MANY, 3600) as contenders:
        runs = {each.name: trial.afresh(each, 5_000 if trial.quick else REQUESTS) for each in contenders}
        spreads = trial.measured(HOT, runs)
    trial.report.table(HOT, FLOOR, spreads, exactness(contenders))
    own = spreads[OURS]
    trial.report.aim(f"{HOT}: time of `allow`, times {FLOOR}", "", own.times(spreads[FLOOR]), most=_AIM_FLOOR)
    for which, some, least in (
        ("the fastest exact peer", [each for each in peers(contenders) if each.exact], 12),
        ("the fastest peer of any algorithm", peers(contenders), 1),
    ):
        name = fastest(some, spreads)
        trial.report.aim(
            f"{HOT}: decisions of `allow`, times those of {which}", "", spreads[name].times(own), least=least, to=name
        )


def _saturated(trial: Trial) -> None:
    limit = 100
    with in_memory(limit, 3600) as made:
        contenders = [each for each in made if each.name != "aiolimiter"]  # it never denies
        for each in contenders:
            if each.name != FLOOR:
                trial.filled(each, "alice", limit)
        runs = {each.name: trial.repeated(each, ["alice"], TURN) for each in contenders}
        spreads = trial.measured(SATURATED, runs)
    trial.report.table(SATURATED, FLOOR, spreads, exactness(contenders))
    _beside_a_deque(trial, SATURATED, spreads)


def _full(trial: Trial) -> None:
    makers: dict[str, Callable[[int, float], Callable[[str], bool]]] = {
        DEQUE: lambda limit, window: BareDeque(limit, window).allow,
        OURS: lambda limit, window: Limiter(SlidingWindow(limit, window=window)).allow,
    }
    contenders = [*floors(MANY, 3600)[:1], *(each for each in ours(MANY, 3600) if each.name == OURS)]
    runs = {FLOOR: trial.repeated(contenders[0], ["alice"], TURN)}
    runs |= {name: _at_its_pace(make) for name, make in makers.items()}
    spreads = trial.measured(FULL, runs)
    trial.report.table(FULL, FLOOR, spreads, exactness(contenders))
    _beside_a_deque(trial, FULL, spreads)


def _at_its_pace(make: Callable[[int, float], Callable[[str], bool]], limit: int = 10_000) -> Run:
    """Choose the window that the calls fill as fast as they leave it: each takes one in, and one leaves."""
    each = 1e-6
    for _ in range(3):
        full = _full_log(make(limit, round(each * limit, 6)), limit)
        each = full()
    return full


def _full_log(call: Callable[[str], bool], limit: int) -> Run:
    def run() -> float:
        for _ in range(limit + limit // 2):  # what the last turn left is gone, and it fills anew
            call("alice")
        began = time.perf_counter()
        for _ in range(2 * limit):
            call("alice")
        return (time.perf_counter() - began) / (2 * limit)

    return run


def _warm(trial: Trial) -> None:
    keys = [f"user-{n}" for n in range(10_000 if trial.quick else 100_000)]
    contenders = [*floors(MANY, 3600), *ours(MANY, 3600), *of_limits(MANY, 3600)]
    contenders = [each for each in contenders if each.name != TASKS]
    for each in contenders:
        for key in keys:
            each.call(key)
    runs = {each.name: trial.repeated(each, keys, 2 * TURN) for each in contenders}
    spreads = trial.measured(WARM, runs)
    trial.report.table(WARM, FLOOR, spreads, exactness(contenders))
    _beside_a_deque(trial, WARM, spreads)


def _beside_a_deque(trial: Trial, title: str, spreads: dict[str, Spread]) -> None:
    times = spreads[OURS].times(spreads[DEQUE])
    trial.report.aim(f"{title}: time of `allow`, times a {DEQUE}'s", "", times, most=_AIM_DEQUE)


def exactness(contenders: list[Contender]) -> dict[str, bool | None]:
    return {each.name: each.exact for each in contenders}


def fastest(contenders: list[Contender], spreads: dict[str, Spread]) -> str:
    """Return the name of the one with the lowest median."""
    return min((each.name for each in contenders), key=lambda name: spreads[name].median)
