"""Where the time of a decision on a server goes: to the server, to its script, to this process, to waking who asked.

The profile behind the aims that a round trip is held to, beside what each part could be at least.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from contenders.contender import Contender
from contenders.on_redis import EVALSHA, on_redis
from contenders.on_redis import OURS as OURS_THREADED
from contenders.on_redis_async import OURS, on_redis_async
from cores import one_core
from rounds import Run, Spread, by_threads, over
from trial import Trial

from sluicegate.proof.servers import Server

LIMIT, WINDOW = 10**6, 60  # never reached
ROUNDS, THREADS = 9, 16

WHOLE, SERVER, SCRIPT, PROCESS = "sluicegate, all of it", "the server's process", "its script", "this process"
COMMANDS = "a script of no more than its commands"
TASK, THREAD = "a task that a future wakes, and no more", "a thread that a lock wakes, and no more"
ALONE, ALONE_SERVER, ALONE_PROCESS = EVALSHA, f"{EVALSHA}: the server's process", f"{EVALSHA}: this process"

_ONE = "local t = redis.call('LINDEX', 'l', '-1') redis.call('LSET', 'l', '-1', t)"


def run(trial: Trial, server: Server) -> None:
    if server.kind != trial.first or not _scheduled(server).exists():
        return
    server.client.rpush("l", "x" * 200)
    with on_redis(server.url, LIMIT, WINDOW) as made:
        ours, alone = _named(made, OURS_THREADED), _named(made, EVALSHA)
        with one_core(server):
            one = [(over(who.call, ["alice"], 1000), 1000) for who in (ours, alone)]
            _split(trial, server, "one thread", one, {}, batch=1)
        keys = [f"user-{n}" for n in range(THREADS)]
        many = [(by_threads(who.call, keys, THREADS, 3200), 3200) for who in (ours, alone)]
        _split(trial, server, f"{THREADS} threads", many, {THREAD: lambda: _woken_threads(THREADS, 100)}, batch=6)
    for tasks in (1, 64, 512):
        what = f"{tasks} tasks" if tasks > 1 else "one task"
        keys = [f"user-{n}" for n in range(tasks)]
        with one_core(server), trial.entered(on_redis_async(server.url, LIMIT, WINDOW, tasks)) as made:
            ours, alone = _named(made, OURS), _named(made, EVALSHA)
            times = 1024 if tasks == 1 else 8192
            runs = [(trial.tasks(who.call, keys, tasks, times), times) for who in (ours, alone)]
            floors = {TASK: trial.tasks(_Woken().ask, keys, tasks, times)}
            _split(trial, server, what, runs, floors, batch=min(tasks, 256))


def _split(
    trial: Trial,
    server: Server,
    what: str,
    runs: list[tuple[Run, int]],
    floors: Mapping[str, Run],
    *,
    batch: int,
) -> None:
    """Measure the parts of our decisions and of the client's own calls, each a run and its number; and the floors."""
    ours, alone = runs
    title = f"where the time goes, {what}, {server.version}"
    commands = server.client.script_load(f"redis.call('TIME') for _ = 1, {batch} do {_ONE} end return 1")
    seen: dict[str, list[float]] = {}
    for turn in trial.rounds(title, ROUNDS):
        found = dict(zip((WHOLE, SERVER, SCRIPT, PROCESS), _parts(server, *ours), strict=True))
        found[COMMANDS] = _parts(server, lambda: _asked(server, commands, 100), 100 * batch)[2]
        found |= {name: floor() for name, floor in floors.items()}
        whole, served, _, processed = _parts(server, *alone)
        found |= {ALONE: whole, ALONE_SERVER: served, ALONE_PROCESS: processed}
        if turn:
            for name, seconds in found.items():
                seen.setdefault(name, []).append(seconds)
    trial.report.table(title, WHOLE, {name: Spread.of(seconds) for name, seconds in seen.items()})


def _parts(server: Server, run: Run, times: int) -> tuple[float, float, float, float]:
    """Return the seconds of one of so many decisions: by the clock, of the server, of its scripts, of this process."""
    server.client.config_resetstat()
    served, processed = _cpu(server), time.process_time()
    whole = run()
    processed, served = time.process_time() - processed, _cpu(server) - served
    stats = server.client.info("commandstats")
    scripts = sum(stats[name]["usec"] for name in stats if name.startswith("cmdstat_eval")) / 1e6
    return whole, served / times, scripts / times, processed / times


def _asked(server: Server, sha: str, times: int) -> float:
    for _ in range(times):
        server.client.evalsha(sha, 0)
    return 0.0


def _scheduled(server: Server) -> Path:
    return Path(f"/proc/{server.process.pid if server.process else 0}/schedstat")


def _cpu(server: Server) -> float:
    return int(_scheduled(server).read_text().split()[0]) / 1e9


def _named(made: list[Contender], name: str) -> Contender:
    return next(each for each in made if each.name == name)


class _Woken:
    """Answers all that was asked in one turn of the event loop at its end: the least that sharing a call can cost."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def ask(self, _: str) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._answer)
        self._waiting.append(future)
        await future

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)


def _woken_threads(threads: int, times: int) -> float:
    """Wake so many threads, each from a lock of its own, and wait for the last one; so often."""
    locks, last, awake = [threading.Lock() for _ in range(threads)], threading.Lock(), count(1)

    def wait(lock: threading.Lock) -> None:
        for _ in range(times):
            lock.acquire()
            if next(awake) % threads == 0:
                last.release()

    for lock in (*locks, last):
        lock.acquire()
    waiting = [threading.Thread(target=wait, args=(lock,)) for lock in locks]
    for thread in waiting:
        thread.start()
    began = time.perf_counter()
    for _ in range(times):
        for lock in locks:
            lock.release()
        last.acquire()
    seconds = time.perf_counter() - began
    for thread in waiting:
        thread.join()
    return seconds / times / threads
