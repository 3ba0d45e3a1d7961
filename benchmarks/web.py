"""What a limit costs an app: requests a second and p99 under load, beside the app without it and the peers.

Each contender is served by uvicorn in a fresh process, round after round, and loaded by wrk over 64 connections. The
requests are those of 100 users from one address. Middlewares are compared with the bare app, dependencies with an
empty one. The median is that of the ratios in each round. It takes half an hour, runs only when named, and wants the
machine to itself:

    .venv/bin/python benchmarks/bench.py --only web --json FILE
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence

import web_load
from report import rounded
from rich.table import Table
from rounds import Spread, span
from trial import Trial
from web_contenders import (
    ASGI,
    BARE,
    DEFAULT,
    DEPENDENCIES,
    DEPENDENCY,
    EMPTY,
    HEADER,
    MIDDLEWARE,
    MIDDLEWARES,
    PEERS,
    PEERS_PYTHON,
    STACK,
    App,
    installed,
    runnable,
)
from web_load import Load, Unfit

from sluicegate.proof import servers
from sluicegate.proof.servers import Server

ROUNDS, SECONDS = 10, 3
GROWTH_ROUNDS, POLICIES = 5, (1, 3, 10)
SLOWER_P99 = 1.3
REFUSED = 0.001
"""The share of refused requests that is put up with in a peer; Sluicegate must refuse none."""

AIMS = {
    "memory": {MIDDLEWARE: 0.9, ASGI: 0.9, DEPENDENCY: 0.85, HEADER: 0.85, DEFAULT: 0.85},
    "Redis": {MIDDLEWARE: 0.8, ASGI: 0.8, DEPENDENCY: 0.75, HEADER: 0.75, DEFAULT: 0.75},
}

Seen = Mapping[App, Sequence[Load]]


def run(trial: Trial) -> None:
    if why := web_load.missing():
        sys.exit(why)
    trial.report.data["ran"]["web"] = _versions()
    apps = runnable((*MIDDLEWARES, *DEPENDENCIES))
    if len(apps) < len(MIDDLEWARES) + len(DEPENDENCIES):
        trial.report.console.print("the peers are left out: see web_apps/requirements.txt")
    _compare(trial, apps, None)
    with servers.running(trial.first) as redis:
        _compare(trial, [app for app in apps if app.on_redis], redis)
        _grow(trial, redis)


def _compare(trial: Trial, apps: Sequence[App], redis: Server | None) -> None:
    on, aims = (redis.version, AIMS["Redis"]) if redis else ("memory", AIMS["memory"])
    seen = _loaded(trial, f"under load, {on}", apps, redis, ROUNDS)
    for kind, floor, members in (("middleware", BARE, MIDDLEWARES), ("dependency", EMPTY, DEPENDENCIES)):
        some = {app: seen[app] for app in members if app in seen}
        _show(trial, f"{kind} under load, {on}", floor, some)
        for app in (app for app in members if app in aims):
            # One that was left out has not met its aim.
            share = statistics.median(_shares(some, app, floor)) if app in some else 0.0
            trial.report.aim(
                f"requests a second of {app.name}, times those of {floor.name}", on, share, least=aims[app]
            )
            if redis is None and app in some:
                what = f"p99 of {app.name}, times that of {floor.name}"
                trial.report.aim(what, on, _p99(some[app]).times(_p99(some[floor])), most=SLOWER_P99)


def _grow(trial: Trial, redis: Server) -> None:
    apps = [EMPTY, *(DEPENDENCY.sized(policies=count) for count in POLICIES)]
    title = f"policies under load, {redis.version}"
    seen = _loaded(trial, title, apps, redis, GROWTH_ROUNDS)
    _show(trial, title, EMPTY, seen)


def _loaded(trial: Trial, title: str, apps: Sequence[App], redis: Server | None, rounds: int) -> Seen:
    """Load each app once a round, in one order and then in the other. The turn 0 checks that each limits."""
    seen: dict[App, list[Load]] = {app: [] for app in apps}
    for turn in trial.rounds(title, rounds):
        for app in list(seen)[:: 1 if turn % 2 else -1]:
            try:
                if turn:
                    seen[app].append(_fitting(app, redis, 1 if trial.quick else SECONDS))
                else:
                    web_load.checked(app, redis)
            except Unfit as why:
                if app.is_a_floor:
                    sys.exit(f"{app.name}: {why}")
                trial.report.console.print(f"left out: {app.name}: {why}", markup=False)
                del seen[app]
    for app, loads in seen.items():
        for line in {load.log for load in loads if load.log}:
            trial.report.console.print(f"logged by {app.name}: {line[:500]}", markup=False)
    return seen


def _fitting(app: App, redis: Server | None, seconds: int) -> Load:
    """Load an app, once more if it fails: one hiccup of the machine shall not cost half an hour. Raises `Unfit`."""
    try:
        return _fit(app, web_load.loaded(app, redis, seconds))
    except Unfit:
        return _fit(app, web_load.loaded(app, redis, seconds))


def _fit(app: App, load: Load) -> Load:
    if load.refused > (REFUSED if app.is_a_peer else 0):
        raise Unfit(f"{load.refused:.1%} of its requests were refused, far below the limit; {load.log[:500]}")
    return load


def _show(trial: Trial, title: str, floor: App, seen: Seen) -> None:
    """Show and keep requests a second and in a second of CPU, also as shares of the floor's by round, and p99."""
    columns = ("requests/s", f"times {floor.name}", "in CPU time", "p99", f"times {floor.name}")
    table, rows = Table("", *columns, title=title, title_justify="left"), {}
    for app, loads in seen.items():
        shares = _shares(seen, app, floor)
        rate, share = 1 / statistics.median(load.seconds for load in loads), statistics.median(shares)
        p99, slower = _p99(loads), _p99(loads).times(_p99(seen[floor]))
        name = app.name if app.policies == 1 else f"{app.name}, {app.policies} policies"
        cpu = statistics.median(_cpu_shares(seen, app, floor))
        spread = f"{share:.2f} ({min(shares):.2f} to {max(shares):.2f})"
        table.add_row(name, f"{rate:,.0f}", spread, f"{cpu:.2f}", span(p99.median), f"{slower:.2f}")
        rows[name] = {
            "rate": rounded(rate),
            "share": rounded(share),
            "low": rounded(min(shares)),
            "high": rounded(max(shares)),
            "cpu_share": rounded(cpu),
            "p99": rounded(p99.median),
            "p99_times": rounded(slower),
        }
    trial.report.console.print(table)
    trial.report.data.setdefault("web", {})[title] = {"floor": floor.name, "rows": rows}


def _shares(seen: Seen, app: App, floor: App) -> list[float]:
    """Return an app's requests a second as shares of the floor's, by round."""
    return [its.seconds / mine.seconds for its, mine in zip(seen[floor], seen[app], strict=True)]


def _cpu_shares(seen: Seen, app: App, floor: App) -> list[float]:
    """Return the same by the CPU time of the app's process; none where the system does not tell it."""
    pairs = zip(seen[floor], seen[app], strict=True)
    return [its.cpu / mine.cpu for its, mine in pairs if mine.cpu] or [math.nan]


def _p99(loads: Sequence[Load]) -> Spread:
    return Spread.of([load.p99 for load in loads])


def _versions() -> dict[str, dict[str, str]]:
    versions = {"stack": installed(sys.executable, STACK)}
    if PEERS_PYTHON.exists():
        versions["peers"] = installed(str(PEERS_PYTHON), PEERS)
    return versions
