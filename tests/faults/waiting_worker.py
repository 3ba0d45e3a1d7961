"""A process of a fleet whose tasks all wait for one key.

Its one argument is a task, in JSON: ``url`` and ``prefix``; the ``limit`` and the ``window`` of the policy; and the
``costs`` of the tasks, in the order in which they come. It prints a line once it is ready, and begins when it reads
one. In the end it prints, in JSON, for each task when it was allowed by the server's clock, microseconds, and how many
seconds it waited.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from sluicegate import AsyncLimiter, AsyncRedisStore, SlidingWindow


async def main() -> None:
    task = json.loads(sys.argv[1])
    policy = SlidingWindow(task["limit"], window=task["window"], name="storm")
    async with AsyncRedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30) as store:
        limiter = AsyncLimiter(policy, store=store, deadline=30, on_outage="raise")
        await limiter.peek("a")
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()

        async def wait(cost: int) -> tuple[int, float]:
            async with limiter.reserve("a", cost, wait=True) as turn:
                return int(turn.answered[1].marks[0].split()[1]), time.monotonic() - began

        print(json.dumps(await asyncio.gather(*map(wait, task["costs"]))), flush=True)


asyncio.run(main())
