"""Correctness: at most N in any window, and no denial where there is room, up to its very edges."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import exact, expected, kept, kept_below, raised
from sluicegate.proof.crew import Played, Step, ask, ask_each, keep_asking
from sluicegate.proof.history import History
from sluicegate.proof.judge import never_under, owed
from sluicegate.proof.need import Need
from sluicegate.proof.rig import Rig
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Finding, Verdict

_LONG = 60.0
"""A window, seconds, that no case lives to see the end of."""

_EIGHTH = 0.125
"""The grid of moved clocks, seconds: exact in every unit that a limiter may count in, whole seconds excepted."""


@case("correctness/answer/bool", "allow() answers True or False, and nothing else.", Line.CORRECTNESS, Need.MADE_HERE)
def answers_bool(rig: Rig) -> Finding:
    played = rig.worker(window=_LONG).play([ask(0, rig.key(), rig.limit + 2)])
    if played.odd:
        came, times = next(iter(played.odd.items()))
        return Finding(Verdict.FAILED, f"allow() answered {came} ({times} times); expected True or False")
    return raised(*[played]) or Finding(Verdict.PASSED, f"{len(played.records)} answers, each True or False")


# Limit


@case("correctness/limit/exact", "A fresh key is allowed N requests, and not one more.", Line.CORRECTNESS)
def exactly_the_limit(rig: Rig) -> Finding:
    played = rig.worker().play([ask(0, key, rig.limit + 3) for key in rig.keys(3)])
    return exact(rig.history(played), played, denied=9, says=f"{rig.limit} allowed, then denied, for each of 3 keys")


@case(
    "correctness/limit/one",
    "With N = 1 the first request is allowed and the second is not.",
    Line.CORRECTNESS,
    Need.MADE_HERE,
)
def one(rig: Rig) -> Finding:
    played = rig.worker(limit=1, window=_LONG).play([ask(0, key, 2) for key in rig.keys(3)])
    return exact(
        rig.history(played, limit=1, window=_LONG),
        played,
        denied=3,
        says="one allowed, then denied, for each of 3 keys",
    )


@case("correctness/limit/large", "A limit of 1000 is kept to the unit.", Line.CORRECTNESS, Need.MADE_HERE)
def large(rig: Rig) -> Finding:
    played = rig.worker(limit=1000, window=_LONG).play([ask(0, rig.key(), 1010)], lasts=10)
    return exact(rig.history(played, limit=1000, window=_LONG), played, denied=10, says="1000 allowed, then 10 denied")


# Edges


@case(
    "correctness/edge/before",
    "A request counts for the whole of T: just before its end it still does.",
    Line.CORRECTNESS,
)
def before_the_edge(rig: Rig) -> Finding:
    played = rig.worker().play(
        *(
            [ask(begin, key, rig.limit), *(ask(begin + rig.window * share, key) for share in (0.8, 0.9, 0.96))]
            for begin, key in _phases(rig, 5)
        )
    )
    return exact(
        rig.history(played),
        played,
        denied=15,
        says="denied until 96 % of a window had passed, from five phases of the clock",
    )


@case("correctness/edge/after", "Just after a request has left the window its unit is free again.", Line.CORRECTNESS)
def after_the_edge(rig: Rig) -> Finding:
    late = rig.window + 0.04 + 0.005 * rig.window
    played = rig.worker().play(
        *([ask(begin, key, rig.limit), ask(begin + late, key)] for begin, key in _phases(rig, 5)), lasts=1
    )
    return exact(
        rig.history(played),
        played,
        denied=0,
        says="allowed as soon as the window had passed, from five phases of the clock",
    )


def _phases(rig: Rig, number: int) -> list[tuple[float, str]]:
    """Spread beginnings over a second of the clock, or over a window where that is shorter; a key for each."""
    spread = min(1.0, rig.window)
    return [(n * spread / number, key) for n, key in enumerate(rig.keys(number))]


@case(
    "correctness/edge/at",
    "The window is half-open: exactly T after a request its unit is free, and not an instant before.",
    Line.CORRECTNESS,
    Need.MOVED_CLOCK,
    Need.MADE_HERE,
)
def at_the_edge(rig: Rig) -> Finding:
    window, limit = 8.0, 3
    worker, key = rig.worker(limit=limit, window=window, clock="moved"), rig.key()
    times = ((0.0, 1), (1.0, 1), (2.5, 2), (8.0 - _EIGHTH, 1), (8.0, 2), (9.0 - _EIGHTH, 1), (9.0, 2), (10.5, 2))
    steps = [ask(at, key, number) for at, number in times]
    played = worker.play(steps)
    history = rig.history(played, limit=limit, window=window)
    return expected(
        history,
        played,
        steps=steps,
        says="each unit was free exactly a window after it was taken",
    )


# Windows


@case(
    "correctness/window/any-phase",
    "T may begin anywhere: N late in one window and N early in the next are too many.",
    Line.CORRECTNESS,
)
def any_phase(rig: Rig) -> Finding:
    window, number = rig.window, 8
    lanes = [
        [ask(begin, key, rig.limit), keep_asking(begin, begin + 0.97 * window, key, pause=window / 80)]
        for begin, key in ((n * window / number, key) for n, key in enumerate(rig.keys(number)))
    ]
    played = rig.worker().play(*lanes)
    return _asked_throughout(rig, kept_below(rig.history(played), played), played)


@case(
    "correctness/window/late-burst",
    "A window does not begin with a key's first request: one early, N - 1 late and N after it are too many.",
    Line.CORRECTNESS,
)
def late_burst(rig: Rig) -> Finding:
    window, limit = rig.window, rig.limit
    lanes = []
    for begin, key in _phases(rig, 4):
        late = begin + 0.85 * window
        burst = [ask(late, key, limit - 1)] if limit > 1 else []
        after = [
            ask(begin + 1.05 * window, key, limit),
            keep_asking(begin + 1.06 * window, late + 0.97 * window, key, pause=window / 80),
        ]
        lanes.append([ask(begin, key), *burst, *after])
    played = rig.worker().play(*lanes)
    return _asked_throughout(rig, kept_below(rig.history(played), played), played)


def _asked_throughout(rig: Rig, finding: Finding, played: Played) -> Finding:
    # A machine that was held up asked too little to show anything.
    asked = len(played.records)
    if finding.verdict is Verdict.PASSED and asked < 4 * (rig.limit + 20):
        return Finding(Verdict.UNDECIDED, f"only {asked} requests could be sent in time", finding.history)
    return finding


@case(
    "correctness/window/model",
    "Whatever the arrivals, every answer is the exact window's.",
    Line.CORRECTNESS,
    Need.MOVED_CLOCK,
    Need.MADE_HERE,
)
def model(rig: Rig) -> Finding:
    limit, window = min(rig.limit, 20), 4.0
    worker = rig.worker(limit=limit, window=window, clock="moved")
    steps: list[Step] = []
    now = 0.0
    keys = rig.keys(3)
    for _ in range(1500):
        now += _EIGHTH * rig.random.choice((0, 0, 0, 1, 1, 2, 3, 8, 31, 32, 33))
        steps.append(ask(now, rig.random.choice(keys), rig.random.choice((1, 1, 1, 2, limit))))
    played = worker.play(steps)
    history = rig.history(played, limit=limit, window=window)
    return expected(
        history,
        played,
        steps=steps,
        says=f"{len(history.records)} answers, each as it should be",
    )


@case(
    "correctness/window/random",
    "Whatever the arrivals, every answer is the exact window's: in real time, from outside.",
    Line.CORRECTNESS,
)
def in_real_time(rig: Rig) -> Finding:
    limit, window = rig.limit, rig.window
    lanes = []
    for key in rig.keys(6):
        at, lane = rig.random.uniform(0, window / 2), []
        while at < 2.6 * window:
            lane.append(ask(at, key, rig.random.choice((1, 1, 2, limit, limit + 2))))
            at += window * rig.random.choice((0.01, 0.05, 0.1, 0.3, 0.6, 0.95))
        lanes.append(lane)
    played = rig.worker().play(*lanes, lasts=window)
    return kept(rig.history(played), played)


@case("correctness/window/fractional", "A window of a quarter of a second is one.", Line.CORRECTNESS, Need.MADE_HERE)
def fractional(rig: Rig) -> Finding:
    limit, window = 3, 0.25
    worker = rig.worker(limit=limit, window=window)
    lanes = [
        [ask(begin, key, limit), ask(begin + 0.18, key), ask(begin + 0.22, key), ask(begin + 0.29, key, limit)]
        for begin, key in ((n * 0.31, key) for n, key in enumerate(rig.keys(4)))
    ]
    played = worker.play(*lanes)
    history = rig.history(played, limit=limit, window=window)
    return exact(history, played, denied=8, says="denied until a quarter of a second had passed, and allowed after it")


@case("correctness/window/long", "A window of an hour holds for an hour.", Line.CORRECTNESS, Need.MADE_HERE)
def long(rig: Rig) -> Finding:
    limit, window = 3, 3600.0
    key = rig.key()
    if Need.MOVED_CLOCK in rig.survey.met:
        times = (0.0, 1.0, 59.0, 60.0, 61.0, 600.0, 1800.0, 3599.0, 3600.0, 3601.0)
        steps = [ask(at, key, limit) for at in times]
        played = rig.worker(limit=limit, window=window, clock="moved").play(steps)
        history = rig.history(played, limit=limit, window=window)
        return expected(history, played, steps, "held for an hour, and free after it")
    lane = [ask(0, key, limit), keep_asking(0.1, 2.5, key, pause=0.1)]
    played = rig.worker(limit=limit, window=window).play(lane)
    history = rig.history(played, limit=limit, window=window)
    return exact(history, played, denied=15, says="held for the 2.5 s that were looked at")


# Denials, keys, rates


@case(
    "correctness/denied/free",
    "A denied request takes nothing: who keeps asking is let in as soon as who waits.",
    Line.CORRECTNESS,
)
def denials_are_free(rig: Rig) -> Finding:
    window = rig.window
    lanes = [
        [
            ask(begin, key, rig.limit),
            keep_asking(begin, begin + 1.2 * window, key, pause=window / 40),
            ask(begin + 1.25 * window, key),
        ]
        for begin, key in _phases(rig, 3)
    ]
    played = rig.worker().play(*lanes)
    history = rig.history(played)
    finding = raised(played) or never_under(history)
    if finding.verdict is Verdict.PASSED and not _tried_after_denials(history):
        return Finding(Verdict.UNDECIDED, "for some keys no request came at a time when it had to be allowed", history)
    return finding


def _tried_after_denials(history: History) -> bool:
    """Tell whether each key was certainly denied with right, and then asked for when it certainly had room."""
    answers = owed(history.records, history.limit, history.window)
    for key in {record.key for record in history.records}:
        mine = [each for each in answers if each.record.key == key]
        denied = next((n for n, each in enumerate(mine) if each.answer is False and each.record.allowed is False), None)
        if denied is None or not any(each.answer for each in mine[denied:]):
            return False
    return True


_STRANGE = (
    "a", "A", "a:b", "a:b:c", "a/b", "a b", "a,b", "{a}", "{a}b", "a}", "*", "a*", "a%3Ab", "%", "a|b", "a\\b", "a'b",
    'a"b', "caf\u00e9", "cafe\u0301", "\u0430", "\U0001f600", "a\u200b", "0", "00", "None", "a.b", "a-b", "a_b", "[a]",
    "a;b", "a=b",
)  # fmt: skip


@case(
    "correctness/keys/apart",
    "Users do not share a limit, whatever is in their ids.",
    Line.CORRECTNESS,
)
def keys_apart(rig: Rig) -> Finding:
    mark = rig.key()
    names = [f"{mark}{text}" for text in _STRANGE] + [f"{text}{mark}" for text in ("a:", "{a}", "a/")]
    names += [f"{mark}{'x' * 150}{end}" for end in "12"]
    here = Need.MADE_HERE in rig.survey.met
    limit, window = (2, _LONG) if here else (rig.limit, rig.window)
    played = rig.worker(limit=limit, window=window).play(*([ask(0, name, limit + 1)] for name in names), lasts=2)
    # To refuse a strange id is not to mix it up with another: what never had an answer is left out.
    known = {record.key for record in played.records if record.allowed is not None}
    answered = Played([record for record in played.records if record.key in known])
    if len(known) < len(names) / 2:
        return raised(played) or Finding(Verdict.UNDECIDED, "too few of the ids were answered")
    refused = len(names) - len(known)
    history = rig.history(answered, limit=limit, window=window)
    says = f"{len(names)} ids, each with a limit of its own" + (f"; {refused} of them were refused" if refused else "")
    return exact(history, answered, denied=len(names) - refused, says=says)


@case(
    "correctness/keys/sprayed",
    "However many other keys come, one that was denied is not forgotten.",
    Line.CORRECTNESS,
    Need.MADE_HERE,
)
def keys_sprayed(rig: Rig) -> Finding:
    limit, key, others = 3, rig.key(), rig.keys(5000)
    spray = ask_each(0, others)
    played = rig.worker(limit=limit, window=_LONG).play([ask(0, key, limit + 1), spray, ask(0, key, 3)], lasts=30)
    mine = Played([record for record in played.records if record.key == key], played.errors)
    says = f"still denied after {len(others)} other keys"
    return exact(rig.history(mine, limit=limit, window=_LONG), mine, denied=4, says=says)


@case("correctness/rate/steady", "Steady demand is allowed the full rate.", Line.CORRECTNESS)
def steady(rig: Rig) -> Finding:
    window = rig.window
    pause = max(window / (3 * rig.limit), window / 300)
    played = rig.worker().play(
        *([keep_asking(begin, begin + 3 * window, key, pause=pause)] for begin, key in _phases(rig, 3))
    )
    history = rig.history(played)
    return raised(played) or never_under(history)


# Cost


def _charge(rig: Rig, limit: int, costs: Sequence[int], denied: int, says: str) -> Finding:
    key = rig.key()
    played = rig.worker(limit=limit, window=_LONG).play([ask(0, key, cost=cost) for cost in costs])
    return exact(rig.history(played, limit=limit, window=_LONG), played, denied=denied, says=says)


@case("correctness/cost/counted", "A request counts for what it costs.", Line.CORRECTNESS, Need.COST, Need.MADE_HERE)
def cost_counted(rig: Rig) -> Finding:
    return _charge(
        rig, 10, (3, 3, 3, 3, 2, 1, 1), 3, "after 3, 3 and 3 of 10 a cost of 3 was denied, and one of 1 allowed"
    )


@case(
    "correctness/cost/denied-free", "A denied dear request takes nothing.", Line.CORRECTNESS, Need.COST, Need.MADE_HERE
)
def dear_denials_are_free(rig: Rig) -> Finding:
    return _charge(
        rig, 10, (6, 5, 5, 5, 4, 1), 4, "after 6 of 10 a cost of 5 was denied three times, and one of 4 allowed"
    )


@case(
    "correctness/cost/above-limit",
    "A cost above the limit is denied, and takes nothing.",
    Line.CORRECTNESS,
    Need.COST,
    Need.MADE_HERE,
)
def cost_above_the_limit(rig: Rig) -> Finding:
    return _charge(rig, 5, (6, 1000, 5, 1), 3, "costs of 6 and 1000 of 5 were denied, and the whole limit was left")


@case(
    "correctness/cost/invalid",
    "A cost of 0 or below is refused or denied, and never gives units back.",
    Line.CORRECTNESS,
    Need.COST,
    Need.MADE_HERE,
)
def invalid_cost(rig: Rig) -> Finding:
    limit, key = 5, rig.key()
    bad = (-1, -5, 0)
    steps = [ask(0, key, limit), *(ask(0, key, cost=cost) for cost in bad), ask(0, key, limit)]
    played = rig.worker(limit=limit, window=_LONG).play(steps)
    given = next((record for record in played.records if record.cost <= 0 and record.allowed), None)
    if given:
        return Finding(Verdict.FAILED, f"a cost of {given.cost} was allowed; expected an error, or a denial")
    whole = Played([record for record in played.records if record.cost > 0])
    history = rig.history(whole, limit=limit, window=_LONG)
    if any(record.allowed is None for record in whole.records):
        return raised(played) or exact(history, denied=0, says="")
    return exact(history, denied=limit, says="after costs of -1, -5 and 0 on a full key it was still full")
