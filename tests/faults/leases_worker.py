"""Processes that hold permits, and log what they hold: many that are to be killed, or one that is to be paused.

The first argument is a task, in JSON: ``url`` and ``prefix``; the ``limit`` and ``ttl`` of the permits; and for

* many: the ``processes``, each with so many ``tasks``; and the ``directory`` of their logs, one for each process,
  named after its number. The processes are forked, so that all have begun before long. It prints the number of each
  process, "ready", and the number of each that has ended.
* one: the ``form``, threads or tasks. It prints "held", "lost" when it is told so, and what ``lost`` is at the end.

A line of a log is ``+``, a number, when the permit was asked for and when it was given; or ``-``, the number, when its
release was about to be sent, and whether it was lost. Times are those of the machine's monotonic clock, in nanoseconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

from sluicegate import AsyncLimiter, AsyncRedisStore, Concurrency, Limiter, RedisStore


def policy(task: dict) -> Concurrency:
    return Concurrency(task["limit"], ttl=task["ttl"])


class Hold(NamedTuple):
    """A permit that was held: when it was asked for, given and given back. ``end``: None if its holder was killed."""

    asked: int
    start: int
    end: int | None
    is_lost: bool


def holds_in(log: Path) -> list[Hold]:
    """Read what a process has logged."""
    holds: dict[str, Hold] = {}
    whole, _, _ = log.read_text().rpartition("\n") if log.exists() else ("", "", "")  # a line may be cut
    for line in whole.splitlines():
        mark, number, *rest = line.split()
        if mark == "+":
            holds[number] = Hold(int(rest[0]), int(rest[1]), None, False)
        else:
            holds[number] = holds[number]._replace(end=int(rest[0]), is_lost=rest[1] == "True")
    return list(holds.values())


async def hold(task: dict) -> None:
    """Hold permits again and again, in many tasks, for ever."""
    log = os.open(f"{task['directory']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = AsyncRedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30)
    limiter = AsyncLimiter(policy(task), store=store, on_outage="raise", deadline=30)
    numbers = itertools.count()

    async def work(chance: Random) -> None:
        while True:
            asked = time.monotonic_ns()
            async with limiter.reserve("a") as r:
                if r:
                    number = next(numbers)
                    os.write(log, f"+ {number} {asked} {time.monotonic_ns()}\n".encode())
                await asyncio.sleep(chance.uniform(0.05, 1.0))
                if r:
                    os.write(log, f"- {number} {time.monotonic_ns()} {r.lost}\n".encode())

    await asyncio.gather(*[work(Random(f"{os.getpid()} {number}")) for number in range(task["tasks"])])


def many(task: dict) -> None:
    for _ in range(task["processes"]):
        child = os.fork()
        if not child:
            signal.alarm(120)  # it ends for sure, whatever becomes of the test
            asyncio.run(hold(task))
        print(child, flush=True)
    print("ready", flush=True)
    for _ in range(task["processes"]):
        print(os.wait()[0], flush=True)


def one_thread(task: dict) -> None:
    told = threading.Event()

    def on_lost() -> None:
        print("lost", flush=True)
        told.set()

    with RedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30) as store:
        limiter = Limiter(policy(task), store=store, on_outage="raise", deadline=30)
        with limiter.reserve("a", on_lost=on_lost) as r:
            assert r
            print("held", flush=True)
            told.wait(60)
            is_lost = r.lost
        print(is_lost, flush=True)


async def one_task(task: dict) -> None:
    told = asyncio.Event()

    def on_lost() -> None:
        print("lost", flush=True)
        told.set()

    async with AsyncRedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30) as store:
        limiter = AsyncLimiter(policy(task), store=store, on_outage="raise", deadline=30)
        async with limiter.reserve("a", on_lost=on_lost) as r:
            assert r
            print("held", flush=True)
            await asyncio.wait_for(told.wait(), 60)
            is_lost = r.lost
        print(is_lost, flush=True)


def main(task: dict) -> None:
    if "processes" in task:
        many(task)
    elif task["form"] == "threads":
        one_thread(task)
    else:
        asyncio.run(one_task(task))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
