"""`RateLimitMiddleware` in front of Starlette, Litestar and a bare ASGI app, in this process and on a real uvicorn."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import servers
from sluicegate import Concurrency, InvalidPolicy, InvalidRate, InvalidStore, MemoryStore, SlidingWindow, TokenBucket
from sluicegate.testing import ManualClock
from sluicegate.web.asgi import RateLimitMiddleware
from sluicegate.web.identity import client_address, cookie, header, user

PROBLEMS = "https://iana.org/assignments/http-problem-types#"
PATIENT = 30.0
CHUNKS = [b"one ", b"two ", b"three"]

# The same app three times: it greets, streams, works on after its answer, and echoes what a WebSocket sends.


class Notes:
    """What an app did, for the test to see."""

    def __init__(self) -> None:
        self.background = 0
        self.lifespan: list[str] = []
        self.calls = 0


def starlette_app(notes: Notes) -> Any:
    async def hello(request: Any) -> PlainTextResponse:
        notes.calls += 1
        return PlainTextResponse("hello", background=BackgroundTask(work))

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(chunks(), media_type="text/plain")

    async def work() -> None:
        notes.background += 1

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        notes.lifespan.append("started")
        yield
        notes.lifespan.append("stopped")

    return Starlette(
        routes=[Route("/", hello), Route("/stream", stream), WebSocketRoute("/ws", echo)], lifespan=lifespan
    )


def litestar_app(notes: Notes) -> Any:
    if importlib.util.find_spec("litestar") is None:
        pytest.skip("Litestar is not installed: pip install -r requirements-dev.txt")
    # Without postponed annotations: Litestar reads those of its handlers.
    from litestar import Litestar, get, websocket_listener
    from litestar.background_tasks import BackgroundTask as LitestarTask
    from litestar.response import Response, Stream

    async def work() -> None:
        notes.background += 1

    async def hello() -> Any:
        notes.calls += 1
        return Response("hello", media_type="text/plain", background=LitestarTask(work))

    async def stream() -> Any:
        return Stream(chunks(), media_type="text/plain")

    async def echo(data: Any) -> Any:
        return data

    hello.__annotations__["return"] = Response[str]
    stream.__annotations__["return"] = Stream
    echo.__annotations__.update({"data": str, "return": str})

    async def started() -> None:
        notes.lifespan.append("started")

    async def stopped() -> None:
        notes.lifespan.append("stopped")

    return Litestar(
        [get("/")(hello), get("/stream")(stream), websocket_listener("/ws")(echo)],
        on_startup=[started],
        on_shutdown=[stopped],
        openapi_config=None,
    )


def bare_app(notes: Notes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            notes.lifespan.append("started")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            notes.lifespan.append("stopped")
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
        elif scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async for chunk in chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            notes.calls += scope["path"] == "/"
            await send(START if scope["path"] == "/" else {**START, "status": 404})
            await send({"type": "http.response.body", "body": b"hello"})
            notes.background += scope["path"] == "/"

    return app


START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
"""One message for all responses, as bare apps may have it: nobody may change it."""


async def chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


APPS: dict[str, Callable[[Notes], Any]] = {"starlette": starlette_app, "litestar": litestar_app, "bare": bare_app}


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest, notes: Notes) -> Any:
    return APPS[request.param](notes)


@pytest.fixture
def plain(notes: Notes) -> Any:
    """The app of Starlette's, where the framework does not matter."""
    return starlette_app(notes)


def limited(app: Any, limit: Any = "2/minute", **options: Any) -> TestClient:
    """Return a client of an app with a limit in front of it, on a clock that stands still."""
    options.setdefault("store", MemoryStore(clock=ManualClock()))
    return TestClient(RateLimitMiddleware(app, limit, **options), raise_server_exceptions=False)


def scope_of(path: str = "/", kind: str = "http", **more: Any) -> dict[str, Any]:
    scope = {"type": kind, "asgi": {"version": "3.0"}, "path": path, "raw_path": path.encode(), "root_path": ""}
    scope |= {"query_string": b"", "headers": [], "client": ("192.0.2.1", 5000), "scheme": kind, "http_version": "1.1"}
    return {**scope, **({"method": "GET"} if kind == "http" else {"subprotocols": []}), **more}


