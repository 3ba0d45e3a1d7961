"""A process that calls an LLM as the example does: many tasks, each one call after the other, on budgets on a server.

Its one argument is a task, in JSON: ``url`` and ``prefix`` of the store; ``requests``, ``tokens`` and ``window`` of the
budgets; ``tasks``; the ``seed`` of their costs; and the ``port`` of the provider. It prints a line once it is ready,
begins when it reads one, ends when its input does, and prints the waits of its calls: cheap ones, and dear ones.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextvars import ContextVar
from random import Random
from typing import Any

from examples.llm_budget import RateLimited, Response, complete, tokens_of
from sluicegate import AsyncLimiter, AsyncRedisStore, AsyncReservation, SlidingWindow

CHEAP, DEAR = 200, 4000

_reservation: ContextVar[AsyncReservation] = ContextVar("reservation")


class NotedLimiter(AsyncLimiter):
    """A limiter that tells the provider which reservation a call is made under, so that it learns when it was charged.

    Attributes:
        waits: Of each call the tokens that it uses, and how long it waited.
    """

    waits: list[tuple[int, float]]

    def reserve(self, *args: Any, **options: Any) -> AsyncReservation:
        reservation = super().reserve(*args, **options)
        _reservation.set(reservation)
        return reservation


def budgets(task: dict) -> list[SlidingWindow]:
    return [SlidingWindow(task[name], window=task["window"], name=name) for name in ("requests", "tokens")]


def planned(chance: Random) -> tuple[str, int]:
    """Return a prompt, which says how many tokens its call will use, and a ``max_tokens`` of up to twice as many."""
    used = chance.choice([CHEAP, CHEAP, CHEAP, DEAR])
    prompt = str(used)
    return prompt, chance.randint(used, 2 * used) - tokens_of(prompt)


def charged_at_us() -> int:
    """Return when the store charged the call of this task, by its server's clock, which is this machine's."""
    _, answer = _reservation.get().answered
    return int(answer.marks[0].split()[1])


class Connected:
    """The provider, as the example calls it; a connection for each task, as its calls take their time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.called_at = 0.0

    async def complete(self, prompt: str, max_tokens: int) -> Response:
        self.called_at = time.monotonic()
        call = {"tokens": int(prompt), "charged_at_us": charged_at_us()}
        self.writer.write(json.dumps(call).encode() + b"\n")
        if not json.loads(await self.reader.readline()):
            raise RateLimited(0.1)
        return Response("", int(prompt))


async def main(task: dict) -> None:
    waits: list[tuple[int, float]] = []
    stop = asyncio.Event()

    async def call(number: int, limiter: AsyncLimiter) -> None:
        provider = Connected(*await asyncio.open_connection("127.0.0.1", task["port"]))
        chance = Random(f"{task['seed']} {number}")
        while not stop.is_set():
            prompt, max_tokens = planned(chance)
            began = time.monotonic()
            try:
                await complete(limiter, provider, prompt, max_tokens, timeout=3600)
            except RateLimited:
                continue
            waits.append((int(prompt), provider.called_at - began))
        provider.writer.close()

    async with (
        AsyncRedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30) as store,
        NotedLimiter(*budgets(task), store=store, on_outage="raise", deadline=30) as limiter,
    ):
        await limiter.peek("connect")
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        async with asyncio.TaskGroup() as group:
            for number in range(task["tasks"]):
                group.create_task(call(number, limiter))
    json.dump(waits, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
