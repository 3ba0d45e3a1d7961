"""Limits on a real store that is paused or gone, and behind a real server: connections, streams, workers."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import pytest
from asking import Serve, at_once, remaining, served, statuses
from fastapi import BackgroundTasks, Body, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket

import servers
from machine import awake
from service.processes import PYTHON_M, serving, within
from sluicegate import AsyncRedisStore, Concurrency, Decision
from sluicegate.web.asgi import RateLimitMiddleware
from sluicegate.web.fastapi import RateLimits, client_address

ALICE = {"x-user": "alice"}


def ok() -> str:
    return "ok"


async def user(request: Request) -> str:
    return request.headers["x-user"]


# A store that is paused


async def longest_gap(stopped: asyncio.Event) -> float:
    """Return the longest that the event loop could not run, in seconds, until something is over."""
    longest, last = 0.0, awake()
    while not stopped.is_set():
        await asyncio.sleep(0.005)
        longest, last = max(longest, awake() - last), awake()
    return longest


@pytest.mark.parametrize(
    ("on_outage", "status"),
    [("local", 200), ("open", 200), ("closed", 503), ("raise", 503)],
    ids=str,
)
def test_a_paused_redis_holds_up_neither_the_event_loop_nor_an_answer(
    own_server: servers.Server, on_outage: Any, status: int
):
    seen: list[Decision] = []
    limits = RateLimits(
        "1000/minute",
        store=own_server.url,
        on_outage=on_outage,
        deadline=0.1,
        on_decision=lambda decision, _: seen.append(decision),
    )
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("1000/minute", per=user))])(ok)

    async def timed(client: httpx2.AsyncClient) -> tuple[int, float]:
        began_at = awake()
        response = await client.get("/x", headers=ALICE)
        return response.status_code, awake() - began_at

    async def run() -> tuple[list[tuple[int, float]], float]:
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://a") as client,
        ):
            for _ in range(100):
                await timed(client)
                if seen[-1].source == "store":  # on a busy machine the first may be too late
                    break
            assert seen[-1].source == "store"
            stopped = asyncio.Event()
            heartbeat = asyncio.create_task(longest_gap(stopped))
            own_server.freeze()
            try:
                found = [each for _ in range(3) for each in await asyncio.gather(*[timed(client) for _ in range(20)])]
            finally:
                own_server.thaw()
            stopped.set()
            return found, await heartbeat

    found, gap = asyncio.run(run())
    assert {status for status, _ in found} == {status}
    assert max(seconds for _, seconds in found) < 1
    assert gap < 0.3


# A store that is gone


@pytest.mark.parametrize("on_outage", ["closed", "raise"])
def test_without_a_store_the_answer_is_a_503_that_blames_no_limit(
    own_server: servers.Server, serve: Serve, on_outage: Any
):
    limits = RateLimits("9/minute", store=own_server.url, on_outage=on_outage)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("9/minute", per=user))])(ok)
    app.get("/free")(limits.exempt(lambda: "free"))

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()

    client = serve(app)
    own_server.kill()
    response = client.get("/x", headers=ALICE)
    assert remaining(response) == {}
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["type"].endswith("#temporary-reduced-capacity")
    assert "violated-policies" not in response.json()
    assert client.get("/free").status_code == 200
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass
    assert denied.value.status_code == 503


@pytest.mark.parametrize("on_outage", ["local", "open", "closed", "raise"])
def test_a_store_that_goes_away_under_a_request_spoils_no_response(
    own_server: servers.Server, serve: Serve, on_outage: Any
):
    limits = RateLimits(store=own_server.url, on_outage=on_outage, deadline=30)
    app = FastAPI(lifespan=limits.lifespan)
    policies = [Concurrency(9), "9/minute"]

    @app.get("/x", dependencies=[Depends(limits.limit(*policies, charge_when=lambda _: False))])
    def x() -> str:
        own_server.kill()
        return "whole"

    response = serve(app).get("/x")
    assert (response.status_code, response.json()) == (200, "whole")


@pytest.mark.parametrize(("on_outage", "status"), [("local", 200), ("open", 200), ("closed", 503), ("raise", 503)])
def test_if_the_store_goes_away_between_the_steps_the_outage_policy_answers(
    own_server: servers.Server, serve: Serve, on_outage: Any, status: int
):
    def kills() -> str:
        own_server.kill()
        return "alice"

    limits = RateLimits("9/minute", store=own_server.url, on_outage=on_outage, deadline=30)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("9/minute", per=kills))])(ok)
    assert statuses(serve(app), "/x") == [status]


def test_concurrent_requests_on_a_server_are_allowed_exactly_as_often_as_the_limit_says(
    server: servers.Server, prefix: str, serve: Serve
):
    store = AsyncRedisStore.from_url(server.url, prefix=prefix)
    limits = RateLimits("100/minute", store=store, on_outage="raise", deadline=30)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("20/minute", per=user))])(ok)
    app.get("/default")(ok)
    client = serve(app)
    assert sorted(at_once(lambda: client.get("/x", headers=ALICE).status_code, 50)) == [200] * 20 + [429] * 30
    # What the second step denied is given back to the first, in calls that no answer waited for.
    assert within(lambda: limits._engine._tasks == set())
    assert remaining(client.get("/default")) == {"default": 79}
    client.portal.call(store.aclose)


# A real server


def behind_http() -> FastAPI:
    limits = RateLimits("1000/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.api_route("/port", methods=["GET", "HEAD"])
    async def port(request: Request) -> int:
        return request.client.port

    @app.api_route("/once", methods=["GET", "HEAD"])
    @limits.limit("1/minute")
    async def once() -> str:
        return "ok"

    @app.post("/body")
    @limits.limit("1/minute")
    async def body(text: Annotated[str, Body()]) -> int:
        return len(text)

    @app.get("/slot")
    @limits.limit(Concurrency(1), per=client_address)
    async def slot(tasks: BackgroundTasks, parts: int = 1) -> StreamingResponse:
        async def stream() -> AsyncIterator[bytes]:
            for _ in range(parts):
                yield b"part "
                await asyncio.sleep(0.001)

        return StreamingResponse(stream(), background=tasks)

    return app


@contextmanager
def one_connection(url: str):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    yield connection
    connection.close()


def test_a_kept_connection_stays_in_step_over_denials_with_and_without_bodies():
    with served(behind_http()) as url, one_connection(url) as connection:

        def ask(method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()

        first = ask("GET", "/port")
        assert [ask("GET", "/once")[0], ask("GET", "/once")[0]] == [200, 429]
        assert ask("HEAD", "/once") == (429, b"")
        assert ask("GET", "/port") == first
        assert [ask("POST", "/body", '"text"')[0], ask("POST", "/body", '"text"')[0]] == [200, 429]
        assert ask("GET", "/port") == first
        assert ask("POST", "/body", f'"{"x" * 1_000_000}"')[0] == 429
        assert ask("GET", "/port")[0] == 200


def test_a_permit_is_held_while_a_stream_runs_and_released_when_the_client_leaves():
    with served(behind_http()) as url, httpx2.Client(base_url=url) as client:
        with client.stream("GET", "/slot?parts=1000000") as stream:
            parts = stream.iter_raw()
            assert next(parts).startswith(b"part")
            assert client.get("/slot").status_code == 429
        assert within(lambda: client.get("/slot").status_code == 200)


def test_a_stream_arrives_part_by_part_with_its_fields():
    with served(behind_http()) as url, httpx2.stream("GET", f"{url}/slot?parts=3") as stream:
        assert remaining(stream)["default"] == 999
        assert next(filter(None, stream.iter_raw())) == b"part "


LIMITED_APP = """
import os
from fastapi import Depends, FastAPI
from sluicegate.web.fastapi import RateLimits