async def called(app: Any, scope: dict[str, Any], *received: dict[str, Any]) -> list[dict[str, Any]]:
    """Call an app as a server does, and return the messages that it sends. After those received it hears nothing."""
    sent: list[dict[str, Any]] = []
    waiting = iter(received or ({"type": "http.request", "body": b"", "more_body": False},))

    async def receive() -> dict[str, Any]:
        message = next(waiting, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def names(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [name for name, _ in headers]


# Requests and responses


def test_requests_over_the_limit_get_a_429_before_the_app_sees_them(app: Any, notes: Notes):
    client = limited(app)
    responses = [client.get("/") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [response.headers["RateLimit"] for response in responses] == [
        '"default";r=1',
        '"default";r=0',
        '"default";r=0;t=60',
    ]
    assert {response.headers["RateLimit-Policy"] for response in responses} == {'"default";q=2;w=60'}
    assert notes.calls == 2

    denied = responses[2]
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert denied.headers["Retry-After"] == "60"
    assert denied.headers["Cache-Control"] == "no-store"
    assert denied.json() == {
        "type": f"{PROBLEMS}quota-exceeded",
        "title": "Quota Exceeded",
        "status": 429,
        "detail": "Denied by policy default, whose limit is 2. Try again in 60 s.",
        "violated-policies": ["default"],
    }


def test_a_denied_request_is_allowed_when_its_retry_after_has_passed(plain: Any):
    clock = ManualClock()
    client = limited(plain, store=MemoryStore(clock=clock))
    client.get("/")
    client.get("/")
    clock.advance(int(client.get("/").headers["Retry-After"]))
    assert client.get("/").status_code == 200


def test_paths_without_a_route_are_limited_and_have_the_fields(app: Any):
    client = limited(app)
    responses = [client.get("/nothing-here") for _ in range(3)]
    assert [response.status_code for response in responses] == [404, 404, 429]
    assert all("RateLimit" in response.headers for response in responses)


def test_streams_pass_chunk_by_chunk_while_the_app_makes_them(app: Any):
    async def first_of_each() -> tuple[list[bytes], bool]:
        """Serve a stream whose second chunk is made only once the first one was received."""
        arrived = asyncio.Event()
        seen: list[bytes] = []

        async def waiting() -> AsyncIterator[bytes]:
            yield CHUNKS[0]
            await arrived.wait()
            yield CHUNKS[1]

        async def stream(request: Any) -> StreamingResponse:
            return StreamingResponse(waiting())

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body" and message["body"]:
                seen.append(message["body"])
                arrived.set()

        middleware = RateLimitMiddleware(Starlette(routes=[Route("/", stream)]), "2/minute")
        await asyncio.wait_for(middleware(scope_of(), receive, send), PATIENT)
        return seen, arrived.is_set()

    assert asyncio.run(first_of_each()) == (CHUNKS[:2], True)
    response = limited(app).get("/stream")
    assert response.content == b"".join(CHUNKS)
    assert response.headers["RateLimit"] == '"default";r=1'


def test_background_tasks_run_after_an_allowed_request_alone(app: Any, notes: Notes):
    client = limited(app)
    for _ in range(3):
        client.get("/")
    assert notes.background == 2


def test_the_lifespan_passes_and_is_not_counted(app: Any, notes: Notes):
    with limited(app, "1/minute") as client:
        assert notes.lifespan == ["started"]
        assert client.get("/").status_code == 200
    assert notes.lifespan == ["started", "stopped"]


def test_a_message_that_an_app_sends_with_each_response_is_left_as_it_is(notes: Notes):
    client = limited(bare_app(notes), "5/minute")
    for _ in range(3):
        response = client.get("/")
        assert [name for name, _ in response.headers.multi_items()].count("ratelimit") == 1
    assert START["headers"] == [(b"content-type", b"text/plain")]


def test_a_denied_head_request_has_the_headers_of_the_document_and_no_body(plain: Any):
    client = limited(plain, "1/minute")
    assert client.head("/").status_code == 200
    response = client.head("/")
    assert (response.status_code, response.content) == (429, b"")
    assert int(response.headers["Content-Length"]) > 0


def test_apps_that_are_mounted_share_the_limit_of_the_one_that_is_limited(plain: Any, notes: Notes):
    inner = bare_app(notes)
    client = limited(Starlette(routes=[Mount("/inner", inner), Mount("/", plain)]))
    assert [client.get(path).status_code for path in ("/", "/inner/", "/inner/")] == [200, 404, 429]


def test_a_limit_in_a_mounted_app_counts_for_that_app_alone(plain: Any, notes: Notes):
    inner = RateLimitMiddleware(bare_app(notes), "1/minute", name="inner")
    client = TestClient(Starlette(routes=[Mount("/inner", inner), Mount("/", plain)]))
    assert [client.get("/inner/").status_code for _ in range(2)] == [404, 429]
    response = client.get("/")
    assert response.status_code == 200
    assert "RateLimit" not in response.headers


def test_it_is_a_middleware_of_starlette(plain: Any):
    app = Starlette(routes=plain.routes, middleware=[Middleware(RateLimitMiddleware, "1/minute")])
    client = TestClient(app)
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def test_it_is_a_middleware_of_litestar_and_counts_all_routes_together_on_one_store():
    litestar = pytest.importorskip("litestar", reason="Litestar is not installed: pip install -r requirements-dev.txt")
    from litestar.middleware import DefineMiddleware

    async def one() -> Any:
        return "one"

    async def two() -> Any:
        return "two"

    one.__annotations__["return"] = two.__annotations__["return"] = str
    middleware = DefineMiddleware(RateLimitMiddleware, limit="2/minute", store=MemoryStore())
    app = litestar.Litestar(
        [litestar.get("/one")(one), litestar.get("/two")(two)], middleware=[middleware], openapi_config=None
    )
    client = TestClient(app)
    assert [client.get(path).status_code for path in ("/one", "/two", "/one")] == [200, 200, 429]


def test_an_app_that_raises_is_counted():
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    client = limited(broken, "1/minute")
    assert [client.get("/").status_code for _ in range(2)] == [500, 429]


# What is not counted


def test_preflights_of_browsers_are_not_counted(plain: Any):
    client = limited(plain, "1/minute")
    asking = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    for _ in range(3):
        assert client.options("/", headers=asking).status_code != 429
    assert client.get("/").status_code == 200
    assert client.options("/").status_code == 429  # no preflight


def test_exempt_requests_are_not_counted_and_have_no_fields(plain: Any):
    client = limited(plain, "1/minute", exempt=lambda scope: scope["path"] == "/stream")
    responses = [client.get("/stream") for _ in range(3)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[0].headers
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def test_an_exempt_request_needs_no_key(plain: Any):
    client = limited(plain, per=header("X-API-Key"), messages="1/minute", exempt=lambda scope: True)
    assert client.get("/").status_code == 200
    with client.websocket_connect("/ws") as websocket:
        for _ in range(3):
            websocket.send_text("a")
            assert websocket.receive_text() == "a"


def test_a_header_that_exempt_cannot_read_as_a_key_is_not_exempt_and_gets_a_400(plain: Any):
    key = header("X-API-Key")
    client = limited(plain, per=key, exempt=lambda scope: key.of(scope) == "acme")
    twice = [("X-API-Key", "acme"), ("X-API-Key", "bob")]
    assert client.get("/", headers=twice).status_code == 400
    assert client.get("/", headers=twice[:1]).status_code == 200


def test_nothing_is_limited_while_it_is_off(plain: Any):
    client = limited(plain, "1/minute", enabled=False)
    responses = [client.get("/") for _ in range(3)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[0].headers


# Keys


@pytest.mark.parametrize(
    ("per", "as_client"),
    [
        (header("X-API-Key"), lambda name: {"headers": {"X-API-Key": name}}),
        (cookie("session"), lambda name: {"headers": {"Cookie": f"session={name}"}}),
        (
            lambda scope: dict(scope["headers"])[b"x-tenant"].decode(),
            lambda name: {"headers": {"X-Tenant": name}},
        ),
    ],
    ids=["header", "cookie", "function"],
)
def test_each_client_has_a_budget_of_its_own_by_header_cookie_or_function(app: Any, per: Any, as_client: Any):
    client = limited(app, "1/minute", per=per)
    statuses = [client.get("/", **as_client(name)).status_code for name in ("ann", "ann", "bob")]
    assert statuses == [200, 429, 200]


def test_clients_are_told_apart_by_address_by_default(plain: Any):
    middleware = RateLimitMiddleware(plain, "1/minute")

    async def statuses() -> list[int]:
        clients = ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
        answers = [await called(middleware, scope_of(client=(each, 1))) for each in clients]
        return [answer[0]["status"] for answer in answers]

    assert asyncio.run(statuses()) == [200, 429, 200]


def test_users_are_told_apart_where_starlette_authenticates_them_first(plain: Any):
    class Backend:
        async def authenticate(self, connection: Any) -> Any:
            name = connection.headers.get("X-User")
            return None if name is None else (AuthCredentials(), SimpleUser(name))

    inner = RateLimitMiddleware(plain, "1/minute", per=user)
    client = TestClient(AuthenticationMiddleware(inner, backend=Backend()))
    named = [client.get("/", headers={"X-User": name}).status_code for name in ("ann", "ann", "bob")]
    assert [*named, client.get("/").status_code, client.get("/").status_code] == [200, 429, 200, 200, 429]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"a" * 10_000)],
        [(b"x-api-key", b"\xff\xfe")],
        [(b"x-api-key", b"a"), (b"x-api-key", b"b")],
    ],
    ids=["none", "empty", "too long", "no text", "twice"],
)
def test_a_request_without_a_valid_key_gets_a_400_document_and_is_not_counted(plain: Any, headers: Any, notes: Notes):
    middleware = RateLimitMiddleware(plain, "1/minute", per=header("X-API-Key"))
    for _ in range(2):
        start, body = asyncio.run(called(middleware, scope_of(headers=headers)))
        assert start["status"] == 400
        assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
        document = json.loads(body["body"])
        assert (document["status"], document["title"], document["type"]) == (400, "Bad Request", "about:blank")
        assert document["detail"].startswith("X-API-Key must be sent once, as 1 to 256 characters of UTF-8; got ")
    assert notes.calls == 0


@pytest.mark.parametrize("value", [None, 5, "", b"ann", "\ud800"], ids=repr)
def test_a_function_that_returns_no_text_refuses_its_request_alone(
    plain: Any, value: Any, caplog: pytest.LogCaptureFixture
):
    client = limited(plain, "1/minute", per=lambda scope: value if scope["path"] == "/" else "ann")
    for _ in range(2):
        assert client.get("/").status_code == 400
    assert "requests are refused, as their key cannot be counted by" in caplog.text
    assert [client.get("/stream").status_code for _ in range(2)] == [200, 429]


# Answers


def test_a_user_may_answer_denials_with_a_response_of_their_own(plain: Any):
    seen: list[Any] = []

    async def own(scope: Any, refusal: Any) -> Any:
        seen.append((scope["path"], refusal.status, refusal.decision.policy))
        return JSONResponse({"wait": refusal.headers["Retry-After"]}, 420) if scope["path"] == "/" else None

    client = limited(plain, "1/minute", on_denied=own)
    client.get("/")
    response = client.get("/")
    assert (response.status_code, response.json()) == (420, {"wait": "60"})
    assert response.headers["RateLimit"] == '"default";r=0;t=60'
    assert client.get("/stream").status_code == 429
    assert seen == [("/", 429, "default"), ("/stream", 429, "default")]


def test_browsers_get_a_page_where_pages_are_on(plain: Any):
    client = limited(plain, "1/minute", pages=True)
    client.get("/")
    as_browser = {"Accept": "text/html,application/xhtml+xml,application/json;q=0.9"}
    page = client.get("/", headers=as_browser)
    assert page.status_code == 429
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Retry-After"] == "60"
    assert "<h1>" in page.text and "60" in page.text
    for accepted in ("application/json", "*/*", "application/json, text/html"):
        assert client.get("/", headers={"Accept": accepted}).json()["status"] == 429


def test_both_sets_of_fields_can_be_sent_or_none(plain: Any):
    both = limited(plain, "2/minute", fields=("RateLimit", "X-RateLimit")).get("/").headers
    assert (both["RateLimit"], both["RateLimit-Policy"]) == ('"default";r=1', '"default";q=2;w=60')
    assert (both["X-RateLimit-Limit"], both["X-RateLimit-Remaining"], both["X-RateLimit-Reset"]) == ("2", "1", "60")
    old = limited(plain, "2/minute", fields=("X-RateLimit",)).get("/").headers
    assert "RateLimit" not in old and "X-RateLimit-Limit" in old
    none = limited(plain, "1/minute", fields=())
    assert not any("ratelimit" in name.lower() for name in none.get("/").headers)
    assert none.get("/").headers["Retry-After"] == "60"


def test_several_policies_are_decided_together_and_the_one_that_decides_comes_first(plain: Any):
    clock = ManualClock()
    client = limited(plain, ["2/second", TokenBucket(3, window=60, name="long")], store=MemoryStore(clock=clock))
    assert client.get("/").headers["RateLimit"] == '"default.1s";r=1, "default.long";r=2'
    assert client.get("/").headers["RateLimit"] == '"default.1s";r=0, "default.long";r=1'
    denied = client.get("/")
    assert denied.headers["RateLimit"] == '"default.1s";r=0;t=1, "default.long";r=1'  # nothing was taken from it
    assert denied.json()["violated-policies"] == ["default.1s"]
    clock.advance(1)
    assert client.get("/").headers["RateLimit"].startswith('"default.long";r=0')


def test_jitter_only_lengthens_the_wait(plain: Any):
    client = limited(plain, "1/minute", jitter=0.5)
    client.get("/")
    waits = {int(client.get("/").headers["Retry-After"]) for _ in range(50)}
    assert len(waits) > 1
    assert 60 <= min(waits) <= max(waits) <= 90


@pytest.mark.parametrize("is_outside", [True, False], ids=["CORS outside", "CORS inside"])
def test_scripts_of_other_origins_may_read_the_fields(plain: Any, is_outside: bool):
    def build(app: Any) -> Any:
        if is_outside:
            return CORSMiddleware(RateLimitMiddleware(app, "1/minute"), allow_origins=["*"])
        return RateLimitMiddleware(CORSMiddleware(app, allow_origins=["*"]), "1/minute")

    client = TestClient(build(plain))
    responses = [client.get("/", headers={"Origin": "https://other.example"}) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 429]
    for response in responses:
        shown = {each.strip() for each in response.headers["Access-Control-Expose-Headers"].split(",")}
        assert {"ratelimit", "ratelimit-policy", "retry-after"} <= shown
    assert "Access-Control-Expose-Headers" not in client.get("/").headers


def test_what_an_app_exposes_to_scripts_stays_exposed():
    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    own = CORSMiddleware(
        Starlette(routes=[Route("/", hello)]), allow_origins=["*"], expose_headers=["X-Page", "X-Pages"]
    )
    response = limited(own).get("/", headers={"Origin": "https://other.example"})
    shown = response.headers["Access-Control-Expose-Headers"]
    assert shown == "X-Page, X-Pages, ratelimit-policy, ratelimit, retry-after"


def test_each_decision_is_handed_on_with_the_seconds_that_it_took(plain: Any, caplog: pytest.LogCaptureFixture):
    seen: list[Any] = []
    client = limited(plain, "1/minute", on_decision=lambda decision, seconds: seen.append((decision.allowed, seconds)))
    client.get("/")
    client.get("/")
    assert [allowed for allowed, _ in seen] == [True, False]
    assert all(0 <= seconds < PATIENT for _, seconds in seen)

    failing = limited(plain, "1/minute", on_decision=lambda decision, seconds: 1 / 0)
    assert failing.get("/").status_code == 200
    assert "on_decision raised" in caplog.text


# Permits


def test_permits_come_back_when_the_response_has_been_sent(app: Any):
    client = limited(app, Concurrency(1))
    for path in ("/", "/stream", "/nothing-here", "/"):
        response = client.get(path)
        assert response.status_code in (200, 404)
        assert response.headers["RateLimit"] == '"default";r=0'


def test_permits_come_back_with_the_last_byte_and_not_with_the_background_task():
    async def statuses() -> list[int]:
        may_end = asyncio.Event()

        async def hello(request: Any) -> PlainTextResponse:
            return PlainTextResponse("hello", background=BackgroundTask(may_end.wait))

        middleware = RateLimitMiddleware(Starlette(routes=[Route("/", hello)]), Concurrency(1))
        found: list[int] = []
        ended = asyncio.Queue[None]()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])
            else:
                ended.put_nowait(None)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(middleware(scope_of(), receive, send))
                await asyncio.wait_for(ended.get(), PATIENT)
            may_end.set()
        return found

    assert asyncio.run(statuses()) == [200, 200, 200]


