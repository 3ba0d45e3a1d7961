"""The table of routes and limits: names are readable and stable, and what cannot work is refused at the start."""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest
from asking import Serve, remaining, statuses
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocket

from sluicegate import InvalidPolicy, SlidingWindow, TokenBucket
from sluicegate.web.fastapi import RateLimits, client_address, header


def ok() -> str:
    return "ok"


def starts(app: FastAPI) -> None:
    with TestClient(app):
        pass


def names(limits: RateLimits, app: FastAPI) -> dict[str, list[str]]:
    """Return the names of the limits of each route, but for those of the documentation."""
    rows = [row for row in limits.routes(app) if not row.path.startswith(("/docs", "/redoc", "/openapi"))]
    return {f"{','.join(row.methods)} {row.path}": [limit.name for limit in row.limits] for row in rows}


# Names


def build() -> tuple[RateLimits, FastAPI]:
    limits = RateLimits("100/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    router = APIRouter(prefix="/v1", dependencies=[Depends(limits.limit("50/minute"))])
    router.get("/items/{item:path}", dependencies=[Depends(limits.limit("10/minute", "100/hour"))])(ok)
    router.post("/items", dependencies=[Depends(limits.limit(TokenBucket(5, window=1, name="burst")))])(ok)
    named = limits.limit("7/minute", SlidingWindow(70, window=3600, name="long"), name="search")
    app.get(
        "/search", dependencies=[Depends(named), Depends(limits.limit("3/second")), Depends(limits.limit("4/day"))]
    )(ok)
    app.get("/", dependencies=[Depends(limits.limit("1/second"))])(ok)
    app.include_router(router)

    @app.websocket("/ws")
    @limits.limit("2/minute")
    async def ws(websocket: WebSocket) -> None: ...

    return limits, app


def test_names_are_readable_and_the_same_at_every_start():
    expected = {
        "GET /search": ["default", "search", "get-search", "get-search-2"],
        "GET /": ["default", "get-root"],
        "WS /ws": ["default", "ws-ws"],
        "GET /v1/items/{item:path}": ["default", "v1", "get-v1-items-item"],
        "POST /v1/items": ["default", "v1", "post-v1-items"],
    }
    assert names(*build()) == expected
    assert names(*build()) == expected


def test_several_policies_of_a_place_are_told_apart_by_their_windows_or_their_own_names(serve: Serve):
    _, app = build()
    client = serve(app)
    nearest, *others = remaining(client.get("/v1/items/a/b"))
    assert (nearest, {*others}) == ("get-v1-items-item.60s", {"v1", "default", "get-v1-items-item.3600s"})
    assert set(remaining(client.post("/v1/items"))) == {"post-v1-items.burst", "v1", "default"}
    assert set(remaining(client.get("/search"))) == {
        *("default", "search.60s", "search.long", "get-search", "get-search-2")
    }


def test_a_long_path_has_a_name_that_is_cut_and_still_its_own(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    for end in "ab":
        app.get(f"/{'long-' * 40}{end}", dependencies=[Depends(limits.limit("1/minute"))])(ok)
    found = [name for each in names(limits, app).values() for name in each]
    assert len(set(found)) == 2
    assert {len(name) for name in found} == {64}
    assert statuses(serve(app), *[f"/{'long-' * 40}{end}" for end in "abab"]) == [200, 200, 429, 429]


def test_two_limits_of_one_name_are_refused_with_both_places():
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/a", dependencies=[Depends(limits.limit("1/minute", name="x"))])(ok)
    app.get("/b", dependencies=[Depends(limits.limit("1/minute", name="x"))])(ok)
    with pytest.raises(InvalidPolicy, match=r"two limits are named x, on GET /a and on GET /b: .*limits\.shared"):
        starts(app)


def test_routes_lists_what_is_in_force_where_it_was_put_and_what_is_not_limited():
    limits, app = build()
    app.get("/free")(limits.exempt(lambda: "free"))
    app.mount("/sub", FastAPI(openapi_url=None))
    rows = {row.path: row for row in limits.routes(app)}
    assert [limit.at for limit in rows["/v1/items"].limits] == ["app", "router /v1", "POST /v1/items"]
    assert (rows["/free"].limits, rows["/free"].is_exempt) == ((), True)
    assert rows["/search"].limits[1].policies[1].name == "search.long"


def test_the_table_is_logged_for_debugging(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "sluicegate")
    _, app = build()
    starts(app)
    assert "GET /search: default, search, get-search, get-search-2" in caplog.messages


# What is refused at the start


def test_a_decorator_above_the_route_is_refused_and_the_route_named():
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @limits.limit("1/minute")
    @app.get("/items/{item}")
    def items(item: int) -> int:
        return item

    with pytest.raises(
        InvalidPolicy, match=r"items stands above the line of its route, GET /items/{item}.*put it below"
    ):
        starts(app)


def test_a_decorator_above_the_route_is_refused_when_a_factory_makes_the_app():
    limits = RateLimits()

    def factory() -> FastAPI:
        app = FastAPI(lifespan=limits.lifespan)

        @limits.limit("1/minute")
        @app.get("/x")
        def x() -> None: ...

        return app

    with pytest.raises(InvalidPolicy, match="x stands above the line of its route, GET /x"):
        starts(factory())


def test_an_app_of_a_factory_can_be_made_again_with_the_same_limits():
    limits = RateLimits()

    def factory() -> FastAPI:
        app = FastAPI(lifespan=limits.lifespan)

        @app.get("/x")
        @limits.limit("1/minute")
        def x() -> str:
            return "x"

        return app

    for _ in range(2):
        starts(factory())
        gc.collect()


def test_a_decorated_function_that_is_no_route_is_refused_and_named():
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    helper = limits.limit("1/minute")(ok)
    assert helper() == "ok"
    with pytest.raises(InvalidPolicy, match="ok has a limit, and is the endpoint of no route of this app"):
        starts(app)


@pytest.mark.parametrize("wrap", ["none", "outside", "partial"])
def test_other_decorators_and_partials_do_not_hide_a_limit(serve: Serve, wrap: str):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    def outside(function: Callable) -> Callable:
        if wrap == "partial":
            return functools.partial(function, more=1)

        @functools.wraps(function)
        def wrapper(*args: object, **options: object) -> object:
            return function(*args, **options)

        return wrapper if wrap == "outside" else function

    @app.get("/x")
    @outside
    @limits.limit("1/minute")
    @limits.limit("2/minute")
    def x(more: int = 0) -> int:
        return more

    client = serve(app)
    assert remaining(client.get("/x")) == {"get-x": 0, "get-x-2": 1}
    assert statuses(client, "/x") == [429]


def test_strict_refuses_to_start_when_a_route_has_no_limit_and_names_it():
    limits = RateLimits("1/minute", strict=True)
    app = FastAPI(lifespan=limits.lifespan, openapi_url=None)
    app.get("/limited", dependencies=[Depends(limits)])(ok)
    app.get("/free")(limits.exempt(lambda: "free"))
    starts(app)
    app.post("/forgotten/{x}")(lambda x: x)
    with pytest.raises(InvalidPolicy, match=r"no limit is in force on POST /forgotten/{x}: .*@limits\.exempt"):
        starts(app)


def test_strict_counts_what_the_middleware_covers():
    limits = RateLimits("1/minute", strict=True)
    app = FastAPI(lifespan=limits.lifespan)
    app.add_middleware(limits.Middleware)
    app.get("/x")(ok)
    app.mount("/sub", lambda *_: None)
    starts(app)


def test_a_limit_of_another_rate_limits_is_refused_at_the_start():
    limits, other = RateLimits(), RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(other.limit("1/minute"))])(ok)
    with pytest.raises(InvalidPolicy, match="a limit on GET /x was made by another RateLimits: an app has one"):
        starts(app)


