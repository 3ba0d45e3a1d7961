"""Limits without `lifespan`: they hold from the first request, say what is missing, and live in many event loops."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx2
import pytest
from asking import remaining, statuses
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket

import servers
from sluicegate import AsyncRedisStore, Concurrency, Decision, SluicegateWarning
from sluicegate.web.fastapi import RateLimits

ALICE = {"headers": {"x-user": "alice"}}


def ok() -> str:
    return "ok"


async def user(request: Request) -> str:
    return request.headers["x-user"]


def app_with(limits: RateLimits) -> FastAPI:
    app = FastAPI(dependencies=[Depends(limits)] if limits.default is not None else [])
    app.get("/x")(ok)
    app.get("/own")(lambda: JSONResponse("own"))
    app.get("/bug")(lambda: 1 / 0)

    @app.get("/missing")
    def missing() -> None:
        raise HTTPException(404)

    return app


def test_the_first_request_is_limited_warned_about_once_and_told_what_to_write():
    client = TestClient(app_with(RateLimits("2/minute")))
    with pytest.warns(SluicegateWarning, match=r"limits-without-lifespan: .*FastAPI\(lifespan=limits\.lifespan\)"):
        assert remaining(client.get("/x")) == {"default": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statuses(client, "/x", "/x") == [200, 429]


def test_the_first_response_may_lack_fields_and_every_later_one_has_them():
    client = TestClient(app_with(RateLimits("9/minute")), raise_server_exceptions=False)
    first, *others = [client.get(path) for path in ("/own", "/own", "/bug", "/missing", "/x")]
    assert [each.status_code for each in (first, *others)] == [200, 200, 500, 404, 200]
    assert remaining(first) == {}
    assert [remaining(each) for each in others] == [{"default": n} for n in (7, 6, 5, 4)]


def test_the_first_request_can_be_denied_with_fields():
    limits = RateLimits()
    app = FastAPI()
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", cost=2))])(ok)
    denied = TestClient(app).get("/x")
    assert (denied.status_code, denied.headers["content-type"]) == (429, "application/problem+json")
    assert remaining(denied) == {"get-x": 1}


FIELDS = ("ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.mark.parametrize("has_middleware", [False, True])
def test_two_limits_of_the_first_request_are_decided_once_and_each_field_is_sent_once(has_middleware: bool):
    decisions: list[Decision] = []
    limits = RateLimits(
        "9/minute", fields=("RateLimit", "X-RateLimit"), on_decision=lambda decision, _: decisions.append(decision)
    )

    async def own(response: Response) -> None:
        response.headers["x-own"] = "own"

    app = FastAPI(dependencies=[Depends(own), Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("5/minute"))])(ok)
    if has_middleware:
        app.add_middleware(limits.Middleware)
    client = TestClient(app)
    for number in (1, 2):
        response = client.get("/x", headers={"origin": "https://a.example"})
        assert remaining(response) == {"get-x": 5 - number, "default": 9 - number}
        names = [name for name, _ in response.headers.multi_items()]
        assert [names.count(name) for name in (*FIELDS, "access-control-expose-headers", "x-own")] == [1] * 7
        assert len(decisions) == number


def test_fields_of_the_first_request_are_those_of_its_last_decision():
    limits = RateLimits("9/minute")
    app = FastAPI(dependencies=[Depends(limits)])

    async def replaced() -> None: ...

    # A dependency in the place of another is not found with the app's routes, so its limit is decided by itself.
    async def instead(_: Any = Depends(limits.limit("5/minute", name="instead"))) -> None: ...

    app.get("/x", dependencies=[Depends(replaced)])(ok)
    app.dependency_overrides[replaced] = instead
    assert remaining(TestClient(app).get("/x")) == {"instead": 4, "default": 8}


class Upload:
    """A body of JSON whose end is sent when it may be."""

    def __init__(self) -> None:
        self.is_read = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"a":'
        self.is_read.set()  # the app has read the first part, and wants more
        await self.may_end.wait()
        yield b"1}"


def posted(client: httpx2.AsyncClient, path: str, upload: Upload) -> asyncio.Task[httpx2.Response]:
    return asyncio.create_task(client.post(path, content=upload, headers={"content-type": "application/json"}))


def asked(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://a")


async def body_of(body: dict[str, int]) -> str:
    return "ok"


def test_requests_that_are_under_way_when_the_limits_are_found_are_limited():
    limits = RateLimits()
    app = FastAPI()
    app.get("/x", dependencies=[Depends(limits.limit("9/minute"))])(ok)
    app.post("/upload", dependencies=[Depends(limits.limit("2/minute"))])(body_of)
    uploads = [Upload() for _ in range(4)]

    async def run() -> None:
        async with asked(app) as client:
            tasks = [posted(client, "/upload", upload) for upload in uploads]
            for upload in uploads:
                await upload.is_read.wait()
            assert remaining(await client.get("/x")) == {"get-x": 8}  # the first to reach a limit
            app.get("/later")(ok)  # the limits are found anew
            assert remaining(await client.get("/x")) == {"get-x": 7}
            for upload in uploads:
                upload.may_end.set()
            assert sorted([(await task).status_code for task in tasks]) == [200, 200, 429, 429]

    asyncio.run(asyncio.wait_for(run(), 60))


def test_requests_that_come_first_at_the_same_time_share_a_budget():
    app = app_with(RateLimits("2/minute"))

    async def run() -> None:
        async with asked(app) as client:
            answers = await asyncio.gather(*[client.get("/x") for _ in range(4)])
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_request_to_a_mounted_app_that_is_under_way_leaves_the_limits_of_the_outer_one_as_they_were():
    limits = RateLimits("9/minute")
    outer, inner = (FastAPI(dependencies=[Depends(limits)]) for _ in range(2))
    outer.get("/x", dependencies=[Depends(limits.limit("5/minute"))])(ok)
    inner.post("/x")(body_of)
    outer.mount("/inner", inner)
    upload = Upload()

    async def run() -> None:
        async with asked(outer) as client:
            task = posted(client, "/inner/x", upload)
            await upload.is_read.wait()
            assert remaining(await client.get("/x")) == {"get-x": 4, "default": 8}
            upload.may_end.set()
            assert remaining(await task) == {"default": 7}
            assert remaining(await client.get("/x")) == {"get-x": 3, "default": 6}

    asyncio.run(asyncio.wait_for(run(), 60))


def test_the_middleware_alone_has_fields_on_the_first_response_and_does_not_warn():
    limits = RateLimits("9/minute")
    app = app_with(limits)
    app.add_middleware(limits.Middleware)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = TestClient(app, raise_server_exceptions=False)
        found = [client.get(path) for path in ("/own", "/nowhere", "/bug")]
    assert [remaining(each) for each in found] == [{"default": n} for n in (8, 7, 6)]


def test_malformed_json_before_the_limit_is_counted_from_the_second_request_on():
    limits = RateLimits()
    app = FastAPI()

    @app.post("/x")
    @limits.limit("2/minute")
    async def x(name: Annotated[str, Body(embed=True)]) -> str:
        return name

    client = TestClient(app)
    assert client.post("/x", json={"name": "bob"}).status_code == 200
    broken = {"content": "{{{", "headers": {"content-type": "application/json"}}
    assert [client.post("/x", **broken).status_code for _ in range(2)] == [422, 429]


def test_the_first_request_gives_permits_back_and_decides_in_one_step():
    limits = RateLimits("9/minute")
    app = FastAPI(dependencies=[Depends(limits)])
    router = APIRouter(dependencies=[Depends(limits.limit(Concurrency(1)))])
    router.get("/x", dependencies=[Depends(limits.limit("3/minute", per=user))])(ok)
    app.include_router(router, prefix="/v1")
    client = TestClient(app)
    assert remaining(client.get("/v1/x", **ALICE)) == {"v1": 0, "get-v1-x": 2, "default": 8}
    assert statuses(client, *["/v1/x"] * 3, **ALICE) == [200, 200, 429]


def test_a_websocket_can_be_the_first_request():
    limits = RateLimits("1/minute")
    app = FastAPI(dependencies=[Depends(limits)])

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    client = TestClient(app)
    with client.websocket_connect("/ws"):
        pass
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass
    assert (denied.value.status_code, remaining(denied.value)) == (429, {"default": 0})


# Many event loops: without a ``with`` TestClient serves each request in one of its own


@pytest.fixture(params=["memory", *servers.kinds()])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield None
        return
    with servers.own_prefix(servers.shared(request.param)) as prefix:
        store = AsyncRedisStore.from_url(servers.shared(request.param).url, prefix=prefix)
        yield store
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(store.aclose())
        gc.collect()


# The connections of a loop that ended are left open by it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("has_lifespan", [False, True])
def test_requests_of_many_event_loops_are_limited_together_and_given_back(store: Any, has_lifespan: bool):
    limits = RateLimits("6/minute", store=store, on_outage="raise", deadline=30)
    app = FastAPI(lifespan=limits.lifespan if has_lifespan else None, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("2/minute", per=user))])(ok)
    app.get("/settled", dependencies=[Depends(limits.limit("2/minute", charge_when=lambda _: False))])(ok)
    app.get("/default")(ok)
    client = TestClient(app)
    assert statuses(client, "/x", "/x", "/x", "/x", **ALICE) == [200, 200, 429, 429]
    assert statuses(client, "/settled", "/settled", "/settled") == [200] * 3
    assert remaining(client.get("/default")) == {"default": 0}
    assert statuses(client, "/default") == [429]