def test_permits_come_back_when_the_app_raises():
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    client = limited(broken, Concurrency(1))
    assert [client.get("/").status_code for _ in range(3)] == [500, 500, 500]


def test_as_many_requests_as_there_are_permits_run_at_once():
    async def statuses() -> tuple[list[int], list[int]]:
        may_end = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await may_end.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        middleware = RateLimitMiddleware(slow, Concurrency(3))
        calls = [asyncio.create_task(called(middleware, scope_of())) for _ in range(10)]
        ended = []
        for call in asyncio.as_completed(calls):
            ended.append((await call)[0]["status"])
            if len(ended) == 7:
                may_end.set()
        return ended[:7], ended[7:]

    assert asyncio.run(statuses()) == ([429] * 7, [200] * 3)


# WebSockets


def test_a_handshake_over_the_limit_gets_a_real_429(app: Any):
    client = limited(app, "1/minute")
    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass
    response = denied.value
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert response.headers["RateLimit"] == '"default";r=0;t=60'
    assert json.loads(response.content)["type"] == f"{PROBLEMS}quota-exceeded"


def test_the_response_to_a_handshake_has_the_fields(app: Any):
    with limited(app, "2/minute").websocket_connect("/ws") as websocket:
        assert (b"ratelimit", b'"default";r=1') in websocket.extra_headers


