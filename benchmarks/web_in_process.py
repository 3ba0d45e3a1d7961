"""Where the time of a limited request goes, without a server: CPU time of this process alone, counting in memory.

Each turn is a fresh process that calls the app itself. Also how that time grows with policies and routes. It takes nine
minutes and runs only when named; `web_apps/in_process.py --profile` shows one app function by function:

    .venv/bin/python benchmarks/bench.py --only web_in_process
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence

from rounds import Spread
from trial import Trial
from web_contenders import (
    BARE,
    DEFAULT,
    DEPENDENCIES,
    DEPENDENCY,
    FASTAPI_LIMITER,
    KEY,
    MIDDLEWARE,
    MIDDLEWARES,
    PARTS,
    SLOWAPI_DECORATOR,
    SLOWAPI_MIDDLEWARE,
    TRAFFIK_DEPENDENCY,
    App,
    runnable,
)
from web_load import Unfit, in_process

ROUNDS, GROWTH_ROUNDS, REQUESTS = 9, 5, 4000
POLICIES, ROUTES = (1, 3, 10), (10, 100, 1000)
FLAT = 1.25
"""The aim: the time that a limit adds with most routes, times that with fewest."""


def run(trial: Trial) -> None:
    title = "where the time of a request goes, in process"
    spreads = _measured(trial, title, runnable((*MIDDLEWARES, *DEPENDENCIES, *PARTS)), ROUNDS)
    trial.report.table(title, BARE.name, {app.name: spread for app, spread in spreads.items()})
    by_policies = (KEY, DEPENDENCY, SLOWAPI_DECORATOR, FASTAPI_LIMITER, TRAFFIK_DEPENDENCY)
    _curve(trial, "in process, by policies", "policies", by_policies, POLICIES)
    by_routes = (BARE, MIDDLEWARE, DEFAULT, DEPENDENCY, SLOWAPI_MIDDLEWARE, FASTAPI_LIMITER, TRAFFIK_DEPENDENCY)
    lines = _curve(trial, "in process, by routes", "routes", by_routes, ROUTES)
    for app in (MIDDLEWARE, DEFAULT, DEPENDENCY):
        few, many = (_added(lines[app][size], lines[BARE][size]) for size in (ROUTES[0], ROUTES[-1]))
        what = f"time that {app.name} adds to a request with {ROUTES[-1]} routes, times that with {ROUTES[0]}"
        trial.report.aim(what, "memory", many / few, most=FLAT)


def _curve(
    trial: Trial, title: str, by: str, apps: Sequence[App], sizes: Sequence[int]
) -> Mapping[App, Mapping[int, Spread]]:
    sized = {(app, size): app.sized(**{by: size}) for app in runnable(apps) for size in sizes}
    spreads = _measured(trial, title, list(sized.values()), GROWTH_ROUNDS)
    lines: dict[App, dict[int, Spread]] = {}
    for (app, size), made in sized.items():
        if made in spreads:
            lines.setdefault(app, {})[size] = spreads[made]
    trial.report.curve(title, by, "CPU time of a request", {app.name: line for app, line in lines.items()})
    return lines


def _measured(trial: Trial, title: str, apps: Sequence[App], rounds: int) -> dict[App, Spread]:
    """Run each app once a round, in one order and then in the other."""
    seen: dict[App, list[float]] = {app: [] for app in apps}
    for turn in trial.rounds(title, rounds):
        for app in list(seen)[:: 1 if turn % 2 else -1]:
            try:
                seconds = in_process(app, REQUESTS // 8 if trial.quick or not turn else REQUESTS)
            except Unfit as why:
                if not app.is_a_peer:
                    sys.exit(f"{app.name}: {why}")
                trial.report.console.print(f"left out: {app.name}: {why}", markup=False)
                del seen[app]
                continue
            if turn:
                seen[app].append(seconds)
    return {app: Spread.of(seconds) for app, seconds in seen.items()}


def _added(limited: Spread, bare: Spread) -> float:
    return statistics.median(mine - its for mine, its in zip(limited.rounds, bare.rounds, strict=True))
