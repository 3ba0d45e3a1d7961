"""Four processes that call one provider as the example does, on budgets that they share on a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

from limiter.strict_provider import StrictProvider, served

ROOT = Path(__file__).parents[2]
PROCESSES, TASKS = 4, 64


async def fleet(strict: StrictProvider, url: str, prefix: str, *, window: float, seconds: float) -> list[list]:
    """Let four processes call a provider. Returns the waits of their calls, as the workers tell them."""
    chance = Random(7)
    task = {"url": url, "prefix": prefix, "requests": strict.requests, "tokens": strict.tokens, "window": window}
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(served(strict, lambda: chance.uniform(0.02, 0.1)))
        workers = [
            await stack.enter_async_context(worker(task | {"port": port, "seed": number, "tasks": TASKS // PROCESSES}))
            for number in range(PROCESSES)
        ]
        for each in workers:
            assert await each.stdout.readline() == b"ready\n"
        for each in workers:
            each.stdin.write(b"go\n")
        await asyncio.sleep(seconds)
        said = await asyncio.gather(*[each.communicate(b"") for each in workers])
        assert [each.returncode for each in workers] == [0] * PROCESSES
        return [call for out, _ in said for call in json.loads(out)]


@asynccontextmanager
async def worker(task: dict) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "tests/limiter/llm_worker.py"), json.dumps(task)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
