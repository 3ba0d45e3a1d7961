"""Nobody gets past a limit: apps in middleware, routers that serve twice, late routes, apps that call themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asking import Serve, remaining, statuses
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from sluicegate import Concurrency, InvalidPolicy, SlidingWindow
from sluicegate.web.fastapi import RateLimits, Reservation, header


def ok() -> str:
    return "ok"


def limited_app(limits: RateLimits, rate: str = "1/minute") -> FastAPI:
    app = FastAPI()
    app.get("/pay", dependencies=[Depends(limits.limit(rate))])(ok)
    return app


@pytest.mark.parametrize("how", ["wrapped", "listed", "plain"])
def test_a_mounted_app_inside_of_middleware_is_limited(serve: Serve, how: str):
    limits = RateLimits()
    sub = limited_app(limits)
    mounts = {
        "wrapped": Mount("/w", GZipMiddleware(sub)),
        "listed": Mount("/w", app=sub, middleware=[Middleware(GZipMiddleware)]),
        "plain": Mount("/w", sub),
    }
    app = FastAPI(lifespan=limits.lifespan, routes=[mounts[how]])
    assert statuses(serve(app), "/w/pay", "/w/pay") == [200, 429]
    assert [limit.name for row in limits.routes(app) for limit in row.limits] == ["get-w-pay"]


def test_a_router_in_an_app_and_in_a_mounted_one_has_the_limits_of_each_place(serve: Serve):
    limits = RateLimits("2/minute")
    router = APIRouter()
    router.get("/items")(ok)
    app, sub = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)]), FastAPI()
    app.include_router(router, dependencies=[Depends(limits.limit("5/minute", name="include"))])
    sub.include_router(router)
    app.mount("/internal", sub)
    client = serve(app)
    assert statuses(client, *["/items"] * 3) == [200, 200, 429]
    assert statuses(client, *["/internal/items"] * 3) == [200] * 3
    assert remaining(client.get("/items")) == {"default": 0, "include": 3}


def test_an_app_mounted_twice_has_a_budget_for_each_mount(serve: Serve):
    limits = RateLimits()
    sub = limited_app(limits)
    app = FastAPI(lifespan=limits.lifespan)
    app.mount("/a", sub)
    app.mount("/b", sub)
    assert statuses(serve(app), "/a/pay", "/a/pay", "/b/pay", "/b/pay") == [200, 429, 200, 429]


@pytest.mark.parametrize("where", ["app", "router"])
def test_every_limit_of_a_route_that_was_added_after_the_start_counts(serve: Serve, where: str):
    limits = RateLimits("9/minute")
    app, router = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)]), APIRouter()
    router.get("/early")(ok)
    app.include_router(router)
    client = serve(app)
    target = app if where == "app" else router
    target.get("/late", dependencies=[Depends(limits.limit("2/minute", name="late"))])(ok)
    assert statuses(client, *["/late"] * 3) == [200, 200, 429]


@pytest.mark.parametrize("where", ["app", "router", "mount"])
def test_a_late_route_under_the_middleware_does_not_run_once_it_is_denied(serve: Serve, where: str):
    limits = RateLimits("2/minute")
    app, router, sub, ran = FastAPI(lifespan=limits.lifespan), APIRouter(), FastAPI(), []
    app.add_middleware(limits.Middleware)
    router.get("/early")(ok)
    app.include_router(router)
    app.mount("/sub", sub)
    client = serve(app)
    {"app": app, "router": router, "mount": sub}[where].post("/charge")(lambda: ran.append(1))
    path = "/sub/charge" if where == "mount" else "/charge"
    assert [client.post(path).status_code for _ in range(4)] == [200, 200, 429, 429]
    assert len(ran) == 2


def test_an_app_that_calls_itself_for_the_parts_of_a_batch_is_limited_for_each(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    done: list[str] = []

    @app.get("/pay", dependencies=[Depends(limits.limit("1/minute"))])
    async def pay() -> None:
        done.append("paid")

    @app.get("/batch", dependencies=[Depends(limits.limit("9/minute"))])
    async def batch(request: Request) -> list[int]:
        seen: list[int] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen.append(message["status"])

        for _ in range(3):
            await request.app({**request.scope, "path": "/pay", "raw_path": b"/pay"}, receive, send)
        return seen

    assert serve(app).get("/batch").json() == [200, 429, 429]
    assert done == ["paid"]


def test_a_missing_key_of_another_limit_leaves_no_way_past_the_address(serve: Serve):
    limits = RateLimits("3/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("9/minute", per=header("X-API-Key")))])(ok)
    assert statuses(serve(app), *["/x"] * 5) == [400, 400, 400, 429, 429]


def test_an_invalid_key_in_the_second_step_gives_the_first_charge_not_back(serve: Serve):
    limits = RateLimits("3/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    async def tenant(tenant: str = "") -> str:
        return tenant

    app.get("/x", dependencies=[Depends(limits.limit("9/minute", per=tenant))])(ok)
    assert statuses(serve(app), *["/x?tenant="] * 5) == [400, 400, 400, 429, 429]


@pytest.mark.parametrize("on_outage", ["local", "open", "closed"])
def test_a_clients_invalid_cost_is_a_400_and_charged_by_address(serve: Serve, on_outage: Any):
    limits = RateLimits("3/minute", on_outage=on_outage)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    async def pages(pages: int) -> int:
        return pages

    app.get("/x", dependencies=[Depends(limits.limit("9/minute", cost=pages))])(ok)
    assert statuses(serve(app), *["/x?pages=-1"] * 4) == [400, 400, 400, 429]


def test_a_limit_on_a_route_that_fastapi_does_not_solve_is_refused_at_the_start(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    async def plain(request: Request) -> Any: ...

    app.router.add_route("/plain", limits.limit("1/minute")(plain))
    with pytest.raises(InvalidPolicy, match="the limit on GET,HEAD /plain has no effect there"):
        serve(app)


def test_a_limit_without_its_policies_is_refused_at_the_start(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x")(limits.limit(ok))
    with pytest.raises(InvalidPolicy, match="the endpoint of GET /x is a limit"):
        serve(app)


def test_a_route_that_serves_options_counts_what_looks_like_a_preflight(serve: Serve):
    limits = RateLimits("1/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.options("/x")(ok)
    preflight = {"origin": "https://example.com", "access-control-request-method": "GET"}
    client = serve(app)
    assert [client.options("/x", headers=preflight).status_code for _ in range(2)] == [200, 429]


# Policies that round times beside charges that are settled


def test_a_default_with_buckets_keeps_nothing_from_being_settled(serve: Serve):
    limits = RateLimits(SlidingWindow(100, window=60, buckets=60))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    guard = limits.limit("2/minute", charge_when=lambda response: response.status_code == 401)
    app.get("/login", dependencies=[Depends(guard)])(ok)

    @app.get("/tokens")
    async def tokens(r: Reservation = Depends(limits.reserve("100/minute", cost=60))) -> None:
        r.settle(10)

    app.get("/slow", dependencies=[Depends(limits.limit(Concurrency(1)))])(ok)
    client = serve(app)
    assert statuses(client, *["/login"] * 4) == [200] * 4
    assert statuses(client, *["/tokens"] * 4) == [200] * 4
    assert statuses(client, *["/slow"] * 3) == [200] * 3


def test_permits_and_buckets_in_one_limit_are_refused():
    with pytest.raises(InvalidPolicy, match="make a limit for each"):
        RateLimits().limit(Concurrency(1), SlidingWindow(9, window=60, buckets=6))


@pytest.mark.parametrize("what", ["charge_when", "actual"])
def test_what_judges_a_response_must_be_synchronous(what: str):
    async def judges(_: Any) -> bool:
        return False

    with pytest.raises(InvalidPolicy, match=f"{what} must be a synchronous function"):
        RateLimits().limit("1/minute", **{what: judges})


def test_a_bad_actual_leaves_what_others_settle(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    bad = limits.limit("9/minute", name="bad", actual=lambda _: -5)
    good = limits.limit("9/minute", name="good", cost=4, actual=lambda _: 1)
    app.get("/x", dependencies=[Depends(bad), Depends(good)])(ok)
    client = serve(app)
    client.get("/x")
    assert remaining(client.get("/x")) == {"good": 4, "bad": 7}


def test_all_that_is_held_is_released_though_the_client_leaves_meanwhile(serve: Serve):
    """The task is cancelled while the first of two reservations is being settled."""
    limits = RateLimits()
    ended: list[int] = []
    gate = asyncio.Event()

    class Held:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __aexit__(self, *_: object) -> None:
            if self.number == 1:
                await gate.wait()
            ended.append(self.number)

    async def main() -> None:
        from sluicegate.web.exchange import Exchange

        exchange = Exchange(limits._engine, {"type": "http", "headers": []})
        exchange.held = [(Held(1), ()), (Held(2), ())]  # type: ignore[list-item]
        task = asyncio.create_task(exchange.end())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()
        async with asyncio.timeout(10):
            while len(ended) < 2:
                await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == [1, 2]
