"""Many keys, WebSockets and cancelled requests leave nothing behind: nothing grows that should not."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request
from starlette.websockets import WebSocket

from sluicegate import Concurrency, MemoryStore, SlidingWindow
from sluicegate.testing import ManualClock
from sluicegate.web.fastapi import RateLimits, client_address, header

pytestmark = pytest.mark.slow

MINUTE = SlidingWindow(100, window=60)


def scope_of(kind: str, path: str, **headers: str) -> dict[str, Any]:
    return {
        "type": kind,
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("203.0.113.7", 50000),
        "server": ("app", 80),
        "extensions": {"websocket.http.response": {}},
    }


async def status(app: FastAPI, **headers: str) -> int:
    """Return the status of a GET, by the app called as a server calls it."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope_of("http", "/x", **headers), receive, send)
    return sent[0]["status"]


async def conversation(app: FastAPI, messages: int) -> list[str]:
    """Open a WebSocket, send messages, and leave. Returns the types of what came back."""
    sent: list[str] = []
    events = iter(["connect", *["receive"] * messages, "disconnect"])

    async def receive() -> Any:
        await asyncio.sleep(0)
        return {"type": f"websocket.{next(events)}", "text": "hello"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app(scope_of("websocket", "/ws"), receive, send)
    return sent


def blocks() -> int:
    """Return how many pieces of memory Python has given out."""
    gc.collect()
    return sys.getallocatedblocks()


async def growth(times: int, run: Callable[[int], Awaitable[None]], after: Callable[[], None]) -> int:
    """Run something often, twice. Returns the pieces of memory that the second time left."""
    left = []
    for begin in (0, times):
        for number in range(begin, begin + times):
            await run(number)
        after()
        left.append(blocks())
    return left[1] - left[0]


def app_on(clock: ManualClock, **options: Any) -> tuple[RateLimits, FastAPI]:
    limits = RateLimits(MINUTE, store=MemoryStore(clock=clock), **options)
    return limits, FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])


def test_a_hundred_thousand_keys_leave_nothing_once_they_are_idle():
    clock = ManualClock()
    limits, app = app_on(clock, per=header("X-API-Key"))
    app.get("/x", dependencies=[Depends(limits.limit("50/minute"))])(lambda: "ok")

    async def run() -> int:
        async def one(number: int) -> None:
            assert await status(app, x_api_key=f"key-{number}") == 200
            if number % 100 == 0:
                clock.advance(10)

        async with app.router.lifespan_context(app):
            return await growth(50_000, one, lambda: clock.advance(120))

    assert asyncio.run(run()) < 20_000


@pytest.mark.filterwarnings("error")
def test_a_function_that_returns_ever_new_limits_fills_no_memory_and_its_limits_still_hold():
    limits, app = app_on(ManualClock(), per=header("X-API-Key"))

    def tenant(request: Request) -> str:
        return request.headers["x-api-key"]

    def policies(request: Request) -> Any:
        return SlidingWindow(int(request.headers["x-limit"]), window=60)

    app.get("/x", dependencies=[Depends(limits.limit(policies, per=tenant))])(lambda: "ok")

    async def run() -> None:
        async with app.router.lifespan_context(app):
            for number in range(1, 1500):
                assert await status(app, x_api_key=f"key-{number}", x_limit=f"{number}") == 200
            found = [
                await status(app, x_api_key="key-1", x_limit="1"),
                await status(app, x_api_key="key-2", x_limit="2"),
            ]
            assert found == [429, 200]

    asyncio.run(run())
    assert len(limits._engine.limiters._sets) <= 1024
    assert len(limits._plans._kept) <= 1024


def test_a_thousand_websockets_leave_nothing_and_return_their_permits():
    clock = ManualClock()
    limits, app = app_on(clock, per=client_address)

    @app.websocket("/ws")
    @limits.limit(Concurrency(1000))
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in limits.messages(websocket, "5/minute"):
            await websocket.send_text(message)

    async def run() -> int:
        async def many(_: int) -> None:
            found = await asyncio.gather(*[conversation(app, 6) for _ in range(100)])
            expected = ["websocket.accept", *["websocket.send"] * 5, "websocket.close"]
            assert found == [expected] * 100
            clock.advance(120)

        async with app.router.lifespan_context(app):
            return await growth(5, many, lambda: clock.advance(120))

    assert asyncio.run(run()) < 5_000


def test_ten_thousand_cancelled_requests_leave_nothing_and_return_their_permits():
    limits = RateLimits(store=MemoryStore(clock=ManualClock()))  # it stands still: no permit comes back by itself
    app, entered = FastAPI(lifespan=limits.lifespan), 0

    @app.get("/x")
    @limits.limit(Concurrency(10))
    async def x() -> None:
        nonlocal entered
        entered += 1
        await asyncio.sleep(3600)

    async def many(_: int) -> None:
        before = entered
        tasks = [asyncio.create_task(status(app)) for _ in range(10)]
        while entered < before + 10 and not any(task.done() for task in tasks):
            await asyncio.sleep(0)
        assert await status(app) == 429
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in found} == {asyncio.CancelledError}

    async def run() -> int:
        async with app.router.lifespan_context(app):
            return await growth(500, many, lambda: None)

    assert asyncio.run(run()) < 5_000
    assert entered == 10_000
    assert limits._engine._tasks == set()
