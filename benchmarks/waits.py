"""What waiting and settling cost: `wait` beside `take`, a settlement by how much came after its charge, leases.

The server's own time (INFO commandstats) of a settlement and of a lease; of `wait`, the caller's.
"""

from __future__ import annotations

from itertools import cycle

from contenders.on_redis import asking
from rounds import Run, over, sized
from server_time import spent
from trial import Trial

from sluicegate import AsyncLimiter, AsyncRedisStore, Concurrency, Limiter, RedisStore, SlidingWindow
from sluicegate._core.request import Charge, Request, Settlement
from sluicegate.proof.servers import Server
from sluicegate.stores import Reserved

MANY = 10**9
TASKS = 64
LATER = {100: 200e-6, 1000: 1e-3, 10_000: None}
"""Entries after the charge that is settled, and the aim in seconds."""

LEASES, AIM_LEASE, AIM_WAIT = 10_000, 30e-6, 1.1


def run(trial: Trial, server: Server) -> None:
    _waits(trial, server)
    _settlements(trial, server)
    _leases(trial, server)


def _waits(trial: Trial, server: Server) -> None:
    title = "`wait` with a free unit"
    policy = SlidingWindow(MANY, window=60, name="waits")
    keys = [f"key-{n}" for n in range(TASKS)]
    with asking(RedisStore, server.url) as store, trial.entered(asking(AsyncRedisStore, server.url)) as tasks:
        memory, threads, many = Limiter(policy), Limiter(policy, store=store), AsyncLimiter(policy, store=tasks)
        runs: dict[str, Run] = {}
        for verb in ("take", "wait"):
            runs[f"{verb}, memory"] = _repeated(trial, getattr(memory, verb))
            runs[f"{verb}, {server.kind}, one thread"] = _repeated(trial, getattr(threads, verb))
            runs[f"{verb}, {server.kind}, {TASKS} tasks"] = trial.tasks(getattr(many, verb), keys, TASKS, 40 * TASKS)
        spreads = trial.measured(title, runs)
    trial.report.table(title, "take, memory", spreads)
    for name in [name for name in spreads if name.startswith("wait")]:
        times = spreads[name].times(spreads[name.replace("wait", "take", 1)])
        trial.report.aim(f"{name}: time of `wait`, times `take`", server.version, times, most=AIM_WAIT)


def _repeated(trial: Trial, call) -> Run:
    return sized(lambda times: over(call, ["alice"], times), trial.seconds(0.05), least=100)


def _settlements(trial: Trial, server: Server) -> None:
    title = f"server time of a settlement, {server.version}"
    policy = SlidingWindow(MANY, window=3600, name="settled")
    with asking(RedisStore, server.url) as store:
        runs = {}
        for later in (0, *LATER):
            key = f"later-{later}"
            (charge,), mark = (Charge(policy, key, 1),), _reserved(store, policy, key)
            for _ in range(later):
                store.decide(Request((charge,)))
            there_and_back = cycle([Settlement(*charge, mark, 2), Settlement(policy, key, 2, mark, 1)])
            call = lambda settlements=there_and_back: store.settle([next(settlements)])  # noqa: E731
            runs[f"{later} later entries"] = spent(server, call, 20, 1)
        spreads = trial.measured(title, runs)
    trial.report.table(title, "0 later entries", spreads)
    for later, aim in LATER.items():
        if aim is not None:
            measured = spreads[f"{later} later entries"].median / aim
            what = f"server time of a settlement with {later} later entries, parts of {aim * 1e6:.0f} µs"
            trial.report.aim(what, server.version, measured, most=1)


def _leases(trial: Trial, server: Server) -> None:
    title = f"server time of a lease among {LEASES}, {server.version}"
    policy = Concurrency(MANY, ttl=3600, name="leases")
    with asking(RedisStore, server.url) as store:
        marks = [_reserved(store, policy, "jobs") for _ in range(LEASES)]
        renewed, released = cycle(marks[:100]), iter(marks[100:])
        runs = {
            "make": spent(server, lambda: _reserved(store, policy, "jobs"), 20, 1),
            "renew": spent(server, lambda: store.settle([Settlement(policy, "jobs", 1, next(renewed), 1)]), 20, 1),
            "release": spent(server, lambda: store.settle([Settlement(policy, "jobs", 1, next(released), 0)]), 20, 1),
        }
        spreads = trial.measured(title, runs)
    trial.report.table(title, "make", spreads)
    for verb in ("renew", "release"):
        what = f"server time to {verb} one of {LEASES} leases, parts of {AIM_LEASE * 1e6:.0f} µs"
        trial.report.aim(what, server.version, spreads[verb].median / AIM_LEASE, most=1)


def _reserved(store: RedisStore, policy, key: str):
    answer = store.decide(Request((Charge(policy, key, 1),), reserves=True))
    assert isinstance(answer, Reserved)
    return answer.marks[0]
