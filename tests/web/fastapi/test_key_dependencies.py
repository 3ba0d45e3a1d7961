"""Keys, costs and limits are dependencies: of any type, overridden in tests, and never a way around the limit."""

from __future__ import annotations

import enum
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio.lowlevel
import pytest
from asking import Serve, remaining, statuses, violated
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware

from machine import awake
from sluicegate import Decision, InvalidPolicy, SlidingWindow
from sluicegate.web.fastapi import RateLimits, client_address, header
from sluicegate.web.fastapi import user as user_of_scope


def ok() -> str:
    return "ok"


def by(value: Callable[[], Any], policy: str = "2/minute", **options: Any) -> FastAPI:
    """Return an app whose one route is limited by what a function returns."""
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit(policy, per=value, **options))])(ok)
    return app


class Plan(enum.Enum):
    FREE = "free"


# Keys


@pytest.mark.parametrize(
    "key", ["alice", 7, -1, 0, uuid.uuid4(), Plan.FREE, "\x00odd", "ü" * 100, "a" * 100_000, "\x00"]
)
def test_a_key_may_be_text_a_number_a_uuid_or_an_enum(serve: Serve, key: Any):
    assert statuses(serve(by(lambda: key)), "/x", "/x", "/x") == [200, 200, 429]


@pytest.mark.parametrize("key", ["", b"bytes", 1.5, True, object(), ["a"], "\ud800", {"user": None}])
def test_an_invalid_key_is_a_400_logged_for_the_app_and_never_a_shared_budget(
    serve: Serve, caplog: pytest.LogCaptureFixture, key: Any
):
    response = serve(by(lambda: key)).get("/x")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert "does not say who makes it" in response.json()["detail"]
    assert "their key cannot be counted by" in caplog.text


def test_without_a_key_the_client_is_counted_by_its_address_apart_from_all_keys(serve: Serve):
    async def who(x_user: str | None = Header(None)) -> str | None:
        return x_user

    client = serve(by(who, "1/minute"), client=("203.0.113.7", 1))
    assert statuses(client, "/x", "/x") == [200, 429]
    for named in ("203.0.113.7", "\\x00203.0.113.7", "None"):
        assert statuses(client, "/x", "/x", headers={"x-user": named}) == [200, 429]


def test_a_key_of_several_attributes_is_counted_by_all_of_them(serve: Serve):
    def user(x_user: str = Header()) -> str:
        return x_user

    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    both = SlidingWindow(1, window=60, per=("user", "address"))
    app.get("/x", dependencies=[Depends(limits.limit(both, per={"user": user, "address": client_address}))])(ok)
    client = serve(app)
    assert statuses(client, "/x", "/x", headers={"x-user": "alice"}) == [200, 429]
    assert statuses(client, "/x", "/x", headers={"x-user": "bob"}) == [200, 429]


def test_the_user_of_starlettes_authentication_is_a_key(serve: Serve):
    class Backend:
        async def authenticate(self, connection: Request):
            name = connection.headers.get("x-user")
            return (AuthCredentials(), SimpleUser(name)) if name else None

    limits = RateLimits("1/minute", per=user_of_scope)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.add_middleware(AuthenticationMiddleware, backend=Backend())
    app.get("/x")(ok)
    client = serve(app)
    for headers in ({"x-user": "alice"}, {"x-user": "bob"}, {}):
        assert statuses(client, "/x", "/x", headers=headers) == [200, 429]


def test_a_key_from_a_dependency_that_yields_is_closed_after_a_denial_too(serve: Serve):
    closed = []

    async def session() -> AsyncIterator[str]:
        try:
            yield "alice"
        finally:
            closed.append(1)

    assert statuses(serve(by(session, "1/minute")), "/x", "/x") == [200, 429]
    assert closed == [1, 1]


def test_clients_cannot_fill_the_log_with_keys_that_cannot_be_counted_by(
    serve: Serve, caplog: pytest.LogCaptureFixture
):
    client = serve(by(lambda: ""))
    assert statuses(client, *["/x"] * 5) == [400] * 5
    assert caplog.text.count("cannot be counted by") == 1


