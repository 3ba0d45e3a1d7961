"""Cases on correctness: at most N in any window and no denial while there is room, up to the edges of the window."""

from __future__ import annotations

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import (
    answers_exact,
    answers_match_model,
    failure_if_raised,
    limit_kept,
    limit_not_exceeded,
    unless_raised,
    unless_stalled,
    worst,
)
from sluicegate.proof.cases.moving import MovedClock
from sluicegate.proof.environment import Environment
from sluicegate.proof.history import History
from sluicegate.proof.judge import never_under, owed
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import ScenarioResult, Step, call, keep_calling

_LONG = 60.0
"""A window in seconds that does not end while a case runs."""

_MONTHS = 1e7
"""Four months in seconds."""

_DAY = 86400.0

_EIGHTH = 0.125
"""Times on manual clocks are multiples of this, in seconds: exact in any unit a limiter counts in but whole seconds."""


@case(
    "correctness/answer/bool",
    "allow() returns True or False, and nothing else.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
    Requirement.PROCESS,
)
def answers_bool(env: Environment) -> Finding:
    result = env.worker(window=_LONG).run([call(0, env.key(), env.limit + 2)])
    if result.unexpected:
        value, times = next(iter(result.unexpected.items()))
        return Finding(CaseVerdict.FAILED, f"allow() returned {value} ({times} times); expected True or False")
    return failure_if_raised(result) or Finding(
        CaseVerdict.PASSED, f"{len(result.records)} answers, each True or False"
    )


# Limit


@case("correctness/limit/exact", "A fresh key is allowed N requests, and not one more.", RubricLine.CORRECTNESS)
def exactly_the_limit(env: Environment) -> Finding:
    result = env.worker().run([call(0, key, env.limit + 3) for key in env.keys(3)])
    return answers_exact(
        env.history(result), result, denied=9, says=f"{env.limit} allowed, then denied, for each of 3 keys"
    )


