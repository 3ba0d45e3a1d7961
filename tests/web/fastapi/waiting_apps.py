"""Apps whose requests wait for their turn, on a clock that a test moves; and how a test waits for what they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import Depends, FastAPI

from machine import awake
from sluicegate import MemoryStore
from sluicegate.testing import ManualClock
from sluicegate.web.fastapi import RateLimits, header

BY_USER = header("x-user")
ALICE, BOB = {"x-user": "alice"}, {"x-user": "bob"}

SOON = 5.0
"""Seconds within which something happens that needs none, or it never does; those of a busy machine do not count."""


async def reached(condition: Callable[[], object], seconds: float = SOON) -> None:
    """Wait until a condition is true. Fails if it never is."""
    end = awake() + seconds
    while not condition():
        assert awake() < end, "this never happens"
        await asyncio.sleep(0.001)


def until(condition: Callable[[], object]) -> None:
    """Wait likewise, in a thread."""
    asyncio.run(reached(condition))


async def ended(work: Coroutine[Any, Any, None], seconds: float = SOON) -> None:
    """Wait for something to end. Fails if it hangs."""
    task = asyncio.create_task(work)
    try:
        await reached(task.done, seconds)
    finally:
        task.cancel()
    await task


class App:
    """An app with one limit under which requests wait, and the order in which its endpoint saw them."""

    def __init__(self, *policies: Any, store: Any = None, on_outage: Any = "local", **options: Any) -> None:
        self.clock = ManualClock()
        store = MemoryStore(clock=self.clock) if store is None else store
        self.limits = RateLimits(store=store, deadline=options.pop("deadline", 30), on_outage=on_outage)
        self.app = FastAPI(lifespan=self.limits.lifespan)
        self.seen: list[str] = []
        self.limit = self.limits.limit(*policies, per=BY_USER, **options)
        self.app.get("/x/{name}", dependencies=[Depends(self.limit)])(self.note)

    async def note(self, name: str) -> str:
        self.seen.append(name)
        return name

    @property
    def limiters(self) -> list[Any]:
        return [each.limiter for _, each in self.limits._engine.limiters._sets.values()]

    @property
    def waiting(self) -> int:
        return sum(limiter.statistics().waiting for limiter in self.limiters)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(app=self.app)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx2.AsyncClient(transport=transport, base_url="http://a") as client,
        ):
            yield client

    def run(self, use: Callable[[httpx2.AsyncClient], Coroutine[Any, Any, None]], seconds: float = SOON) -> None:
        """Run a test of the app. Fails if it hangs."""

        async def running() -> None:
            async with self.client() as client:
                await use(client)

        asyncio.run(ended(running(), seconds))