# Overrides


def test_the_override_of_a_key_is_counted_by(serve: Serve):
    def user() -> str:
        raise HTTPException(401)

    app = by(user, "1/minute")
    client = serve(app)
    assert statuses(client, "/x") == [401]
    app.dependency_overrides[user] = lambda: "alice"
    assert statuses(client, "/x", "/x") == [200, 429]
    app.dependency_overrides[user] = lambda: "bob"
    assert statuses(client, "/x") == [200]


@pytest.mark.parametrize("key", [client_address, header("X-API-Key")], ids=["client_address", "header"])
@pytest.mark.parametrize("middleware", [False, True])
def test_the_override_of_a_key_of_the_request_is_counted_by(serve: Serve, key: Any, middleware: bool):
    limits = RateLimits("1/minute", per=key)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    if middleware:
        app.add_middleware(limits.Middleware)
    app.get("/x")(ok)
    client = serve(app)

    async def later() -> str:
        return "192.0.2.3"

    for number, override in enumerate((lambda: "192.0.2.1", lambda: "192.0.2.2", later)):
        app.dependency_overrides[key] = override
        assert statuses(client, "/x", "/x") == [200, 429], number


def test_a_limit_that_is_overridden_limits_nothing(serve: Serve):
    limits = RateLimits("1/minute")
    app, once = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)]), limits.limit("1/minute")
    app.get("/x", dependencies=[Depends(once)])(ok)
    client = serve(app)
    assert statuses(client, "/x", "/x") == [200, 429]
    app.dependency_overrides |= {limits: lambda: None, once: lambda: None}
    assert [remaining(client.get("/x")) for _ in range(3)] == [{}] * 3
    app.dependency_overrides.clear()
    assert statuses(client, "/x") == [429]


# Costs


def test_a_cost_comes_from_a_dependency_and_nothing_costs_nothing(serve: Serve):
    def size(n: int) -> int:
        return n

    client = serve(by(client_address, "10/minute", cost=size))
    assert [remaining(client.get(f"/x?n={n}")) for n in (4, 0, 6)] == [{"get-x": 6}, {}, {"get-x": 0}]
    assert statuses(client, "/x?n=1", "/x?n=0", "/x?n=many") == [429, 200, 422]


@pytest.mark.parametrize("cost", [-1, 1.5, "2", None, True, 10**12])
def test_a_cost_that_is_none_is_a_400_and_logged(serve: Serve, caplog: pytest.LogCaptureFixture, cost: Any):
    assert statuses(serve(by(client_address, cost=lambda: cost)), "/x") == [400]
    assert "a cost must be a whole number" in caplog.text


def test_a_cost_for_an_unknown_policy_is_a_400_and_logged(serve: Serve, caplog: pytest.LogCaptureFixture):
    assert statuses(serve(by(client_address, cost=lambda: {"tokens": 5})), "/x", "/x") == [400, 400]
    assert caplog.text.count("no policy of this limiter is named 'tokens'") == 1


# Limits by function


def plan(x_plan: str = Header("free")) -> str:
    return x_plan


def by_function(function: Callable[..., Any], **options: Any) -> FastAPI:
    limits = RateLimits(plans={"free": "1/minute", "pro": ["2/minute", "9/hour"], "partner": None}, **options)
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit(function))])(ok)
    app.get("/free")(lambda: "free")
    return app


def test_a_function_of_dependencies_gives_the_plan_of_each_request(serve: Serve):
    async def policies(name: str = Depends(plan)) -> Any:
        await anyio.lowlevel.checkpoint()
        return {"none": None, "own": SlidingWindow(3, window=60), "rate": "4/minute"}.get(name, name)

    client = serve(by_function(policies))
    found = {
        name: remaining(client.get("/x", headers={"x-plan": name}))
        for name in ("free", "own", "pro", "rate", "none", "partner")
    }
    # What a client has used counts under its next plan, too, where the window is the same.
    assert found == {
        "free": {"get-x.60s": 0},
        "own": {"get-x.60s": 1},
        "pro": {"get-x.60s": 0, "get-x.3600s": 9},
        "rate": {"get-x.60s": 1},
        "none": {},
        "partner": {},
    }
    assert violated(client.get("/x", headers={"x-plan": "free"})) == ["get-x.60s"]


