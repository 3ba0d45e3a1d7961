"""One decision, and nobody gets past it: what is decided before the body and the dependencies, and what after them."""

from __future__ import annotations

import threading
from typing import Annotated

import pytest
from asking import Serve, at_once, remaining, statuses, violated
from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException
from fastapi.middleware.cors import CORSMiddleware

from sluicegate import Decision, SlidingWindow
from sluicegate.web.fastapi import ClientAddress, RateLimits, client_address, header

PROXY = ("10.0.0.1", 50000)


def ok() -> str:
    return "ok"


async def user(x_user: Annotated[str | None, Header()] = None) -> str:
    if x_user is None:
        raise HTTPException(401, "who are you?")
    return x_user


# In front of everything


def test_malformed_json_is_charged_and_denied_before_the_body_is_read(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @app.post("/login")
    @limits.limit("2/minute")
    async def login(name: Annotated[str, Body(embed=True)]) -> str:
        return name

    client = serve(app)
    broken = {"content": "{{{", "headers": {"content-type": "application/json"}}
    found = [client.post("/login", **broken) for _ in range(3)]
    assert [response.status_code for response in found] == [422, 422, 429]
    assert [remaining(response) for response in found] == [{"post-login": n} for n in (1, 0, 0)]
    assert client.post("/login", json={"name": "bob"}).status_code == 429


def test_a_routers_authentication_is_limited_by_the_limit_of_a_route(serve: Serve):
    limits, asked = RateLimits(), []

    def authenticated() -> None:
        asked.append(1)
        raise HTTPException(401)

    app, router = FastAPI(lifespan=limits.lifespan), APIRouter(dependencies=[Depends(authenticated)])
    router.get("/x", dependencies=[Depends(limits.limit("2/minute"))])(ok)
    app.include_router(router)
    client = serve(app)
    assert statuses(client, *["/x"] * 4) == [401, 401, 429, 429]
    assert len(asked) == 2


def test_a_failed_authentication_before_the_key_is_charged_by_address_all_the_same(serve: Serve):
    limits = RateLimits("3/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("9/minute", per=user))])(ok)
    client = serve(app)
    found = [client.get("/x") for _ in range(4)]
    assert [response.status_code for response in found] == [401, 401, 401, 429]
    assert [remaining(response) for response in found] == [{"default": n} for n in (2, 1, 0, 0)]
    assert statuses(client, "/x", headers={"x-user": "alice"}) == [429]


def test_a_failed_authentication_is_charged_to_what_is_shared_too_before_it_is_answered(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    both = [Depends(limits.shared("2/minute")), Depends(limits.limit("9/minute", per=user))]
    app.get("/x", dependencies=both)(ok)
    assert statuses(serve(app), "/x", "/x", "/x") == [401, 401, 429]


def test_a_preflight_is_not_counted_and_other_options_requests_are(serve: Serve):
    limits = RateLimits("2/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(limits.Middleware)
    app.api_route("/x", methods=["GET", "OPTIONS"])(ok)
    client = serve(app)
    preflight = {"origin": "https://a.example", "access-control-request-method": "GET"}
    for _ in range(3):
        response = client.options("/x", headers=preflight)
        assert (response.status_code, remaining(response)) == (200, {})
    assert [client.options("/x").status_code for _ in range(3)] == [200, 200, 429]


# Who it is


def test_a_forged_header_gives_no_new_budget(serve: Serve):
    limits = RateLimits("2/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    client = serve(app, client=("203.0.113.7", 50000))
    names = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP")
    for number, expected in enumerate([200, 200, 429, 429]):
        forged = {name: f"for=198.51.100.{number}" if name == "Forwarded" else f"198.51.100.{number}" for name in names}
        assert client.get("/x", headers=forged).status_code == expected


def test_behind_a_proxy_the_client_cannot_choose_its_address(serve: Serve):
    limits = RateLimits("1/minute", per=ClientAddress(trusted=["10.0.0.0/8"]))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    client = serve(app, client=PROXY)
    lines = [
        "198.51.100.1",
        "1.1.1.1, 198.51.100.1",
        "2.2.2.2, 198.51.100.1",
        "198.51.100.2",
        "198.51.100.1, 198.51.100.3",
    ]
    assert [client.get("/x", headers={"X-Forwarded-For": line}).status_code for line in lines] == [
        200,
        429,
        429,
        200,
        200,
    ]


def test_hopping_through_the_addresses_of_one_ipv6_network_gives_no_new_budget(serve: Serve):
    limits = RateLimits("2/minute", per=ClientAddress(trusted=["10.0.0.0/8"]))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    client = serve(app, client=PROXY)
    hops = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "[2001:db8:1:2:a:b:c:d]:443", "2001:db8:1:3::1"]
    assert [client.get("/x", headers={"X-Forwarded-For": hop}).status_code for hop in hops] == [200, 200, 429, 200]


def test_a_missing_or_repeated_header_is_a_400_that_says_what_is_expected(serve: Serve):
    limits = RateLimits("1/minute", per=header("X-API-Key"))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    client = serve(app)
    for headers in ([], [("X-API-Key", "a"), ("X-API-Key", "b")], [("X-API-Key", "a" * 257)]):
        response = client.get("/x", headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
        assert "X-API-Key must be sent once" in response.json()["detail"]
        assert remaining(response) == {}


# Two steps


def test_what_the_second_step_denies_is_given_back_to_the_first(serve: Serve):
    limits = RateLimits("5/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", per=user))])(ok)
    app.get("/default")(ok)
    client = serve(app)
    alice = {"headers": {"x-user": "alice"}}
    assert statuses(client, *["/x"] * 4, **alice) == [200, 429, 429, 429]
    denied = client.get("/x", **alice)
    assert violated(denied) == ["get-x"]
    assert remaining(denied) == {"get-x": 0, "default": 4}
    assert remaining(client.get("/default")) == {"default": 3}


def test_a_denied_request_takes_nothing_from_any_limit_of_its_step(serve: Serve):
    limits = RateLimits("5/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("1/minute"))])(ok)
    app.get("/default")(ok)
    client = serve(app)
    assert statuses(client, *["/x"] * 5) == [200, 429, 429, 429, 429]
    assert remaining(client.get("/default")) == {"default": 3}


def test_a_policy_that_cannot_give_back_keeps_the_first_charge_and_is_never_over(serve: Serve):
    limits = RateLimits(SlidingWindow(3, window=60, buckets=6))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", per=user))])(ok)
    client = serve(app)
    found = [client.get("/x", headers={"x-user": "alice"}) for _ in range(4)]
    assert [response.status_code for response in found] == [200, 429, 429, 429]
    assert violated(found[-1]) == ["default"]


@pytest.mark.parametrize("per", [client_address, user], ids=["one step", "two steps"])
def test_concurrent_requests_at_the_limit_are_allowed_exactly_as_often_as_it_says(serve: Serve, per: object):
    limits = RateLimits("100/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("20/minute", per=per))])(ok)
    app.get("/default")(ok)
    client = serve(app)
    found = at_once(lambda: client.get("/x", headers={"x-user": "alice"}).status_code, 50)
    assert sorted(found) == [200] * 20 + [429] * 30
    assert remaining(client.get("/default")) == {"default": 79}


def test_every_limit_tells_who_it_counts_by_once_and_the_dependency_is_cached(serve: Serve):
    calls = []

    def me() -> str:
        calls.append(threading.get_ident())
        return "me"

    limits = RateLimits("9/minute", per=me)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.get("/x", dependencies=[Depends(limits.limit("8/minute"))])
    def x(who: str = Depends(me), decision: Decision = Depends(limits.decision)) -> list[object]:
        return [who, [part.policy for part in decision.decisions]]

    response = serve(app).get("/x")
    assert response.json() == ["me", ["default", "get-x"]]
    assert remaining(response) == {"get-x": 7, "default": 8}
    assert len(calls) == 1
