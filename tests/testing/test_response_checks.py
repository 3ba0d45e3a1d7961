"""``assert_limited`` and ``assert_remaining``: what they accept, and what they say of a response that is not so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from sluicegate import SlidingWindow
from sluicegate.testing import LimitsInTest
from sluicegate.web.fastapi import RateLimits

NO_FIELD = "it has no RateLimit field, so it was not limited, or limits are off, or fields=() sends none"


def app_with(**options: Any) -> FastAPI:
    limits = RateLimits("5/minute", **options)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.get("/search", dependencies=[Depends(limits.limit("1/minute"))])
    async def search() -> str:
        return "found"

    @app.head("/head", dependencies=[Depends(limits.limit(SlidingWindow(1, window=60, name="head")))])
    async def head() -> None: ...

    @app.get("/plain")
    @limits.exempt
    async def plain() -> str:
        return "plain"

    return app


def by_test_client(app: FastAPI) -> list[Any]:
    with TestClient(app) as client:
        return [client.get("/search") for _ in range(2)]


def by_httpx(kind: Any) -> Callable[[FastAPI], list[Any]]:
    async def responses(app: FastAPI) -> list[Any]:
        async with kind.AsyncClient(transport=kind.ASGITransport(app), base_url="http://app") as client:
            return [await client.get("/search") for _ in range(2)]

    return lambda app: asyncio.run(responses(app))


def httpx_of_old() -> Any:
    return pytest.importorskip("httpx")


@pytest.mark.parametrize("client", ["TestClient", "httpx2", "httpx"])
def test_responses_of_every_client_are_read(sluicegate: LimitsInTest, client: str):
    app = app_with()
    if client == "TestClient":
        allowed, denied = by_test_client(app)
    else:
        # No lifespan is run here: FastAPI's own order decides the first request, which has the fields all the same.
        allowed, denied = by_httpx(httpx2 if client == "httpx2" else httpx_of_old())(app)
    sluicegate.assert_remaining(allowed, 0)
    sluicegate.assert_remaining(allowed, 0, "get-search")
    sluicegate.assert_remaining(allowed, 4, "default")
    sluicegate.assert_remaining(denied, 0, policy="get-search")
    sluicegate.assert_limited(denied)
    sluicegate.assert_limited(denied, policy="get-search")


def failure(check: Callable[..., None], *arguments: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*arguments)
    return str(caught.value)


def test_a_failure_says_what_came_and_what_was_expected(sluicegate: LimitsInTest):
    with TestClient(app_with()) as client:
        allowed, denied, plain = (client.get(path) for path in ("/search", "/search", "/plain"))
    limited, remaining = sluicegate.assert_limited, sluicegate.assert_remaining
    fields = "its RateLimit: get-search r=0, default r=4"
    assert failure(limited, allowed) == f"expected a 429, got 200; {fields}"
    assert failure(limited, allowed, "default") == f"expected a 429 by policy default, got 200; {fields}"
    assert failure(limited, plain) == f"expected a 429, got 200; {NO_FIELD}"
    assert failure(remaining, allowed, 3) == f"expected 3 to remain under policy get-search, got 0; {fields}"
    assert failure(remaining, allowed, 3, "default") == f"expected 3 to remain under policy default, got 4; {fields}"
    assert failure(remaining, allowed, 3, "serch") == (
        f"expected 3 to remain under policy serch, got a 200 without it; {fields}"
    )
    assert failure(remaining, plain, 3) == f"expected 3 to remain, got a 200 without it; {NO_FIELD}"
    fields = "its RateLimit: get-search r=0 t=60, default r=4"
    assert failure(limited, denied, "default") == (f"expected a 429 by policy default, got one by get-search; {fields}")
    assert failure(remaining, denied, 1, "default") == f"expected 1 to remain under policy default, got 4; {fields}"


def test_a_denial_without_a_document_is_known_by_its_fields(sluicegate: LimitsInTest):
    with TestClient(app_with()) as client:
        denied = [client.head("/head") for _ in range(2)][-1]
    sluicegate.assert_limited(denied, policy="head-head.head")
    assert "got one by head-head.head; " in failure(sluicegate.assert_limited, denied, "default")


def test_an_answer_of_the_apps_own_is_known_by_its_fields(sluicegate: LimitsInTest):
    limits = RateLimits("1/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @limits.on_denied
    def denied(request: Any, refusal: Any) -> PlainTextResponse:
        return PlainTextResponse("no", refusal.status)

    @app.get("/")
    async def index() -> str:
        return "hello"

    with TestClient(app) as client:
        client.get("/")
        sluicegate.assert_limited(client.get("/"), policy="default")


def response(status: int = 429, document: Any = None, **headers: str) -> Any:
    named = httpx2.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return SimpleNamespace(status_code=status, headers=named, json=lambda: document)


def test_a_denial_of_another_kind_names_no_policy(sluicegate: LimitsInTest):
    other = response(content_type="application/problem+json", document=["no object"])
    sluicegate.assert_limited(other)
    assert failure(sluicegate.assert_limited, other, "default") == (
        f"expected a 429 by policy default, got one by a policy that it does not name; {NO_FIELD}"
    )


def test_a_denial_of_a_cost_that_never_fits_is_known_by_its_document(sluicegate: LimitsInTest):
    limits = RateLimits("9/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.get("/", dependencies=[Depends(limits.limit("3/minute", cost=5))])
    async def index() -> str:
        return "hello"

    with TestClient(app) as client:
        sluicegate.assert_limited(client.get("/"), policy="get-root")


def test_a_cost_that_never_fits_is_known_by_what_remains(sluicegate: LimitsInTest):
    sluicegate.assert_limited(response(ratelimit='"a";r=0, "b";r=3'), "a")
    assert "got one by a; " in failure(sluicegate.assert_limited, response(ratelimit='"a";r=0, "b";r=3'), "b")


def test_a_field_that_came_twice_counts_the_first_of_a_name(sluicegate: LimitsInTest):
    sluicegate.assert_remaining(response(200, ratelimit='"a";r=1, "b";r=5, "a";r=3'), 1, "a")


def test_a_field_that_is_none_is_named(sluicegate: LimitsInTest):
    for check in (sluicegate.assert_remaining, lambda got, _: sluicegate.assert_limited(got)):
        assert failure(check, response(200, ratelimit='"a";r='), 1) == (
            "RateLimit must be a list of a structured field, got '\"a\";r='"
        )


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (None, 1),
            "response must have status_code and headers, got one of type NoneType",
        ),
        ((response(), -1), "units must be a whole number of 0 or more, got -1"),
        ((response(), "1"), "units must be a whole number of 0 or more, got '1'"),
        ((response(), True), "units must be a whole number of 0 or more, got True"),
        ((response(), 1, 5), "policy must be the name of a policy, or None, got 5"),
    ],
)
def test_an_invalid_argument_is_named(sluicegate: LimitsInTest, arguments: tuple[Any, ...], message: str):
    with pytest.raises(TypeError) as caught:
        sluicegate.assert_remaining(*arguments)
    assert str(caught.value) == message


def test_a_call_that_was_not_awaited_is_named(sluicegate: LimitsInTest):
    async def get() -> Any: ...

    for check in (sluicegate.assert_limited, lambda got: sluicegate.assert_remaining(got, 1)):
        with pytest.raises(TypeError, match=r"^response must be a response, got .*: await the call of the client$"):
            check(get())
