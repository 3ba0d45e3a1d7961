"""Endpoints of every kind are limited: sync ones, methods, class-based views, and those of APIRoute subclasses."""

from __future__ import annotations

import inspect
import threading

from asking import Serve, statuses
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request

from sluicegate.web.fastapi import RateLimits


def app_with(limits: RateLimits, *, default: bool = False, middleware: bool = False) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)] if default else [])
    if middleware:
        app.add_middleware(limits.Middleware)
    return app


def ok() -> str:
    return "ok"


def test_a_sync_route_is_limited_and_runs_in_the_thread_pool(serve: Serve):
    limits = RateLimits()
    app = app_with(limits)

    @app.get("/threads")
    async def loop() -> int:
        return threading.get_ident()

    @app.get("/sync")
    @limits.limit("1/minute")
    def sync() -> int:
        return threading.get_ident()

    client = serve(app)
    assert client.get("/sync").json() != client.get("/threads").json()
    assert statuses(client, "/sync") == [429]


def test_methods_of_an_object_are_limited_by_a_decorator(serve: Serve):
    limits = RateLimits()

    class Items:
        prefix = "item "

        @limits.limit("1/minute")
        async def read(self, item: int) -> str:
            return f"{self.prefix}{item}"

    app = app_with(limits)
    app.add_api_route("/items/{item}", Items().read)
    client = serve(app)
    assert client.get("/items/1").json() == "item 1"
    assert statuses(client, "/items/2") == [429]


def test_class_based_views_whose_self_is_a_dependency_are_limited(serve: Serve):
    limits = RateLimits()

    class Items:
        @limits.limit("1/minute")
        def read(self, item: int) -> str:
            return f"item {item}"

    # As the packages for class-based views do.
    first, *rest = inspect.signature(Items.read).parameters.values()
    own = [first.replace(default=Depends(Items), kind=first.KEYWORD_ONLY)]
    Items.read.__signature__ = inspect.Signature([*own, *[each.replace(kind=first.KEYWORD_ONLY) for each in rest]])
    app = app_with(limits)
    app.add_api_route("/items/{item}", Items.read)
    client = serve(app)
    assert client.get("/items/1").json() == "item 1"
    assert statuses(client, "/items/2") == [429]


def test_routes_of_an_api_route_subclass_are_limited_outside_of_what_it_does(serve: Serve):
    seen: list[str] = []

    class Logged(APIRoute):
        def get_route_handler(self):
            handler = super().get_route_handler()

            async def logged(request: Request):
                seen.append(request.url.path)
                return await handler(request)

            return logged

    limits = RateLimits()
    app, router = app_with(limits), APIRouter(route_class=Logged)
    router.get("/x", dependencies=[Depends(limits.limit("1/minute"))])(ok)
    app.include_router(router, prefix="/v1")
    assert statuses(serve(app), "/v1/x", "/v1/x") == [200, 429]
    assert seen == ["/v1/x"]


def test_the_methods_of_one_route_share_its_budget_and_two_routes_of_a_path_do_not(serve: Serve):
    limits = RateLimits()
    app, once = app_with(limits), limits.limit("2/minute")
    app.api_route("/x", methods=["GET", "HEAD"], dependencies=[Depends(once)])(ok)
    app.post("/x", dependencies=[Depends(once)])(ok)
    client = serve(app)
    assert [client.request(method, "/x").status_code for method in ("GET", "HEAD", "GET", "POST")] == [
        200,
        200,
        429,
        200,
    ]
    denied = client.head("/x")
    assert (denied.status_code, denied.content) == (429, b"")


def test_a_dependency_inside_of_a_dependency_is_limited_where_it_is_used(serve: Serve):
    limits = RateLimits()
    once = limits.limit("1/minute")

    def service(_: object = Depends(once)) -> str:
        return "ok"

    app = app_with(limits)

    @app.get("/x")
    def x(found: str = Depends(service)) -> str:
        return found

    assert statuses(serve(app), "/x", "/x") == [200, 429]
