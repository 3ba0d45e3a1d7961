"""On a server, many tasks at once, each on a key of its own: decisions by 64 and 512 tasks, and by 1 to 1024.

Client and server share one core: what is measured is the work of both. The floor on the wire is a blocking socket that
sends 64 calls of `return 1` at once, and does nothing else.
"""

from __future__ import annotations

import asyncio
import time

from contenders.contender import Contender, peers
from contenders.floors import PIPE, Pipe
from contenders.on_redis import EVALSHA
from contenders.on_redis_async import OURS, on_redis_async
from cores import one_core
from in_memory import exactness, fastest
from rounds import Run, Spread, sized
from trial import Trial

from sluicegate.proof.servers import Server

LIMIT, WINDOW = 10**6, 60  # never reached
BATCH, MANY = 64, 512
TURN, ROUNDS = 0.12, 11

CURVE = "asyncio on one core, by tasks"


def run(trial: Trial, server: Server) -> None:
    with one_core(server):
        name = _sixty_four(trial, server)
        _many(trial, server, name)
        if server.kind == trial.first:
            _curve(trial, server, name)


def title(tasks: int, server: Server) -> str:
    return f"asyncio on one core, {tasks} tasks, {server.version}"


def _sixty_four(trial: Trial, server: Server) -> str:
    contenders, spreads = _table(trial, server, 64)
    own, what = spreads[OURS], "asyncio on one core, 64 tasks"
    name = fastest([each for each in peers(contenders) if each.exact], spreads)
    aim, where = trial.report.aim, server.version
    aim(f"{what}: decisions of `allow`, times the client's own EVALSHA", where, spreads[EVALSHA].times(own), least=8)
    aim(
        f"{what}: decisions of `allow`, times those of the fastest exact peer",
        where,
        spreads[name].times(own),
        least=10,
        to=name,
    )
    aim(f"{what}: decisions of `allow`, times {PIPE}", where, spreads[PIPE].times(own), least=0.6)
    return name


def _many(trial: Trial, server: Server, peer: str) -> None:
    what = f"asyncio on one core, {MANY} tasks"
    trial.report.aim(f"{what}: errors of {MANY * 20} requests", server.version, _errors(trial, server), most=0)
    _, spreads = _table(trial, server, MANY, {OURS, EVALSHA, peer})
    times = spreads[EVALSHA].times(spreads[OURS])
    trial.report.aim(f"{what}: decisions of `allow`, times the client's own EVALSHA", server.version, times, least=15)


def _errors(trial: Trial, server: Server) -> int:
    with trial.entered(on_redis_async(server.url, LIMIT, WINDOW, MANY)) as made:
        ours = next(each for each in made if each.name == OURS)

        async def one(key: str) -> int:
            answers = [await asyncio.gather(ours.call(key), return_exceptions=True) for _ in range(20)]
            return sum(answer is not True for (answer,) in answers)

        async def all_() -> int:
            return sum(await asyncio.gather(*(one(f"user-{n}") for n in range(MANY))))

        return trial.runner.run(all_())


def _table(
    trial: Trial, server: Server, tasks: int, names: set[str] | None = None
) -> tuple[list[Contender], dict[str, Spread]]:
    keys = [f"user-{n}" for n in range(tasks)]
    pipe = Pipe(server.url, "EVALSHA", server.client.script_load("return 1"), "0")
    with trial.entered(on_redis_async(server.url, LIMIT, WINDOW, tasks)) as made:
        contenders = [each for each in made if names is None or each.name in names]
        runs: dict[str, Run] = {each.name: trial.by_tasks(each, keys, tasks, TURN) for each in contenders}
        runs[PIPE] = sized(lambda times: _piped(pipe, times), trial.seconds(TURN / 2))
        spreads = trial.measured(title(tasks, server), runs, ROUNDS)
    pipe.close()
    trial.report.table(title(tasks, server), EVALSHA, spreads, exactness(contenders))
    return contenders, spreads


def _piped(pipe: Pipe, times: int) -> Run:
    def run() -> float:
        batches = max(times // BATCH, 1)
        began = time.perf_counter()
        for _ in range(batches):
            pipe.batch(BATCH)
        return (time.perf_counter() - began) / batches / BATCH

    return run


def _curve(trial: Trial, server: Server, peer: str) -> None:
    names = {OURS, EVALSHA, peer}
    lines: dict[str, dict[int, Spread]] = {OURS: {}, EVALSHA: {}, peer: {}}
    for tasks in (1, 8, 64) if trial.quick else [2**n for n in range(11)]:
        keys = [f"user-{n}" for n in range(tasks)]
        with trial.entered(on_redis_async(server.url, LIMIT, WINDOW, tasks)) as made:
            runs = {each.name: trial.by_tasks(each, keys, tasks, TURN) for each in made if each.name in names}
            for name, spread in trial.measured(f"{CURVE}: {tasks}", runs, 5).items():
                lines[name][tasks] = spread
    trial.report.curve(CURVE, "tasks", "seconds a decision", lines, server.version)