def test_a_handshake_is_refused_by_closing_where_the_server_cannot_answer_it(app: Any):
    middleware = RateLimitMiddleware(app, "1/minute")
    connect_ = {"type": "websocket.connect"}
    leave = {"type": "websocket.disconnect", "code": 1000}

    async def twice() -> list[list[dict[str, Any]]]:
        return [await called(middleware, scope_of("/ws", "websocket"), connect_, leave) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert first[0]["type"] == "websocket.accept"
    assert second == [{"type": "websocket.close", "code": 1013, "reason": "rate limited"}]


def test_a_handshake_without_a_valid_key_gets_a_400(plain: Any):
    client = limited(plain, per=header("X-API-Key"), messages="5/minute")
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass
    assert denied.value.status_code == 400


def test_a_user_may_answer_denied_handshakes_with_a_response_of_their_own(plain: Any):
    client = limited(plain, "1/minute", on_denied=lambda scope, refusal: PlainTextResponse("later", 420))
    with client.websocket_connect("/ws"):
        pass
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass
    assert (denied.value.status_code, denied.value.content) == (420, b"later")


def test_a_websocket_is_closed_once_its_messages_are_over_their_limit(app: Any):
    client = limited(app, "5/minute", messages="2/minute")
    with client.websocket_connect("/ws") as websocket:
        for text in ("one", "two"):
            websocket.send_text(text)
            assert websocket.receive_text() == text
        websocket.send_text("three")
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (1013, "too many messages")
    with client.websocket_connect("/ws") as websocket:  # of the same client: it has one budget on all connections
        websocket.send_text("four")
        with pytest.raises(WebSocketDisconnect):
            websocket.receive_text()


def test_after_a_websocket_was_closed_the_app_hears_and_sends_nothing_more():
    heard: list[str] = []
    failed: list[type[BaseException]] = []

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        """Go on after the disconnect, as an app may that has one task to receive and another one to send."""
        await receive()
        await send({"type": "websocket.accept"})
        heard.extend([(await receive())["type"] for _ in range(4)])
        try:
            await send({"type": "websocket.send", "text": "still there?"})
        except OSError as error:  # what the ASGI specification has servers raise
            failed.append(type(error))
        await send({"type": "websocket.close", "code": 1000})

    async def sent() -> list[dict[str, Any]]:
        middleware = RateLimitMiddleware(stubborn, "5/minute", messages="1/minute")
        text = {"type": "websocket.receive", "text": "a"}
        return await called(
            middleware, scope_of("/ws", "websocket"), {"type": "websocket.connect"}, text, text, text, text
        )

    assert [message["type"] for message in asyncio.run(sent())] == ["websocket.accept", "websocket.close"]
    assert heard == ["websocket.receive", *["websocket.disconnect"] * 3]
    assert len(failed) == 1


# Stores


def test_it_closes_the_store_that_it_made_and_the_next_request_opens_it_again(server: servers.Server, plain: Any):
    middleware = RateLimitMiddleware(plain, "2/minute", store=server.url, deadline=PATIENT, name=f"own-{id(plain)}")

    async def statuses() -> list[int]:
        answers = []
        for _ in range(3):
            answers.append(await called(middleware, scope_of()))
            await middleware.aclose()
        return [answer[0]["status"] for answer in answers]

    try:
        assert asyncio.run(statuses()) == [200, 200, 429]
    finally:
        server.client.flushdb()


def test_of_200_requests_at_once_exactly_the_limit_is_allowed(server: servers.Server):
    reached = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal reached
        reached += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def statuses(store: Any) -> list[int]:
        middleware = RateLimitMiddleware(app, "50/hour", store=store, deadline=PATIENT, name="crowd")
        try:
            answers = await asyncio.gather(*[called(middleware, scope_of()) for _ in range(200)])
        finally:
            await middleware.aclose()
        return sorted(answer[0]["status"] for answer in answers)

    for store in (None, server.url):
        reached = 0
        assert asyncio.run(statuses(store)) == [200] * 50 + [429] * 150
        assert reached == 50
    server.client.flushdb()


@pytest.fixture
def own_server() -> Iterator[servers.Server]:
    kinds = servers.binaries()
    if not kinds:
        pytest.skip(servers.HOW_TO_GET_ONE)
    with servers.running(next(iter(kinds))) as server:
        yield server


OUTAGES = {
    "local": [200, 200, 429],
    "open": [200, 200, 200],
    "closed": [503, 503, 503],
    "raise": [503, 503, 503],
}


@pytest.mark.slow
@pytest.mark.parametrize("is_paused", [False, True], ids=["gone", "paused"])
@pytest.mark.parametrize("on_outage", OUTAGES)
def test_while_the_store_is_down_requests_are_answered_as_is_set(
    own_server: servers.Server, plain: Any, on_outage: Any, is_paused: bool
):
    middleware = RateLimitMiddleware(plain, "2/hour", store=own_server.url, on_outage=on_outage, deadline=0.2)

    async def answers() -> list[list[dict[str, Any]]]:
        try:
            return [await asyncio.wait_for(called(middleware, scope_of()), PATIENT) for _ in range(3)]
        finally:
            await middleware.aclose()

    (own_server.freeze if is_paused else own_server.kill)()
    try:
        responses = asyncio.run(answers())
    finally:
        if is_paused:
            own_server.thaw()
    assert [messages[0]["status"] for messages in responses] == OUTAGES[on_outage]
    if OUTAGES[on_outage][0] == 503:
        headers = dict(responses[0][0]["headers"])
        assert headers[b"retry-after"] == b"1"
        assert json.loads(responses[0][1]["body"])["type"] == f"{PROBLEMS}temporary-reduced-capacity"


def test_a_store_that_hangs_holds_up_its_own_request_alone(own_server: servers.Server, plain: Any):
    """No clock is read: the exempt request is answered while the other one waits."""
    middleware = RateLimitMiddleware(
        plain, "2/hour", store=own_server.url, deadline=PATIENT, exempt=lambda scope: scope["path"] == "/stream"
    )

    async def run() -> tuple[bool, int, int]:
        await called(middleware, scope_of())  # connects
        own_server.freeze()
        try:
            waiting = asyncio.create_task(called(middleware, scope_of()))
            free = await called(middleware, scope_of("/stream"))
            was_waiting = not waiting.done()
        finally:
            own_server.thaw()
        decided = await waiting
        await middleware.aclose()
        return was_waiting, free[0]["status"], decided[0]["status"]

    assert asyncio.run(run()) == (True, 200, 200)


@pytest.mark.slow
@pytest.mark.parametrize("on_outage", ["closed", "raise"])
def test_a_websocket_is_closed_if_the_store_goes_down_and_no_message_may_pass(own_server: servers.Server, on_outage):
    heard: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        own_server.kill()
        while (message := await receive())["type"] != "websocket.disconnect":
            heard.append(message["text"])

    async def sent() -> list[dict[str, Any]]:
        middleware = RateLimitMiddleware(
            listen, "5/hour", messages="5/hour", store=own_server.url, on_outage=on_outage, deadline=1
        )
        text = {"type": "websocket.receive", "text": "a"}
        try:
            call = called(middleware, scope_of("/ws", "websocket"), {"type": "websocket.connect"}, text)
            return await asyncio.wait_for(call, PATIENT)
        finally:
            await middleware.aclose()

    messages = asyncio.run(sent())
    assert [(message["type"], message.get("code")) for message in messages] == [
        ("websocket.accept", None),
        ("websocket.close", 1013),
    ]
    assert heard == []


# A real server


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve an app with uvicorn in a thread; gives its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition. Fails after half a minute."""
    end_at = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < end_at, "it did not come to be"
        time.sleep(0.005)


def test_a_connection_that_is_kept_alive_serves_on_after_denials(plain: Any):
    middleware = RateLimitMiddleware(plain, "2/hour", exempt=lambda scope: scope["path"] == "/stream")
    with served(middleware) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
        statuses = []
        for method, path, body in (
            ("GET", "/", None),
            ("POST", "/", b"x" * 100_000),
            ("POST", "/", b"x" * 100_000),  # denied with its body unread
            ("HEAD", "/", None),
            ("GET", "/stream", None),
        ):
            connection.request(method, path, body)
            own = connection.sock.getsockname() if connection.sock else None
            response = connection.getresponse()
            statuses.append((response.status, len(response.read()), own))
        connection.close()
    assert [status for status, _, _ in statuses] == [200, 405, 429, 429, 200]
    assert statuses[3][1] == 0
    assert statuses[4][1] == len(b"".join(CHUNKS))


def test_a_permit_comes_back_when_the_client_leaves_in_the_middle_of_a_stream():
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(endless())

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/endless", stream), Route("/", hello)])

    def status(port: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
        connection.request("GET", "/")
        found = connection.getresponse().status
        connection.close()
        return found

    with served(RateLimitMiddleware(app, Concurrency(1))) as port:
        leaving = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
        leaving.request("GET", "/endless")
        response = leaving.getresponse()
        assert (response.status, len(response.read(10))) == (200, 10)
        assert status(port) == 429
        response.close()
        leaving.close()
        until(lambda: status(port) == 200)


def test_real_websockets_get_a_429_at_the_handshake_and_are_closed_over_their_messages(plain: Any):
    with served(RateLimitMiddleware(plain, "2/hour", messages="1/hour")) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        with connect(url, open_timeout=PATIENT) as websocket:
            assert websocket.response.headers["RateLimit"] == '"default";r=1'
            websocket.send("one")
            assert websocket.recv(PATIENT) == "one"
            websocket.send("two")
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(PATIENT)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "too many messages")
        with connect(url, open_timeout=PATIENT):
            pass
        with pytest.raises(InvalidStatus) as refused:
            connect(url, open_timeout=PATIENT)
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (429, "3600")
        assert json.loads(response.body)["status"] == 429


# Arguments


async def an_async_function(scope: Any) -> bool:
    return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "X-API-Key"}, "per must be a function of the ASGI scope, got 'X-API-Key'"),
        ({"per": header}, "per must be a function of the ASGI scope, got <class"),
        ({"per": an_async_function}, "per must be a synchronous function"),
        ({"exempt": "/health"}, "exempt must be a function of the ASGI scope, got '/health'"),
        ({"exempt": an_async_function}, "exempt must be a synchronous function"),
        ({"limit": []}, "got none"),
        ({"limit": 5}, "got 5"),
        ({"limit": SlidingWindow(5, window=60, per="user")}, "per"),
        ({"messages": SlidingWindow(5, window=60, per="user")}, "per"),
        ({"name": "two words"}, "name must be 1 to 64 of"),
        ({"fields": ("X-Rate",)}, "fields must be"),
        ({"fields": "RateLimit"}, "fields must be"),
        ({"jitter": 2}, "jitter must be"),
        ({"enabled": "no"}, "enabled must be"),
        ({"on_outage": "panic"}, "on_outage must be"),
        ({"deadline": 0}, "deadline must be"),
        ({"on_denied": "later"}, "on_denied must be"),
        ({"on_decision": 5}, "on_decision must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),  # no address: workers must agree
)
def test_invalid_arguments_are_refused_when_the_app_is_made(plain: Any, options: dict[str, Any], message: str):
    with pytest.raises(InvalidPolicy, match=message):
        RateLimitMiddleware(plain, **{"limit": "1/minute", **options})


def test_an_invalid_rate_or_store_is_refused_when_the_app_is_made(plain: Any):
    with pytest.raises(InvalidRate):
        RateLimitMiddleware(plain, "many/minute")
    with pytest.raises(InvalidStore):
        RateLimitMiddleware(plain, "1/minute", store="mysql://localhost")


def test_the_address_is_that_of_the_peer_whatever_a_client_writes(plain: Any):
    client = limited(plain, "1/minute", per=client_address)
    statuses = [client.get("/", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code for n in range(3)]
    assert statuses == [200, 429, 429]