def test_two_rate_limits_on_one_app_are_refused_at_the_start():
    limits, other = RateLimits("1/minute"), RateLimits("1/minute")

    @asynccontextmanager
    async def both(app: FastAPI):
        async with limits.lifespan(app), other.lifespan(app):
            yield

    app = FastAPI(lifespan=both, dependencies=[Depends(limits), Depends(other)])
    app.get("/x")(ok)
    with pytest.raises(InvalidPolicy, match="another RateLimits"):
        starts(app)


def test_one_rate_limits_in_two_apps_at_once_is_refused():
    limits = RateLimits("1/minute")
    app, other = (FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)]) for _ in range(2))
    with TestClient(app), pytest.raises(InvalidPolicy, match="a RateLimits for each app"):
        starts(other)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda limits: limits.limit(),
        lambda limits: limits.limit("ten/minute"),
        lambda limits: limits.limit("1/minute", per="client"),
        lambda limits: limits.limit("1/minute", per={"user": 7}),
        lambda limits: limits.limit("1/minute", cost=-1),
        lambda limits: limits.limit("1/minute", cost="2"),
        lambda limits: limits.limit("1/minute", cost=True),
        lambda limits: limits.shared("1/minute", cost=0),
        lambda limits: limits.limit("1/minute", name=""),
        lambda limits: limits.limit("1/minute", charge_when=True),
        lambda limits: limits.limit(SlidingWindow(1, window=60, buckets=6), charge_when=lambda _: True),
        lambda limits: limits.limit("1/minute")(7),
        lambda limits: limits.on_denied(None),
        lambda limits: limits(ok),
        lambda limits: limits.Middleware(FastAPI()),
    ],
)
def test_an_invalid_argument_is_refused_on_its_own_line(wrong: Callable[[RateLimits], object]):
    with pytest.raises(ValueError):
        wrong(RateLimits())


