"""A limit counts for the place where it is put, however FastAPI and Starlette put the routes together."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import Serve, remaining, statuses
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.staticfiles import StaticFiles
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket

from sluicegate.web.fastapi import RateLimits


def app_with(limits: RateLimits, *, default: bool = False, middleware: bool = False) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)] if default else [])
    if middleware:
        app.add_middleware(limits.Middleware)
    return app


def ok() -> str:
    return "ok"


# Routers


def test_the_default_counts_the_routes_of_included_routers(serve: Serve):
    limits = RateLimits("2/minute")
    app, router = app_with(limits, default=True), APIRouter()
    router.get("/inner")(ok)
    app.get("/outer")(ok)
    app.include_router(router, prefix="/v1")
    assert statuses(serve(app), "/v1/inner", "/outer", "/v1/inner", "/outer") == [200, 200, 429, 429]


def test_the_same_router_under_two_prefixes_has_a_budget_under_each(serve: Serve):
    limits = RateLimits()
    app, router = app_with(limits), APIRouter(dependencies=[Depends(limits.limit("2/minute"))])
    router.get("/users/{user}", dependencies=[Depends(limits.limit("1/minute"))])(ok)
    router.get("/groups")(ok)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    client = serve(app)
    assert remaining(client.get("/v1/users/1")) == {"get-v1-users-user": 0, "v1": 1}
    assert remaining(client.get("/v2/users/1")) == {"get-v2-users-user": 0, "v2": 1}
    assert statuses(client, "/v1/users/1", "/v2/users/2", "/v1/groups", "/v1/groups") == [429, 429, 200, 429]
    assert statuses(client, "/v2/groups", "/v2/groups") == [200, 429]


def test_nested_routers_apply_the_limits_of_every_level(serve: Serve):
    limits = RateLimits("9/minute")
    app = app_with(limits, default=True)
    outer = APIRouter(prefix="/outer", dependencies=[Depends(limits.limit("8/minute"))])
    inner = APIRouter(prefix="/inner")
    inner.get("/{x}", dependencies=[Depends(limits.limit("6/minute"))])(ok)
    outer.get("/flat")(ok)
    outer.include_router(inner, dependencies=[Depends(limits.limit("7/minute"))])
    app.include_router(outer, prefix="/api")
    client = serve(app)
    deep = {"get-api-outer-inner-x": 5, "api-outer-inner": 6, "api-outer": 7, "default": 8}
    assert remaining(client.get("/api/outer/inner/1")) == deep
    assert remaining(client.get("/api/outer/flat")) == {"api-outer": 6, "default": 7}


def test_all_values_of_a_path_parameter_share_the_budget_of_their_route(serve: Serve):
    limits = RateLimits()
    app = app_with(limits)
    app.get("/items/{item}", dependencies=[Depends(limits.limit("2/minute"))])(ok)
    assert statuses(serve(app), "/items/1", "/items/2", "/items/3", "/items/3/") == [200, 200, 429, 429]


def test_each_makes_a_limit_of_a_router_count_for_every_route_by_itself(serve: Serve):
    limits = RateLimits()
    app, router = app_with(limits), APIRouter(dependencies=[Depends(limits.limit("1/minute", each=True))])
    router.get("/a")(ok)
    router.get("/b")(ok)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    assert statuses(serve(app), "/v1/a", "/v1/b", "/v2/a", "/v2/b", "/v1/a", "/v2/b") == [200] * 4 + [429] * 2


def test_a_name_of_a_limit_for_each_route_stands_in_front_of_the_name_of_the_route(serve: Serve):
    limits = RateLimits()
    by_default = limits.limit("9/minute", each=True, name="by-default")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(by_default)])
    app.get("/a", dependencies=[Depends(limits.limit("5/minute"))])(ok)
    app.get("/b")(ok)
    client = serve(app)
    assert remaining(client.get("/a")) == {"get-a": 4, "by-default.get-a": 8}
    assert remaining(client.get("/b")) == {"by-default.get-b": 8}


def test_the_same_limit_object_in_two_places_is_two_budgets(serve: Serve):
    limits = RateLimits()
    app, once = app_with(limits), limits.limit("1/minute")
    app.get("/a", dependencies=[Depends(once)])(ok)
    app.get("/b")(once(ok))
    assert statuses(serve(app), "/a", "/b", "/a", "/b") == [200, 200, 429, 429]


def test_shared_in_two_places_is_one_budget_and_charged_once(serve: Serve):
    limits = RateLimits()
    app, search = app_with(limits), limits.shared("3/minute", name="search")
    router = APIRouter(dependencies=[Depends(search)])
    router.get("/both", dependencies=[Depends(search)])(ok)
    app.get("/a", dependencies=[Depends(search)])(ok)
    app.include_router(router)
    client = serve(app)
    assert [remaining(client.get(path)) for path in ("/a", "/both", "/a")] == [{"search": n} for n in (2, 1, 0)]
    assert statuses(client, "/a", "/both") == [429, 429]


# Mounts, static files, paths without a route


def test_the_middleware_counts_mounts_static_files_starlette_routes_and_404(serve: Serve, tmp_path: Path):
    Path(tmp_path, "page.txt").write_text("page")
    limits = RateLimits("20/minute")
    app = app_with(limits, default=True, middleware=True)
    app.get("/own")(ok)
    app.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/plain", Router([Route("/x", lambda _: PlainTextResponse("x"))]))
    app.add_route("/starlette", lambda _: PlainTextResponse("x"))
    client = serve(app)
    paths = ["/own", "/static/page.txt", "/plain/x", "/starlette", "/nowhere", "/plain/nowhere", "/static/none"]
    found = [client.get(path) for path in paths] + [client.post("/own")]
    assert [response.status_code for response in found] == [200] * 4 + [404] * 3 + [405]
    assert [remaining(response) for response in found] == [{"default": 19 - n} for n in range(len(found))]


def test_the_middleware_denies_a_path_without_a_route(serve: Serve):
    limits = RateLimits("1/minute")
    assert statuses(serve(app_with(limits, middleware=True)), "/nowhere", "/elsewhere") == [404, 429]


def test_the_middleware_denies_a_websocket_without_a_route(serve: Serve):
    limits = RateLimits("1/minute")
    client = serve(app_with(limits, middleware=True))
    assert statuses(client, "/nowhere") == [404]
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/nowhere"):
        pass
    assert denied.value.status_code == 429


def test_a_mounted_fastapi_app_has_limits_of_its_own_beside_those_of_the_middleware(serve: Serve):
    limits = RateLimits("9/minute")
    app, mounted = app_with(limits, middleware=True), FastAPI(dependencies=[Depends(limits.limit("2/minute"))])
    mounted.get("/x/{y}", dependencies=[Depends(limits.limit("1/minute"))])(ok)
    mounted.get("/z")(ok)
    app.mount("/sub", mounted)
    client = serve(app)
    assert remaining(client.get("/sub/x/1")) == {"get-sub-x-y": 0, "sub": 1, "default": 8}
    assert statuses(client, "/sub/x/2", "/sub/z", "/sub/z") == [429, 200, 429]


@pytest.mark.parametrize("place", ["app", "router", "route"])
def test_what_the_middleware_counted_is_not_counted_again_by_the_default(serve: Serve, place: str):
    limits = RateLimits("9/minute")
    depends = [Depends(limits)]
    app, router = app_with(limits, default=place == "app", middleware=True), APIRouter()
    router.get("/x", dependencies=depends if place == "route" else [])(ok)
    app.include_router(router, dependencies=depends if place == "router" else [])
    assert remaining(serve(app).get("/x")) == {"default": 8}


def test_a_root_path_changes_no_name_and_no_budget():
    limits = RateLimits()
    app = app_with(limits)
    app.get("/items/{item}", dependencies=[Depends(limits.limit("2/minute"))])(ok)
    with TestClient(app, root_path="/api") as client:
        assert remaining(client.get("/api/items/1")) == {"get-items-item": 1}
        assert remaining(client.get("/api/items/2")) == {"get-items-item": 0}
        assert statuses(client, "/api/items/3", "/items/3") == [429, 429]


# Exempt


@pytest.mark.parametrize("middleware", [False, True])
def test_an_exempt_route_is_free_of_what_it_would_inherit_and_says_nothing(serve: Serve, middleware: bool):
    limits = RateLimits("1/minute")
    app = app_with(limits, default=True, middleware=middleware)
    app.get("/decorated")(limits.exempt(ok))
    app.get("/depends", dependencies=[Depends(limits.exempt)])(lambda: "ok")
    app.get("/limited")(lambda: "ok")
    client = serve(app)
    assert statuses(client, *["/decorated", "/depends"] * 3) == [200] * 6
    assert remaining(client.get("/decorated")) == {}
    assert statuses(client, "/limited", "/limited") == [200, 429]
    assert statuses(client, "/decorated", "/depends") == [200, 200]


def test_an_exempt_websocket_is_free(serve: Serve):
    limits = RateLimits("1/minute")
    app = app_with(limits, default=True)

    @app.websocket("/ws")
    @limits.exempt
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    client = serve(app)
    for _ in range(3):
        with client.websocket_connect("/ws"):
            pass


def test_an_app_that_stops_and_starts_again_is_limited_as_before():
    limits = RateLimits("1/minute")
    app = app_with(limits, default=True, middleware=True)
    app.mount("/m", Router([Route("/x", lambda _: PlainTextResponse("x"))]))
    app.get("/own")(ok)
    for _ in range(3):
        with TestClient(app) as client:
            assert statuses(client, "/m/x", "/own", "/m/x") == [200, 429, 429]