@pytest.mark.parametrize("answer", ["suspended", 0])
def test_a_plan_that_is_suspended_is_denied_and_nothing_is_counted(serve: Serve, answer: Any):
    seen: list[Decision] = []
    limits = RateLimits(
        "9/minute",
        plans={"suspended": 0, "free": "1/minute"},
        fields=("RateLimit", "X-RateLimit"),
        on_decision=lambda decision, _: seen.append(decision),
    )

    async def by_plan(name: str = Depends(plan)) -> Any:
        return answer if name == "suspended" else name

    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit(by_plan, ban=("1/hour", 60)))])(ok)
    client = serve(app)
    for _ in range(3):
        response = client.get("/x", headers={"x-plan": "suspended"})
        assert response.status_code == 429
        assert "retry-after" not in response.headers
        assert response.headers["ratelimit-policy"] == '"get-x";q=0, "default";q=9;w=60'
        assert response.headers["ratelimit"] == '"get-x";r=0, "default";r=9'
        assert response.headers["x-ratelimit-limit"] == "0"
        assert response.json()["detail"] == "Denied by policy get-x, whose limit is 0. No request is allowed."
        assert response.json()["type"].endswith("#quota-exceeded")
        assert violated(response) == ["get-x"]
    assert (seen[-1].limit, seen[-1].source, seen[-1].allowed) == (0, "fallback", False)
    assert remaining(client.get("/x", headers={"x-plan": "free"})) == {"get-x.60s": 0, "default": 8}
    limits.enabled = False
    assert client.get("/x", headers={"x-plan": "suspended"}).status_code == 200


def raises() -> Any:
    raise RuntimeError("the database is down")


NEVER = threading.Event()


@pytest.fixture(autouse=True)
def no_thread_is_left_hanging() -> Iterator[None]:
    yield
    NEVER.set()
    NEVER.clear()


def hangs() -> Any:
    NEVER.wait(10)


async def hangs_async() -> Any:
    await anyio.sleep(30)


FAILING = {
    "raises": raises,
    "hangs": hangs,
    "hangs async": hangs_async,
    "number": lambda: 7,
    "unknown plan": lambda: "platinum",
    "unhashable": lambda: {"limit": 1},
    "list of nonsense": lambda: [["1/minute"]],
    "nothing in it": lambda: (),
}


@pytest.mark.parametrize("on_outage", ["local", "open", "closed", "raise"])
@pytest.mark.parametrize("function", FAILING.values(), ids=FAILING)
def test_a_limit_function_that_fails_concerns_its_request_alone_and_is_answered_in_time(
    serve: Serve, caplog: pytest.LogCaptureFixture, on_outage: str, function: Any
):
    app = by_function(function, on_outage=on_outage, lookup_timeout=0.05)
    client = serve(app, raise_server_exceptions=False)
    began_at = awake()
    assert statuses(client, "/x") == [{"open": 200, "raise": 500}.get(on_outage, 503)]
    assert statuses(client, "/free") == [200]
    assert awake() - began_at < 2
    assert on_outage == "raise" or "a limit could not be looked up" in caplog.text


def test_what_a_limit_function_wants_to_answer_is_answered(serve: Serve):
    def teapot() -> str:
        raise HTTPException(418)

    assert statuses(serve(by_function(teapot)), "/x") == [418]


def test_a_limit_function_is_found_by_an_override(serve: Serve):
    app = by_function(raises)
    app.dependency_overrides[raises] = lambda: "2/minute"
    assert remaining(serve(app).get("/x")) == {"get-x.60s": 1}


def test_plans_are_checked_where_they_are_written():
    for wrong in ({"free": "many"}, {"free": []}, ["free"], {"free": 7}):
        with pytest.raises((InvalidPolicy, ValueError)):
            RateLimits(plans=wrong)
