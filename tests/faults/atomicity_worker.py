"""A process of a fleet whose requests have several policies: many tasks call, and each answer is logged at once.

Its one argument is a task, in JSON: ``url`` and ``prefix``; ``policies``, ``now``, ``limit`` and ``most``, as the
function `policies` has them; whether costs are ``mixed``; ``tasks``, and how many ``requests`` each of them makes: null
for as long as the input is open; the ``seed`` of their requests; and the ``log`` that they write to. It prints a line
once it is ready, and begins when it reads one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    CalendarWindow,
    Decision,
    FixedWindow,
    SlidingWindow,
    StoreTimeout,
    TokenBucket,
)
from sluicegate._core.policy import Policy

HOUR, DAY = 3600, 86400
HOT = [f"hot-{n}" for n in range(3)]
COOL = [f"cool-{n}" for n in range(500)]


def policies(kind: str, now: float, limit: int, most: int) -> tuple[Policy, ...]:
    """Return policies under which nothing leaves soon, each named after what it counts by.

    ``limit`` is for each user, tenant and endpoint; ``most`` for all together.
    """
    if kind == "sliding":
        return (
            SlidingWindow(limit, window=HOUR, name="user", per="user"),
            SlidingWindow(limit, window=HOUR, name="tenant", per="tenant"),
            SlidingWindow(most, window=HOUR, name="everybody", shared=True),
        )
    # No edge is near: now is in the middle of the fixed window, and it is noon in the zone.
    window = now / (now // HOUR + 0.5)
    zone = f"Etc/GMT{datetime.fromtimestamp(now, UTC).hour - 12:+}"
    return (
        SlidingWindow(limit, window=HOUR, name="user", per="user"),
        # Units flow out of a bucket all the time. Here it is one a day, so less than one while a test runs.
        TokenBucket(1, window=DAY, burst=limit, name="tenant", per="tenant"),
        FixedWindow(limit, window=window, name="endpoint", per="endpoint"),
        CalendarWindow(most, every="day", timezone=zone, name="everybody", shared=True),
    )


def key_of(limits: Sequence[Policy], value: str) -> dict[str, str]:
    """Return a key whose attributes all have one value."""
    return {policy.name: value for policy in limits if policy.per}


class Planned(NamedTuple):
    """A request to make: its key, its cost as the call takes it, and the cost for each policy."""

    key: dict[str, str]
    cost: int | dict[str, int]
    costs: dict[str, int]


class Answer(NamedTuple):
    """The answer to one request: the policies that denied it; None if it was lost."""

    key: dict[str, str]
    costs: dict[str, int]
    denied_by: list[str] | None


def plans(limits: Sequence[Policy], chance: Random, *, mixed: bool) -> Iterator[Planned]:
    """Yield requests without end. One attribute at a time is hot, so that its policy denies before the others."""
    names = [policy.name for policy in limits]
    while True:
        hot = chance.choice(names)
        key = {policy.name: chance.choice(HOT if policy.name == hot else COOL) for policy in limits if policy.per}
        cost = chance.choice([1, 1, 2, {chance.choice(names): 3}]) if mixed else 1
        costs = cost if isinstance(cost, dict) else dict.fromkeys(names, cost)
        yield Planned(key, cost, dict.fromkeys(names, 1) | costs)


def answered(plan: Planned, decision: Decision) -> Answer:
    return Answer(plan.key, plan.costs, [part.policy for part in decision.decisions if not part.allowed])


async def main(task: dict) -> None:
    limits = policies(task["policies"], task["now"], task["limit"], task["most"])
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop = asyncio.Event()

    async def call(number: int, limiter: AsyncLimiter) -> None:
        endless = plans(limits, Random(f"{task['seed']} {number}"), mixed=task["mixed"])
        for plan in itertools.islice(endless, task["requests"]):
            if stop.is_set():
                return
            try:
                answer = answered(plan, await limiter.take(plan.key, plan.cost))
            except StoreTimeout:
                answer = Answer(plan.key, plan.costs, None)
            os.write(log, json.dumps(answer).encode() + b"\n")

    async with (
        AsyncRedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30) as store,
        AsyncLimiter(*limits, store=store, on_outage="raise", deadline=30) as limiter,  # each answer is the store's
    ):
        await limiter.peek(key_of(limits, "connect"))
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        async with asyncio.TaskGroup() as group:
            for number in range(task["tasks"]):
                group.create_task(call(number, limiter))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