@case(
    "correctness/limit/one",
    "With N = 1 the first request is allowed and the second is denied.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def one(env: Environment) -> Finding:
    result = env.worker(limit=1, window=_LONG).run([call(0, key, 2) for key in env.keys(3)])
    return answers_exact(
        env.history(result, limit=1, window=_LONG),
        result,
        denied=3,
        says="one allowed, then denied, for each of 3 keys",
    )


@case(
    "correctness/limit/large", "A limit of 1000 is enforced exactly.", RubricLine.CORRECTNESS, Requirement.CONSTRUCTOR
)
def large(env: Environment) -> Finding:
    result = env.worker(limit=1000, window=_LONG).run([call(0, env.key(), 1010)], lasts=10)
    return answers_exact(
        env.history(result, limit=1000, window=_LONG), result, denied=10, says="1000 allowed, then 10 denied"
    )


# Edges


@case(
    "correctness/edge/before",
    "A request counts for the whole of T: just before T has passed, it still counts.",
    RubricLine.CORRECTNESS,
)
def before_the_edge(env: Environment) -> Finding:
    result = env.worker().run(
        *(
            [call(begin, key, env.limit), *(call(begin + env.window * share, key) for share in (0.8, 0.9, 0.96))]
            for begin, key in _phases(env, 5)
        )
    )
    return answers_exact(
        env.history(result),
        result,
        denied=15,
        says="denied until 96 % of a window had passed, at five phases of the clock",
    )


@case(
    "correctness/edge/after",
    "Just after a request has left the window, its unit is free again.",
    RubricLine.CORRECTNESS,
)
def after_the_edge(env: Environment) -> Finding:
    late = env.window + 0.04 + 0.005 * env.window
    result = env.worker().run(
        *([call(begin, key, env.limit), call(begin + late, key)] for begin, key in _phases(env, 5)), lasts=1
    )
    return answers_exact(
        env.history(result),
        result,
        denied=0,
        says="allowed as soon as the window had passed, at five phases of the clock",
    )


def _phases(env: Environment, number: int) -> list[tuple[float, str]]:
    """Return start times spread over a second of the clock, or over a shorter window, each with a key."""
    spread = min(1.0, env.window)
    return [(n * spread / number, key) for n, key in enumerate(env.keys(number))]


@case(
    "correctness/edge/at",
    "The window is half-open: exactly T after a request its unit is free, and not an instant before.",
    RubricLine.CORRECTNESS,
    Requirement.MANUAL_CLOCK,
    Requirement.CONSTRUCTOR,
)
def at_the_edge(env: Environment) -> Finding:
    window, limit = 8.0, 3
    worker, key = env.worker(limit=limit, window=window, clock="manual"), env.key()
    times = ((0.0, 1), (1.0, 1), (2.5, 2), (8.0 - _EIGHTH, 1), (8.0, 2), (9.0 - _EIGHTH, 1), (9.0, 2), (10.5, 2))
    steps = [call(at, key, number) for at, number in times]
    result = worker.run(steps)
    history = env.history(result, limit=limit, window=window)
    return answers_match_model(
        history,
        result,
        steps=steps,
        says="each unit was free exactly a window after it was taken",
    )


# Windows


@case(
    "correctness/window/any-phase",
    "A window may begin at any moment: N requests late in one clock window and N early in the next are too many.",
    RubricLine.CORRECTNESS,
)
def any_phase(env: Environment) -> Finding:
    window, number = env.window, 8
    clients = [
        [call(begin, key, env.limit), keep_calling(begin, begin + 0.97 * window, key, pause=window / 80)]
        for begin, key in ((n * window / number, key) for n, key in enumerate(env.keys(number)))
    ]
    result = env.worker().run(*clients)
    return _called_throughout(env, limit_not_exceeded(env.history(result), result), result)


@case(
    "correctness/window/late-burst",
    "A window does not begin with a key's first request: one request early, N - 1 late and N after that are too many.",
    RubricLine.CORRECTNESS,
)
def late_burst(env: Environment) -> Finding:
    window, limit = env.window, env.limit
    clients = []
    for begin, key in _phases(env, 4):
        late = begin + 0.85 * window
        burst = [call(late, key, limit - 1)] if limit > 1 else []
        after = [
            call(begin + 1.05 * window, key, limit),
            keep_calling(begin + 1.06 * window, late + 0.97 * window, key, pause=window / 80),
        ]
        clients.append([call(begin, key), *burst, *after])
    result = env.worker().run(*clients)
    return _called_throughout(env, limit_not_exceeded(env.history(result), result), result)


def _called_throughout(env: Environment, finding: Finding, result: ScenarioResult) -> Finding:
    # A machine that stalls makes too few calls to show a fault.
    calls = len(result.records)
    if finding.verdict is CaseVerdict.PASSED and calls < 4 * (env.limit + 20):
        return Finding(CaseVerdict.UNDECIDED, f"only {calls} requests could be sent in time", finding.history)
    return finding


@case(
    "correctness/window/model",
    "Whenever requests arrive, every answer matches an exact sliding window.",
    RubricLine.CORRECTNESS,
    Requirement.MANUAL_CLOCK,
    Requirement.CONSTRUCTOR,
)
def model(env: Environment) -> Finding:
    limit, window = min(env.limit, 20), 4.0
    worker = env.worker(limit=limit, window=window, clock="manual")
    steps: list[Step] = []
    now = 0.0
    keys = env.keys(3)
    for n in range(1500):
        # Half-way four months pass: a clock that is kept in too few bits has become coarse by then.
        now += _MONTHS if n == 750 else _EIGHTH * env.random.choice((0, 0, 0, 1, 1, 2, 3, 8, 31, 32, 33))
        steps.append(call(now, env.random.choice(keys), env.random.choice((1, 1, 1, 2, limit))))
    result = worker.run(steps)
    history = env.history(result, limit=limit, window=window)
    return answers_match_model(
        history,
        result,
        steps=steps,
        says=f"{len(history.records)} answers, all of them right",
    )


@case(
    "correctness/window/random",
    "Whenever requests arrive, every answer matches an exact sliding window, as seen from outside in real time.",
    RubricLine.CORRECTNESS,
)
def in_real_time(env: Environment) -> Finding:
    limit, window = env.limit, env.window
    clients = []
    for key in env.keys(6):
        at, client = env.random.uniform(0, window / 2), []
        while at < 2.6 * window:
            client.append(call(at, key, env.random.choice((1, 1, 2, limit, limit + 2))))
            at += window * env.random.choice((0.01, 0.05, 0.1, 0.3, 0.6, 0.95))
        clients.append(client)
    result = env.worker().run(*clients, lasts=window)
    return limit_kept(env.history(result), result)


@case(
    "correctness/window/fractional",
    "A window of a quarter of a second works.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def fractional(env: Environment) -> Finding:
    limit, window = 3, 0.25
    worker = env.worker(limit=limit, window=window)
    clients = [
        [call(begin, key, limit), call(begin + 0.18, key), call(begin + 0.22, key), call(begin + 0.29, key, limit)]
        for begin, key in ((n * 0.31, key) for n, key in enumerate(env.keys(4)))
    ]
    result = worker.run(*clients)
    history = env.history(result, limit=limit, window=window)
    return answers_exact(
        history, result, denied=8, says="denied until a quarter of a second had passed, and allowed after it"
    )


@case("correctness/window/long", "A window of an hour lasts an hour.", RubricLine.CORRECTNESS, Requirement.CONSTRUCTOR)
def long(env: Environment) -> Finding:
    limit, window = 3, 3600.0
    key = env.key()
    if Requirement.MANUAL_CLOCK in env.survey.met:
        times = (0.0, 1.0, 59.0, 60.0, 61.0, 600.0, 1800.0, 3599.0, 3600.0, 3601.0)
        steps = [call(at, key, limit) for at in times]
        result = env.worker(limit=limit, window=window, clock="manual").run(steps)
        history = env.history(result, limit=limit, window=window)
        return answers_match_model(history, result, steps, "held for an hour, and free after it")
    client = [call(0, key, limit), keep_calling(0.1, 2.5, key, pause=0.1)]
    result = env.worker(limit=limit, window=window).run(client)
    history = env.history(result, limit=limit, window=window)
    return answers_exact(history, result, denied=15, says="held for the 2.5 s of the test")


@case(
    "correctness/window/odd",
    "A window need not be a whole number of seconds: 1.4, 1.5 and 2.5 s last as long as they say.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def odd(env: Environment) -> Finding:
    limit, findings, running = 3, [], []
    for window in (1.4, 1.5, 2.5):
        key = env.key()
        early = 0.3 * window
        client = [
            call(0, key),
            call(early, key, limit - 1),
            keep_calling(0.6 * window, 0.97 * window, key, pause=window / 60),
            call(1.02 * window, key),
            keep_calling(1.03 * window, early + 0.97 * window, key, pause=window / 60),
        ]
        worker = env.worker(limit=limit, window=window)
        worker.start(client)
        running.append((window, worker))
    for window, worker in running:
        result = worker.result()
        findings.append(limit_kept(env.history(result, limit=limit, window=window), result))
    return worst(*findings)


@case(
    "correctness/window/days",
    "A window of days lasts as many days as it says.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def days(env: Environment) -> Finding:
    limit, findings = 3, []
    for number in (2, 30):
        window, key = number * _DAY, env.key()
        if Requirement.MANUAL_CLOCK in env.survey.met:
            shares = (60.0, 3600.0, _DAY, 0.5 * window, window - 1, window)
            steps = [call(at, key, limit) for at in (0.0, *shares)]
            result = env.worker(limit=limit, window=window, clock="manual").run(steps)
            history = env.history(result, limit=limit, window=window)
            findings.append(answers_match_model(history, result, steps, f"held for {number} days, and free after them"))
        else:
            client = [call(0, key, limit), keep_calling(0.1, 1.5, key, pause=0.1)]
            result = env.worker(limit=limit, window=window).run(client)
            history = env.history(result, limit=limit, window=window)
            findings.append(answers_exact(history, result, denied=5, says="held for the 1.5 s of the test"))
    return worst(*findings)


@case(
    "correctness/window/ends",
    "Ten thousand requests that were made at once leave the window at once, and their units are free.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def ends_at_once(env: Environment) -> Finding:
    clock, limit, window, key = MovedClock(env), 10_000, 3600.0, env.key()
    worker = clock.worker(limit, window)
    filled = worker.run([call(0, key, limit - 1)], lasts=45)
    clock.pass_(worker, 0.6 * window)
    later = [worker.run([call(0, key)])]  # so that there is a log from which the others must be taken
    clock.pass_(worker, 0.6 * window)
    later.append(worker.run([call(0, key, 20)]))
    raised = failure_if_raised(filled, *later)
    history = env.history(filled, *later, limit=limit, window=window, save=False)
    if raised or filled.cut:
        return raised or Finding(CaseVerdict.UNDECIDED, "the target took too long: some calls were not made", history)
    denied = next((record for each in later for record in each.records if not record.allowed), None)
    if denied:
        says = f"a request was denied though all but one of {len(filled.records)} others had left the window"
        return unless_stalled(Finding(CaseVerdict.FAILED, says, history, denied), *later)
    return Finding(
        CaseVerdict.PASSED, f"{len(filled.records)} requests left the window, and others were allowed", history
    )


# Denials, rates


_MANY, _MANY_REQUESTS = 700, 300
"""Denials in a row, of a limiter and of a service: some punish those who try so often, each time for longer."""


@case(
    "correctness/denied/free",
    "A denied request takes nothing: a caller that keeps trying is allowed as soon as one that waits.",
    RubricLine.CORRECTNESS,
)
def denials_are_free(env: Environment) -> Finding:
    window, many = env.window, _MANY if Requirement.PROCESS in env.survey.met else _MANY_REQUESTS
    clients = [
        [
            call(begin, key, env.limit),
            call(begin + 0.4 * window, key, many),
            keep_calling(begin + 0.4 * window, begin + 1.2 * window, key, pause=window / 40),
            call(begin + 1.25 * window, key),
        ]
        for begin, key in _phases(env, 3)
    ]
    result = env.worker().run(*clients)
    history = env.history(result)
    finding = unless_raised(never_under(history), result)
    if finding.verdict is CaseVerdict.PASSED and not _tried_after_denials(history):
        return Finding(
            CaseVerdict.UNDECIDED, "for some keys no request was made at a time when it had to be allowed", history
        )
    return finding


def _tried_after_denials(history: History) -> bool:
    """Tell whether each key had a denial that was certainly right, and later a request that certainly had room."""
    answers = owed(history.records, history.limit, history.window)
    for key in {record.key for record in history.records}:
        mine = [each for each in answers if each.record.key == key]
        denied = next((n for n, each in enumerate(mine) if each.answer is False and each.record.allowed is False), None)
        if denied is None or not any(each.answer for each in mine[denied:]):
            return False
    return True


@case("correctness/rate/steady", "Steady demand gets the full rate.", RubricLine.CORRECTNESS)
def steady(env: Environment) -> Finding:
    window = env.window
    limit = min(env.limit, 100) if Requirement.CONSTRUCTOR in env.survey.met else env.limit
    pause = max(window / (3 * limit), 0.001)
    result = env.worker(limit=limit).run(
        *([keep_calling(begin, begin + 3 * window, key, pause=pause)] for begin, key in _phases(env, 3))
    )
    history = env.history(result, limit=limit)
    return unless_raised(never_under(history), result)