def test_a_middleware_whose_default_needs_a_dependency_is_refused():
    with pytest.raises(InvalidPolicy, match="the middleware needs a default whose key the request alone gives"):
        RateLimits("1/minute", per=ok).Middleware(FastAPI())
    RateLimits("1/minute", per=header("X-API-Key", missing=client_address)).Middleware(FastAPI())


def test_a_shared_budget_by_a_function_is_refused():
    with pytest.raises(InvalidPolicy, match=r"a function is for limits\.limit"):
        RateLimits().shared(ok)


def test_policies_of_two_places_that_come_to_one_name_are_refused():
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    long = limits.limit(SlidingWindow(1, window=1, name="b.c"), name="a")
    short = limits.limit(SlidingWindow(9, window=1, name="c"), name="a.b")
    app.get("/one", dependencies=[Depends(long)])(ok)
    app.get("/other", dependencies=[Depends(short)])(ok)
    with pytest.raises(InvalidPolicy, match=r"named a\.b\.c, on GET /one and on GET /other"):
        starts(app)


def test_the_default_has_its_name_whatever_else_has_one():
    limits = RateLimits("1/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("9/minute", name="default"))])(ok)
    with pytest.raises(InvalidPolicy, match="two limits are named default"):
        starts(app)


# The app's own lifespan


def test_the_lifespan_composes_with_the_apps_own_and_keeps_its_state(serve: Serve):
    limits, events = RateLimits("2/minute"), []

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with limits.lifespan(app):
            events.append("start")
            yield
        events.append("stop")

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    with TestClient(app) as client:
        assert statuses(client, "/x", "/x", "/x") == [200, 200, 429]
    assert events == ["start", "stop"]


def test_a_lifespan_that_fails_leaves_the_limits_fit_for_another_start():
    limits = RateLimits("1/minute", strict=True)
    app = FastAPI(lifespan=limits.lifespan, openapi_url=None)
    app.get("/x")(ok)
    with pytest.raises(InvalidPolicy):
        starts(app)
    limits.strict = False
    starts(app)
