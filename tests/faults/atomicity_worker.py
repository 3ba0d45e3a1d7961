"""A process of a fleet whose requests each pass several policies: many tasks ask, and each answer is written at once.

Its task is its one argument, in JSON: ``url`` and ``prefix``; ``policies``, ``now``, ``limit`` and ``most``, as the
function `policies` has them; whether costs are ``mixed``; ``tasks``, and how many ``requests`` each of them makes: null
for as long as the input is open; the ``seed`` of what they ask; and the ``log`` that they write to. Once it is ready it
says so, and begins when a line comes in.
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


def key_of(asked: Sequence[Policy], value: str) -> dict[str, str]:
    """Return a key whose attributes all have one value."""
    return {policy.name: value for policy in asked if policy.per}


class Question(NamedTuple):
    """A request: its key, what it is asked with as its cost, and what that is for each policy."""

    key: dict[str, str]
    cost: int | dict[str, int]
    costs: dict[str, int]


class Answer(NamedTuple):
    """What one request was answered: the policies that denied it; None when the answer was lost."""

    key: dict[str, str]
    costs: dict[str, int]
    denied_by: list[str] | None


def questions(asked: Sequence[Policy], chance: Random, *, mixed: bool) -> Iterator[Question]:
    """Ask without an end. One attribute at a time is hot, so that it runs dry before the others; or none of them is."""
    names = [policy.name for policy in asked]
    while True:
        hot = chance.choice(names)
        key = {policy.name: chance.choice(HOT if policy.name == hot else COOL) for policy in asked if policy.per}
        cost = chance.choice([1, 1, 2, {chance.choice(names): 3}]) if mixed else 1
        costs = cost if isinstance(cost, dict) else dict.fromkeys(names, cost)
        yield Question(key, cost, dict.fromkeys(names, 1) | costs)


def answered(question: Question, decision: Decision) -> Answer:
    return Answer(question.key, question.costs, [part.policy for part in decision.decisions if not part.allowed])


async def main(task: dict) -> None:
    asked = policies(task["policies"], task["now"], task["limit"], task["most"])
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop = asyncio.Event()

    async def ask(number: int, limiter: AsyncLimiter) -> None:
        endless = questions(asked, Random(f"{task['seed']} {number}"), mixed=task["mixed"])
        for question in itertools.islice(endless, task["requests"]):
            if stop.is_set():
                return
            try:
                answer = answered(question, await limiter.take(question.key, question.cost))
            except StoreTimeout:
                answer = Answer(question.key, question.costs, None)
            os.write(log, json.dumps(answer).encode() + b"\n")

    async with (
        AsyncRedisStore.from_url(task["url"], prefix=task["prefix"], timeout=5) as store,
        AsyncLimiter(*asked, store=store) as limiter,
    ):
        await limiter.peek(key_of(asked, "connect"))
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        async with asyncio.TaskGroup() as group:
            for number in range(task["tasks"]):
                group.create_task(ask(number, limiter))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
