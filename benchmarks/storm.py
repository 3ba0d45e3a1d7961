"""A storm of callers that wait for one key: how late they are, in what order, and with how many calls.

How late is judged by the store's clock: each turn says when it was entered, and the earliest moment that the limit
allows follows from when the callers came. Wants a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

from contenders.on_redis import asking
from trial import Trial

from sluicegate import AsyncLimiter, AsyncRedisStore, Limiter, RedisStore, SlidingWindow
from sluicegate.proof.servers import Server

LIMIT, WINDOW = 100, 1.0
POLICY = SlidingWindow(LIMIT, window=WINDOW, name="storm")
STORM, QUICK = 1000, 300
CANCELLED = 100
DEAR = 50
LATE, CALLS, EVEN_CALLS = 1.05, 1.2, 2.1
"""The aims: time by the earliest that the limit allows; calls of the script for each caller that is served."""


class Turn(NamedTuple):
    """When a caller came, and when it was served, in seconds of two clocks; and its cost."""

    came_at: float
    served_at: float
    cost: int


def run(trial: Trial, server: Server) -> None:
    count = QUICK if trial.quick else STORM
    with trial.entered(asking(AsyncRedisStore, server.url)) as store:
        for name, gap, costs, cancelled, calls in (
            ("a burst", 0.0, [1] * count, 0, CALLS),
            (f"a burst, {CANCELLED} of it cancelled in the middle", 0.0, [1] * count, CANCELLED, CALLS),
            ("callers that come evenly", WINDOW / LIMIT / 2, [1] * count, 0, EVEN_CALLS),
            (f"costs of 1 and {DEAR}", 0.0, [1, 1, DEAR, 1] * (count // 64), 0, None),
        ):
            limiter = AsyncLimiter(POLICY, store=store)
            before = _calls(server)
            turns = trial.runner.run(_tasks(limiter, costs, gap, cancelled))
            _judge(trial, f"{name}, tasks", server.version, turns, (_calls(server) - before) / len(turns), calls)
    with asking(RedisStore, server.url) as threads:
        before = _calls(server)
        turns = _threads(Limiter(POLICY, store=threads), count)
        _judge(trial, "a burst, threads", server.version, turns, (_calls(server) - before) / len(turns), CALLS)
    _judge(trial, "a burst, threads", "memory", _threads(Limiter(POLICY), count))


async def _tasks(limiter: AsyncLimiter, costs: Sequence[int], gap: float, cancelled: int) -> list[Turn]:
    await limiter.forget("storm")
    turns: list[Turn] = []

    async def wait(cost: int) -> None:
        came_at = time.monotonic()
        async with limiter.reserve("storm", cost, wait=True) as turn:
            turns.append(Turn(came_at, _served_at(turn), cost))

    tasks = []
    for cost in costs:
        tasks.append(asyncio.ensure_future(wait(cost)))
        await asyncio.sleep(gap)
    middle = len(tasks) // 2
    for task in tasks[middle : middle + cancelled]:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
    return turns


def _threads(limiter: Limiter, count: int) -> list[Turn]:
    limiter.forget("storm")
    turns: list[Turn] = []

    def wait() -> None:
        came_at = time.monotonic()
        with limiter.reserve("storm", wait=True) as turn:
            turns.append(Turn(came_at, _served_at(turn), 1))

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return turns


def _served_at(turn: Any) -> float:
    """Return when a turn was entered, by its store's clock."""
    (mark,) = turn.answered[1].marks
    return mark[1] / 1e9 if isinstance(mark, tuple) else int(mark.split()[1]) / 1e6


def _calls(server: Server) -> int:
    return server.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


def _judge(
    trial: Trial, name: str, on: str, turns: list[Turn], calls: float | None = None, most: float | None = None
) -> None:
    turns = sorted(turns)
    served = [turn.served_at - turns[0].served_at for turn in turns]
    earliest = _earliest([turn.came_at - turns[0].came_at for turn in turns], [turn.cost for turn in turns])
    what = f"{name}, {len(turns)} at {LIMIT} in {WINDOW:g} s"
    trial.report.aim(f"{what}: time until the last, times the earliest", on, served[-1] / earliest[-1], most=LATE)
    behind = sum(late < early for early, late in pairwise(served))
    trial.report.aim(f"{what}: callers that were served before one that came earlier", on, behind, most=0)
    if calls is not None and most is not None:
        trial.report.aim(f"{what}: calls for each", on, calls, most=most)
    dear = [late - early for late, early, turn in zip(served, earliest, turns, strict=True) if turn.cost > 1]
    if dear:
        trial.report.aim(f"{what}: windows that a dear one waits beyond its place", on, max(dear) / WINDOW, most=1)


def _earliest(came: Sequence[float], costs: Sequence[int]) -> list[float]:
    """Return the earliest time at which each can be served, in their order."""
    served: list[float] = []
    oldest = used = 0
    for came_at, cost in zip(came, costs, strict=True):
        at = max(came_at, served[-1] if served else 0.0)
        while used + cost > LIMIT:
            at = max(at, served[oldest] + WINDOW)
            used -= costs[oldest]
            oldest += 1
        served.append(at)
        used += cost
    return served
