"""Cases on costs: a request takes as many units as it costs, and they come back together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import answers_exact, answers_match_model, failure_if_raised, limit_kept, worst
from sluicegate.proof.environment import Environment
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import Client, ScenarioResult, Step, call

_LONG = 60.0
_EIGHTH = 0.125  # seconds; exact on manual clocks


def _charge(env: Environment, limit: int, costs: Sequence[int], denied: int, says: str) -> Finding:
    key = env.key()
    result = env.worker(limit=limit, window=_LONG).run([call(0, key, cost=cost) for cost in costs])
    # A limiter may raise for a cost that never fits, as it does for other bad input: that is a refusal, too.
    fits = [record for record in result.records if record.cost <= limit or record.allowed is not None]
    if len(fits) < len(result.records) and all(record.allowed is not None for record in fits):
        result = ScenarioResult(fits)
        denied -= len(costs) - len(fits)
    return answers_exact(env.history(result, limit=limit, window=_LONG), result, denied=denied, says=says)


@case(
    "correctness/cost/counted",
    "A request counts as many units as it costs.",
    RubricLine.CORRECTNESS,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
)
def cost_counted(env: Environment) -> Finding:
    small = "after 3, 3 and 3 of 10 a cost of 3 was denied, and one of 1 allowed"
    large = "after 300, 300 and 300 of 1000 another 300 were denied"
    return worst(
        _charge(env, 10, (3, 3, 3, 3, 2, 1, 1), 3, small), _charge(env, 1000, (300, 300, 300, 300, 100, 1), 2, large)
    )


@case(
    "correctness/cost/denied-free",
    "A denied request with a cost takes nothing.",
    RubricLine.CORRECTNESS,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
)
def denied_costs_are_free(env: Environment) -> Finding:
    return _charge(
        env, 10, (6, 5, 5, 5, 4, 1), 4, "after 6 of 10 a cost of 5 was denied three times, and one of 4 allowed"
    )


@case(
    "correctness/cost/above-limit",
    "A cost above the limit is denied or refused, and takes nothing.",
    RubricLine.CORRECTNESS,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
)
def cost_above_the_limit(env: Environment) -> Finding:
    # Those of 256 and more are small ones to a limiter that keeps a cost in too few bits.
    costs = (6, 256, 258, 65_536, 65_539, 1000, 5, 1)
    return _charge(env, 5, costs, 7, "costs of 6 to 65 539 of 5 were not allowed, and the whole limit was left")


@case(
    "correctness/cost/invalid",
    "A negative cost is refused or denied; neither it nor a cost of 0 gives units back.",
    RubricLine.CORRECTNESS,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
)
def invalid_cost(env: Environment) -> Finding:
    limit, key = 5, env.key()
    bad = (-1, -5, 0)
    steps = [call(0, key, limit), *(call(0, key, cost=cost) for cost in bad), call(0, key, limit)]
    result = env.worker(limit=limit, window=_LONG).run(steps)
    given = next((record for record in result.records if record.cost < 0 and record.allowed), None)
    if given:
        return Finding(CaseVerdict.FAILED, f"a cost of {given.cost} was allowed; expected an error or a denial")
    whole = ScenarioResult([record for record in result.records if record.cost > 0])
    history = env.history(whole, limit=limit, window=_LONG)
    if any(record.allowed is None for record in whole.records):
        return failure_if_raised(replace(result, records=whole.records)) or answers_exact(history, denied=0, says="")
    return answers_exact(history, denied=limit, says="after costs of -1, -5 and 0 on a full key it was still full")


@case(
    "correctness/cost/model",
    "Whatever requests cost and whenever they arrive, every answer matches an exact sliding window.",
    RubricLine.CORRECTNESS,
    Requirement.MANUAL_CLOCK,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
)
def cost_model(env: Environment) -> Finding:
    limit, window = 10, 4.0
    steps: list[Step] = []
    now, keys = 0.0, env.keys(3)
    for n in range(1200):
        # So close together that a window holds several requests; and now and then as far apart as a window is long.
        now += _EIGHTH * env.random.choice((0, 1, 1, 2, 3, 5, 8, 32 if n % 20 == 0 else 1))
        cost = env.random.choice((1, 2, 3, 4, 4 if n % 20 else limit))
        steps.append(call(now, env.random.choice(keys), cost=cost))
    result = env.worker(limit=limit, window=window, clock="manual").run(steps)
    history = env.history(result, limit=limit, window=window)
    return answers_match_model(history, result, steps=steps, says=f"{len(history.records)} answers, all of them right")


@case(
    "correctness/cost/random",
    "Units that were taken together come back together, as seen from outside in real time.",
    RubricLine.CORRECTNESS,
    Requirement.COST,
    Requirement.CONSTRUCTOR,
)
def cost_in_real_time(env: Environment) -> Finding:
    limit, window = 10, max(0.8, min(env.window, 2.0))
    # Many small ones leave together, and then one that takes as much fits.
    together: list[Client] = [
        [call(0, key, limit - 1), call(0.5 * window, key), call(1.06 * window, key, cost=limit - 1)]
        for key in env.keys(2)
    ]
    shared, clients = env.key(), []
    for key in env.keys(8):
        client = [call(0, shared, 2, cost=2)]  # all at once, so that some are equal in all but their caller
        at = env.random.uniform(0.1, window / 2)
        while at < 3.2 * window:
            client.append(call(at, key, env.random.choice((1, 1, 2)), cost=env.random.choice((1, 2, 3, 5, 7, limit))))
            at += window * env.random.choice((0.02, 0.06, 0.1, 0.2, 0.4))
        clients.append(client)
    result = env.worker(limit=limit, window=window).run(*together, *clients, lasts=window)
    return limit_kept(env.history(result, limit=limit, window=window), result)
