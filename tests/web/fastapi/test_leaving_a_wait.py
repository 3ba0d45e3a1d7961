"""A request that ends while it waits keeps nothing, in whichever step of the event loop that is.

Its client leaves, or the server cancels it, just before its turn comes, in that very step, or just after. Either its
endpoint runs, and the charge stands; or everything is given back.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from waiting_apps import App, ended, reached

from servers import Server
from sluicegate import AsyncRedisStore, Concurrency

STEPS = range(12)
"""More steps than there are from the moment in which units come back to the endpoint that gets them."""

ENDS = {
    "left": ["leave"],
    "cancelled": ["cancel"],
    "left and cancelled": ["leave", "cancel"],
    "cancelled twice": ["cancel", "cancel"],
    "cancelled twice, a step between": ["cancel", "", "cancel"],
}
"""How a request ends: what is called in one step after another."""


class Request:
    """One request to an app, whose client may leave, and whose server may cancel it."""

    def __init__(self, app: App, name: str, user: str) -> None:
        self._has_left = asyncio.Event()
        self._messages = [{"type": "http.request", "body": b"", "more_body": False}]
        scope = {"type": "http", "method": "GET", "path": f"/x/{name}", "raw_path": b"", "query_string": b""}
        scope |= {"headers": [(b"x-user", user.encode())], "client": ("192.0.2.1", 5000), "scheme": "http"}
        self.task = asyncio.create_task(app.app(scope, self._receive, self._send))
        self.leave = self._has_left.set
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled |= self.task.cancel()

    async def _receive(self) -> Any:
        if self._messages:
            return self._messages.pop()
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        pass

    async def end(self, how: str, steps: int) -> None:
        """End it after so many steps from now."""
        for _ in range(steps):
            await asyncio.sleep(0)
        for call in ENDS[how]:
            if call:
                getattr(self, call)()
            await asyncio.sleep(0)
        await reached(self.task.done)
        assert self.task.cancelled() == self.is_cancelled


async def free(app: App, user: str, expected: int) -> int:
    """Return how many units are free. No answer waits for what is given back: look until it is as many as expected."""
    (limiter,) = app.limiters
    for _ in range(200):
        if (await limiter.peek(user)).remaining == expected:
            break
        await asyncio.sleep(0.001)
    return (await limiter.peek(user)).remaining


@pytest.mark.parametrize("how", ENDS)
def test_a_request_that_ends_when_its_turn_comes_is_charged_only_if_it_runs(how: str):
    app = App("2/second", wait=5)

    async def use(client: Any) -> None:
        for user in map(str, STEPS):
            for _ in range(2):
                await client.get("/x/first", headers={"x-user": user})
            request = Request(app, user, user)
            await reached(lambda: app.waiting == 1)
            app.clock.advance(1)
            await request.end(how, steps=int(user))
            left = 1 if user in app.seen else 2
            assert await free(app, user, left) == left, f"{how} after {user} steps, the endpoint ran for {app.seen}"
        assert set(app.seen) > {"first"}
        assert not set(app.seen) >= set(map(str, STEPS))

    app.run(use)


@pytest.mark.parametrize("how", ENDS)
def test_a_request_that_ends_when_its_turn_comes_keeps_no_permit(how: str):
    app = App(Concurrency(1, ttl=60), wait=5)

    async def use(client: Any) -> None:
        await client.get("/x/first", headers={"x-user": "anybody"})
        (limiter,) = app.limiters
        for user in map(str, STEPS):
            async with limiter.reserve(user):
                request = Request(app, user, user)
                await reached(lambda: app.waiting == 1)
            await request.end(how, steps=int(user))
            assert await free(app, user, 1) == 1, f"{how} after {user} steps, the endpoint ran for {app.seen}"
        assert set(app.seen) > {"first"}
        assert not set(app.seen) >= set(map(str, STEPS))

    app.run(use)


@pytest.mark.parametrize("how", ENDS)
def test_a_request_that_ends_when_its_turn_comes_keeps_no_permit_on_a_server(how: str, server: Server, prefix: str):
    async def run() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
            app = App(Concurrency(1, ttl=600), store=store, wait=50)
            async with app.client() as client:
                await client.get("/x/first", headers={"x-user": "anybody"})
                (limiter,) = app.limiters
                for user in map(str, STEPS):
                    async with limiter.reserve(user):
                        request = Request(app, user, user)
                        await reached(lambda: app.waiting == 1)
                    # A call to the server is under way meanwhile, so a step may be any of it.
                    await asyncio.sleep(int(user) / 5000)
                    await request.end(how, steps=int(user))
                    assert await free(app, user, 1) == 1, f"{how} after {user} steps"

    asyncio.run(ended(run()))
