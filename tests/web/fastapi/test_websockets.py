"""WebSockets: a 429 at the handshake, a close with 1013 over the limit of messages, and nothing left behind."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from asking import Serve, remaining, statuses
from fastapi import APIRouter, Depends, FastAPI, Query, WebSocketException
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from sluicegate import Concurrency
from sluicegate.web.fastapi import RateLimits, client_address


def connected(client: Any, path: str, **options: Any) -> int:
    """Return 101 for a WebSocket that was accepted, else the status of the answer."""
    try:
        with client.websocket_connect(path, **options):
            return 101
    except WebSocketDenialResponse as denied:
        return denied.status_code
    except WebSocketDisconnect as closed:
        return closed.code


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def test_a_handshake_over_the_limit_is_answered_with_a_real_429(serve: Serve):
    limits = RateLimits("9/minute")
    app, router = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)]), APIRouter()
    router.websocket("/ws/{room}")(limits.limit("1/minute")(echo))
    app.include_router(router, prefix="/v1")
    client = serve(app)
    with client.websocket_connect("/v1/ws/1") as websocket:
        assert dict(websocket.extra_headers)[b"ratelimit"] == b'"ws-v1-ws-room";r=0, "default";r=8'
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/ws/2"):
        pass
    response = denied.value
    assert (response.status_code, "retry-after" in response.headers) == (429, True)
    assert response.json()["violated-policies"] == ["ws-v1-ws-room"]
    assert remaining(response) == {"ws-v1-ws-room": 0, "default": 8}


def test_a_handshake_that_needs_a_key_is_decided_after_it_and_given_back_to_the_first_step(serve: Serve):
    def user(name: str = Query()) -> str:
        return name

    limits = RateLimits("3/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.websocket("/ws")(limits.limit("1/minute", per=user)(echo))
    app.get("/x")(lambda: "ok")
    client = serve(app)
    paths = [f"/ws?name={name}" for name in ("alice", "alice", "alice", "bob")]
    assert [connected(client, path) for path in paths] == [101, 429, 429, 101]
    assert remaining(client.get("/x")) == {"default": 0}


def test_a_failed_authentication_at_the_handshake_is_charged_all_the_same(serve: Serve):
    def user() -> str:
        raise WebSocketException(1008)

    limits = RateLimits("2/minute")
    app = FastAPI(
        lifespan=limits.lifespan, dependencies=[Depends(limits), Depends(limits.shared("9/minute", name="all"))]
    )
    app.websocket("/ws")(limits.limit("9/minute", per=user)(echo))
    app.get("/x")(lambda: "ok")
    client = serve(app)
    assert [connected(client, "/ws") for _ in range(3)] == [1008, 1008, 429]
    assert remaining(client.get("/x")) == {"default": 0, "all": 7}


def test_the_middleware_counts_handshakes_and_a_path_without_a_websocket(serve: Serve):
    limits = RateLimits("2/minute")
    app = FastAPI(lifespan=limits.lifespan)
    app.add_middleware(limits.Middleware)
    app.websocket("/ws")(echo)
    client = serve(app)
    assert [connected(client, path) for path in ("/ws", "/nowhere", "/ws", "/nowhere")] == [101, 1000, 429, 429]


def test_permits_are_held_while_a_websocket_is_open(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @app.websocket("/ws")
    @limits.limit(Concurrency(2))
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    client = serve(app)
    for _ in range(2):
        with ExitStack() as opened:
            for _ in range(2):
                opened.enter_context(client.websocket_connect("/ws"))
            assert connected(client, "/ws") == 429


# Messages


def chat(limits: RateLimits, *policies: str, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in limits.messages(websocket, *policies, **options):
            await websocket.send_text(f"{message!r}")

    return app


def test_messages_over_their_limit_close_the_connection_with_1013(serve: Serve):
    client = serve(chat(RateLimits(), "2/minute"))
    for _ in range(2):  # each connection by itself
        with client.websocket_connect("/ws") as websocket:
            websocket.send_text("a")
            websocket.send_bytes(b"b")
            assert [websocket.receive_text() for _ in range(2)] == ["'a'", "b'b'"]
            websocket.send_text("c")
            with pytest.raises(WebSocketDisconnect) as closed:
                websocket.receive_text()
        assert closed.value.code == 1013
        assert closed.value.reason.startswith("too many messages, retry after ")


def test_messages_counted_by_a_key_are_limited_over_all_its_connections(serve: Serve):
    client = serve(chat(RateLimits(), "1/minute", key="alice"))
    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "'a'"
    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("b")
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert closed.value.code == 1013


def test_messages_cost_what_a_function_says(serve: Serve):
    client = serve(chat(RateLimits(), "10/minute", cost=len))
    with client.websocket_connect("/ws") as websocket:
        for text in ("a" * 6, "b" * 4):
            websocket.send_text(text)
            assert websocket.receive_text() == repr(text)
        websocket.send_text("c")
        with pytest.raises(WebSocketDisconnect):
            websocket.receive_text()


def test_all_connections_of_a_websocket_share_its_limiter(serve: Serve):
    limits = RateLimits()
    client = serve(chat(limits, "2/minute"))
    for _ in range(5):
        with client.websocket_connect("/ws") as websocket:
            websocket.send_text("a")
            assert websocket.receive_text() == "'a'"
    assert len(limits._engine.limiters._sets) == 1


@pytest.mark.parametrize("wrong", [["5/minute"], "many", 7])
def test_invalid_policies_of_messages_are_refused_by_name(wrong: Any):
    with pytest.raises(ValueError, match=r"policy must be|expected a limit"):
        RateLimits().messages(WebSocket({"type": "websocket"}, None, None), wrong)


def test_the_iteration_over_messages_ends_when_the_client_leaves(serve: Serve):
    limits, left = RateLimits(), []
    app = FastAPI(lifespan=limits.lifespan)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in limits.messages(websocket, "9/minute"):
            pass
        left.append(1)

    with serve(app).websocket_connect("/ws") as websocket:
        websocket.send_text("a")
    assert left == [1]


def test_a_denied_handshake_takes_nothing_and_a_websocket_is_counted_apart_from_http(serve: Serve):
    limits = RateLimits()
    app, once = FastAPI(lifespan=limits.lifespan), limits.limit("1/minute", per=client_address)
    app.websocket("/x")(once(echo))
    app.get("/x")(once(lambda: "ok"))
    client = serve(app)
    assert [connected(client, "/x") for _ in range(3)] == [101, 429, 429]
    assert statuses(client, "/x", "/x") == [200, 429]
