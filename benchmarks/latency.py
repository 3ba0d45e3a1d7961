"""On a server, what a decision adds where there is little to do: 100 requests a second, at random times.

A round is one second for each contender. The 99th percentile of its 100 requests is the slowest but one; over the
rounds the median of it is taken, which one hiccup of the machine does not reach.
"""

from __future__ import annotations

import asyncio
import random
import time
from itertools import accumulate

from contenders.contender import Contender
from contenders.on_redis import EVALSHA, OURS, on_redis
from contenders.on_redis_async import OURS as OURS_AWAITED
from contenders.on_redis_async import on_redis_async
from rounds import Spread
from trial import Trial

from sluicegate.proof.servers import Server

LIMIT, WINDOW = 10**6, 60  # never reached
REQUESTS, SECONDS, ROUNDS = 100, 1.0, 9
SHARES = {"half of them (p50)": 0.5, "all but one in a hundred (p99)": 0.99}
_AIM = 1.1


def run(trial: Trial, server: Server) -> None:
    with on_redis(server.url, LIMIT, WINDOW) as made:
        _measure(trial, server, "one thread", [each for each in made if each.name in (OURS, EVALSHA)])
    with trial.entered(on_redis_async(server.url, LIMIT, WINDOW, 1)) as made:
        _measure(trial, server, "tasks", [each for each in made if each.name in (OURS_AWAITED, EVALSHA)])


def _measure(trial: Trial, server: Server, by: str, contenders: list[Contender]) -> None:
    title = f"latency at {REQUESTS} requests a second, {by}, {server.version}"
    chance = random.Random(1)
    seen: dict[str, list[list[float]]] = {each.name: [] for each in contenders}
    for turn in trial.rounds(title, ROUNDS):
        moments = _moments(chance)
        for each in contenders:
            took = trial.runner.run(_awaited(each, moments)) if each.awaited else _called(each, moments)
            if turn:
                seen[each.name].append(sorted(took))
    ours = next(each.name for each in contenders if each.name != EVALSHA)
    for share, part in SHARES.items():
        spreads = {name: Spread.of([took[int(part * len(took))] for took in rounds]) for name, rounds in seen.items()}
        trial.report.table(f"{title}, {share}", EVALSHA, spreads)
        times = spreads[ours].times(spreads[EVALSHA])
        what = (
            f"latency at {REQUESTS} requests a second, {by}, {share}: time of `allow`, times the client's own EVALSHA"
        )
        trial.report.aim(what, server.version, times, most=_AIM)


def _moments(chance: random.Random) -> list[float]:
    gaps = [chance.expovariate(1) for _ in range(REQUESTS + 1)]
    *ends, whole = accumulate(gaps)
    return [SECONDS * end / whole for end in ends]


def _called(contender: Contender, moments: list[float]) -> list[float]:
    took, began = [], time.perf_counter()
    for n, moment in enumerate(moments):
        time.sleep(max(began + moment - time.perf_counter(), 0))
        asked_at = time.perf_counter()
        contender.call(f"user-{n}")
        took.append(time.perf_counter() - asked_at)
    return took


async def _awaited(contender: Contender, moments: list[float]) -> list[float]:
    took: list[float] = []

    async def ask(key: str, asked_at: float) -> None:
        await contender.call(key)
        took.append(time.perf_counter() - asked_at)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n, moment in enumerate(moments):
            await asyncio.sleep(max(began + moment - time.perf_counter(), 0))
            group.create_task(ask(f"user-{n}", time.perf_counter()))
    return took