limits = RateLimits("5/minute", store=os.environ["STORE"], on_outage="raise", deadline=30)
app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])


@app.get("/x")
async def x() -> int:
    return os.getpid()
"""


@pytest.mark.slow
def test_two_workers_on_one_server_count_together(own_server: servers.Server, tmp_path: Path):
    Path(tmp_path, "limited_app.py").write_text(LIMITED_APP)
    command = [*PYTHON_M, "limited_app:app", "--port", "0", "--app-dir", str(tmp_path), "--workers", "2"]
    with serving(tmp_path, command, workers=2, STORE=own_server.url) as service:
        one, other = service.workers
        with service.only(one):
            assert [service.get("/x").json() for _ in range(3)] == [one] * 3
        with service.only(other):
            assert [service.get("/x").json() for _ in range(2)] == [other] * 2
            assert service.get("/x").status_code == 429
        with service.only(one):
            denied = service.get("/x")
            assert (denied.status_code, remaining(denied)) == (429, {"default": 0})


def test_an_app_starts_while_its_store_is_gone(own_server: servers.Server):
    limits = RateLimits("1/minute", store=own_server.url)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    own_server.kill()
    with TestClient(app) as client:
        assert statuses(client, "/x", "/x") == [200, 429]


@pytest.mark.parametrize("kind", ["Middleware", "RateLimitMiddleware"])
def test_a_middleware_closes_its_store_when_the_app_stops(own_server: servers.Server, kind: str):
    app = FastAPI()
    app.get("/x")(ok)
    if kind == "Middleware":
        app.add_middleware(RateLimits("9/minute", store=own_server.url, deadline=30).Middleware)
    else:
        app.add_middleware(RateLimitMiddleware, limit="9/minute", store=own_server.url, deadline=30)
    before = len(own_server.client.client_list())
    with TestClient(app) as client:
        assert client.get("/x").status_code == 200
        assert len(own_server.client.client_list()) > before
    assert within(lambda: len(own_server.client.client_list()) == before)
