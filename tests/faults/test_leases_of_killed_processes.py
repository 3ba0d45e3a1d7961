"""Permits of processes that are killed are back after their ttl, and not before; one that was paused learns of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

import servers
from faults import leases_worker
from faults.leases_worker import Hold, holds_in, policy
from sluicegate import Limiter, RedisStore

PROCESSES, TASKS, LIMIT = 50, 20, 400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mostly_waits,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="for systems that fork and pause processes"),
]


def test_the_permits_of_killed_processes_are_back_after_the_ttl_and_never_more_are_held_than_may_be(
    server: servers.Server, prefix: str, tmp_path: Path
):
    task = task_of(server, prefix, limit=LIMIT, ttl=3) | {"processes": PROCESSES, "tasks": TASKS}
    chance = Random()
    with worker(task | {"directory": str(tmp_path)}) as process:
        alive = [int(process.stdout.readline()) for _ in range(PROCESSES)]
        assert process.stdout.readline() == "ready\n"
        try:
            await_holds(tmp_path, at_least=PROCESSES * 4)
            for _ in range(PROCESSES // 2):  # while the others go on, and take what is back
                time.sleep(chance.uniform(0, 0.3))
                os.kill(alive.pop(chance.randrange(len(alive))), signal.SIGKILL)
        finally:
            for each in alive:
                os.kill(each, signal.SIGKILL)
        assert len([process.stdout.readline() for _ in range(PROCESSES)]) == PROCESSES
        assert process.wait() == 0
    holds = [hold for log in tmp_path.iterdir() for hold in holds_in(log)]
    peak, lost, killed = (
        most_at_once(holds, task["ttl"]),
        sum(hold.is_lost for hold in holds),
        sum(hold.end is None for hold in holds),
    )
    print(f"{len(holds)} permits were held, at most {peak} at once; {killed} of killed holders, {lost} lost in a pause")
    assert peak <= LIMIT
    # The judge has seen them compete, and holders killed.
    assert peak > LIMIT // 2
    assert killed > PROCESSES

    await_back(server, prefix, task)


def test_a_holder_that_is_paused_for_longer_than_the_ttl_learns_that_it_lost_its_permit_and_releases_no_other(
    server: servers.Server, prefix: str
):
    for form in ("threads", "tasks"):
        task = task_of(server, f"{prefix}{form}:", limit=1, ttl=1) | {"form": form}
        with worker(task) as process, RedisStore.from_url(server.url, prefix=task["prefix"], timeout=30) as store:
            limiter = Limiter(policy(task), store=store, deadline=30)
            assert process.stdout.readline() == "held\n"
            process.send_signal(signal.SIGSTOP)
            try:
                with limiter.reserve("a", wait=True, timeout=60) as r:
                    assert r
                    process.send_signal(signal.SIGCONT)
                    assert [process.stdout.readline() for _ in range(2)] == ["lost\n", "True\n"]
                    assert process.wait() == 0
                    assert limiter.peek("a").remaining == 0 or r.lost
            finally:
                process.send_signal(signal.SIGCONT)


def task_of(server: servers.Server, prefix: str, *, limit: int, ttl: float) -> dict:
    return {"url": server.url, "prefix": prefix, "limit": limit, "ttl": ttl}


@contextmanager
def worker(task: dict) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, leases_worker.__file__, json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process


def await_holds(directory: Path, at_least: int) -> None:
    end = time.monotonic() + 60
    while sum(len(holds_in(log)) for log in directory.iterdir()) < at_least:
        assert time.monotonic() < end, "the processes hold no permits: is the machine slow, or busy?"
        time.sleep(0.1)


def most_at_once(holds: Sequence[Hold], ttl: float) -> int:
    """Return how many permits were certainly held at once.

    A permit is held from when it was given until its release was about to be sent. That of a killed holder is held for
    its ttl at least, and it began when it was asked for at the earliest. A holder that says it was paused for too long
    counts for nothing.
    """
    steps = []
    for hold in holds:
        end = hold.end if hold.end is not None else hold.asked + round(ttl * 1_000_000_000)
        if not hold.is_lost and end > hold.start:
            steps += [(hold.start, 1), (end, -1)]
    held = most = 0
    for _, step in sorted(steps):  # at one instant the ends first
        held += step
        most = max(most, held)
    return most


def await_back(server: servers.Server, prefix: str, task: dict) -> None:
    """Wait until all permits are back, and check at each moment that those are whose leases have ended, and no others.

    All holders are dead. Their leases end a ttl from now at the latest.
    """
    (key,) = servers.counters(server, prefix)
    now = server_us(server)
    ends = [score for _, score in server.client.zrange(key, 0, -1, withscores=True) if score > now]
    assert len(ends) > TASKS
    assert max(ends) <= now + task["ttl"] * 1_000_000
    seen = set()
    with RedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
        limiter = Limiter(policy(task), store=store, deadline=30)
        while 0 not in seen:
            before = server_us(server)
            held = LIMIT - limiter.peek("a").remaining
            after = server_us(server)
            assert sum(end > after for end in ends) <= held <= sum(end > before for end in ends)
            seen.add(held)
        with limiter.reserve("a", LIMIT) as r:
            assert r
    assert len(seen) > 2


def server_us(server: servers.Server) -> int:
    seconds, micros = server.client.time()
    return seconds * 1_000_000 + micros
