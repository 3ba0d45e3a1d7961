"""On a server, a flood of requests that are denied, all of one key: 64 tasks, and one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from contenders.contender import Contender, peers
from contenders.on_redis import EVALSHA, OURS, on_redis
from contenders.on_redis_async import OURS as OURS_AWAITED
from contenders.on_redis_async import on_redis_async
from in_memory import exactness, fastest
from rounds import Run
from trial import Trial

from sluicegate.proof.servers import Server

LIMIT, WINDOW, KEY = 10, 3600, "mallory"
TASKS = 64
TURN, ROUNDS = 0.06, 11
WAIT = 1.0
"""Seconds for which a denial may be remembered, at most; the wait that is told is longer here."""

_AIM = 50


def run(trial: Trial, server: Server) -> None:
    with on_redis(server.url, LIMIT, WINDOW) as contenders:
        _flood(trial, server, "one thread", contenders, lambda each: trial.repeated(each, [KEY], TURN))
        ours = next(each for each in contenders if each.name == OURS)
        _calls(trial, server, "one thread", lambda seconds: _asked(ours, seconds))
    with trial.entered(on_redis_async(server.url, LIMIT, WINDOW, TASKS)) as contenders:

        def by_tasks(each: Contender) -> Run:
            return trial.by_tasks(each, [KEY], TASKS, TURN)

        _flood(trial, server, f"{TASKS} tasks", contenders, by_tasks)
        awaited = next(each for each in contenders if each.name == OURS_AWAITED)
        _calls(trial, server, f"{TASKS} tasks", lambda seconds: trial.runner.run(_asked_by_tasks(awaited, seconds)))


def _flood(trial: Trial, server: Server, by: str, made: list[Contender], turn: Callable[[Contender], Run]) -> None:
    title = f"flood of denied requests, one key, {by}, {server.version}"
    contenders = [each for each in made if each.exact is not None]
    for each in contenders:
        trial.filled(each, KEY, LIMIT)
    runs = {each.name: turn(each) for each in made if each.exact is not None or each.name == EVALSHA}
    spreads = trial.measured(title, runs, ROUNDS)
    trial.report.table(title, EVALSHA, spreads, exactness(made))
    name = fastest(peers(contenders), spreads)
    times = spreads[name].times(spreads[contenders[0].name])  # ours comes first
    what = f"flood of denied requests, {by}: decisions of `allow`, times those of the fastest peer"
    trial.report.aim(what, server.version, times, least=_AIM, to=name)


def _calls(trial: Trial, server: Server, by: str, ask: Callable[[float], None]) -> None:
    server.client.config_resetstat()
    began = time.monotonic()
    ask(2.5 * WAIT)
    waits = int((time.monotonic() - began) / WAIT) + 1
    stats = server.client.info("commandstats")
    calls = sum(stats[name]["calls"] for name in stats if name.startswith(("cmdstat_eval", "cmdstat_fcall")))
    trial.report.aim(
        f"flood of denied requests, {by}: script calls in each second of waiting", server.version, calls / waits, most=1
    )


def _asked(contender: Contender, seconds: float) -> None:
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        contender.call(KEY)


async def _asked_by_tasks(contender: Contender, seconds: float) -> None:
    end_at = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end_at:
            await contender.call(KEY)
            await asyncio.sleep(0)  # an answer that is remembered gives no other task a turn

    await asyncio.gather(*(one() for _ in range(TASKS)))
