"""What clients are told: fields on every response of a limited route, denials, pages, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
from asking import Serve, remaining, statuses, violated
from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from fastapi.testclient import TestClient

from sluicegate import Decision
from sluicegate.web.fastapi import Denied, RateLimits, Refusal, client_address

ALICE = {"x-user": "alice"}


def ok() -> str:
    return "ok"


async def user(request: Request) -> str:
    return request.headers["x-user"]


def of_every_kind(limits: RateLimits) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan)

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"a", b"b", b"c"):
            yield part

    def fails() -> None:
        raise RuntimeError("a bug of the app")

    def refuses() -> None:
        raise HTTPException(418, "teapot", {"x-own": "1"})

    def validates(number: int) -> int:
        return number

    def injected(response: Response) -> str:
        response.headers["x-own"] = "1"
        return "ok"

    endpoints = {
        "plain": ok,
        "injected": injected,
        "own": lambda: JSONResponse({"own": 1}, 201),
        "redirect": lambda: RedirectResponse("/elsewhere"),
        "stream": lambda: StreamingResponse(parts()),
        "teapot": refuses,
        "invalid": validates,
        "bug": fails,
    }
    for name, endpoint in endpoints.items():
        app.get(f"/{name}", dependencies=[Depends(limits.limit("9/minute", per=user, name=name))])(endpoint)
        app.get(f"/free/{name}")(endpoint)
    return app


def test_a_500_has_fields_from_the_first_response_on_with_the_middleware_alone():
    limits = RateLimits("9/minute")
    app = FastAPI()
    app.add_middleware(limits.Middleware)

    @app.get("/bug")
    def bug() -> None:
        raise RuntimeError("a bug of the app")

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/bug")
    assert response.status_code == 500
    assert remaining(response) == {"default": 8}


EXPECTED = {
    "plain": 200,
    "injected": 200,
    "own": 201,
    "redirect": 307,
    "stream": 200,
    "teapot": 418,
    "invalid": 422,
    "bug": 500,
}


@pytest.mark.parametrize(("name", "status"), EXPECTED.items())
def test_every_response_of_a_limited_route_has_fields_and_none_of_another(serve: Serve, name: str, status: int):
    client = serve(of_every_kind(RateLimits()), raise_server_exceptions=False, follow_redirects=False)
    limited, free = (client.get(f"{path}/{name}", headers=ALICE) for path in ("", "/free"))
    assert (limited.status_code, free.status_code) == (status, status)
    assert (limited.content, limited.headers.get("x-own")) == (free.content, free.headers.get("x-own"))
    assert remaining(limited) == {name: 8}
    assert limited.headers["ratelimit-policy"] == f'"{name}";q=9;w=60'
    assert not [field for field in free.headers if "ratelimit" in field]


def test_a_denial_is_a_problem_document_that_is_not_stored(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", message="Searching is dear."))])(ok)
    client = serve(app)
    client.get("/x")
    denied = client.get("/x")
    assert (denied.status_code, denied.headers["cache-control"]) == (429, "no-store")
    assert 58 <= int(denied.headers["retry-after"]) <= 60
    assert denied.headers["ratelimit"] == f'"get-x";r=0;t={denied.headers["retry-after"]}'
    assert denied.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota Exceeded",
        "status": 429,
        "detail": "Searching is dear.",
        "violated-policies": ["get-x"],
    }


def test_the_policy_that_decides_comes_first_in_the_field(serve: Serve):
    limits = RateLimits("2/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("9/minute", per=user))])(ok)
    client = serve(app)
    assert [next(iter(remaining(client.get("/x", headers=ALICE)))) for _ in range(3)] == ["default"] * 3


def test_the_fields_are_exposed_to_scripts_of_other_origins_beside_the_apps_own(serve: Serve):
    limits = RateLimits("1/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.add_middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["X-Own"])
    app.get("/x")(ok)
    client = serve(app)
    for status in (200, 429):
        response = client.get("/x", headers={"origin": "https://a.example"})
        exposed = [name.strip().lower() for name in response.headers["access-control-expose-headers"].split(",")]
        assert (response.status_code, set(exposed)) == (
            status,
            {"x-own", "ratelimit", "ratelimit-policy", "retry-after"},
        )
    assert "access-control-expose-headers" not in client.get("/x").headers


def test_x_ratelimit_fields_are_sent_if_asked_for(serve: Serve):
    limits = RateLimits("2/minute", fields=("X-RateLimit",))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    response = serve(app).get("/x")
    found = {name: value for name, value in response.headers.items() if "ratelimit" in name}
    assert found == {"x-ratelimit-limit": "2", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "60"}


def test_jitter_spreads_retry_after_and_never_shortens_it(serve: Serve):
    limits = RateLimits("1/minute", jitter=1.0)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    client = serve(app)
    client.get("/x")
    denied = [client.get("/x") for _ in range(20)]
    waits = [(int(each.headers["retry-after"]), int(each.headers["ratelimit"].rpartition("=")[2])) for each in denied]
    assert all(least <= wait <= 120 for wait, least in waits)
    assert len({wait for wait, _ in waits}) > 3


def test_a_wait_without_an_end_names_none(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit("2/minute", cost=3))])(ok)
    denied = serve(app).get("/x")
    assert denied.status_code == 429
    assert "retry-after" not in denied.headers


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [("text/html,application/xhtml+xml,*/*;q=0.8", True), ("application/json", False), ("*/*", False)],
)
def test_browsers_get_a_page_if_asked_for(serve: Serve, accept: str, is_page: bool):
    limits = RateLimits(pages=True)
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", message="<b> & co"))])(ok)
    client = serve(app)
    client.get("/x")
    denied = client.get("/x", headers={"accept": accept})
    assert (denied.status_code, "retry-after" in denied.headers, remaining(denied)) == (429, True, {"get-x": 0})
    assert denied.headers["content-type"] == ("text/html; charset=utf-8" if is_page else "application/problem+json")
    assert ("&lt;b&gt; &amp; co" in denied.text) == is_page


@pytest.mark.parametrize("kind", ["sync", "async", "none"])
@pytest.mark.parametrize("per", [client_address, user], ids=["first step", "second step"])
def test_the_apps_own_function_answers_denials(serve: Serve, kind: str, per: Any):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", per=per))])(ok)

    def page(request: Request, refusal: Refusal) -> HTMLResponse:
        return HTMLResponse(f"{request.url.path} {refusal.decision.policy}", refusal.status, refusal.headers)

    async def later(request: Request, refusal: Refusal) -> HTMLResponse:
        await asyncio.sleep(0)
        return page(request, refusal)

    limits.on_denied({"sync": page, "async": later, "none": lambda *_: None}[kind])
    client = serve(app)
    client.get("/x", headers=ALICE)
    denied = client.get("/x", headers=ALICE)
    assert (denied.status_code, "retry-after" in denied.headers, remaining(denied)) == (429, True, {"get-x": 0})
    assert denied.text == "/x get-x" if kind != "none" else violated(denied) == ["get-x"]


def test_a_handler_of_the_apps_own_comes_first_and_the_fields_stay(serve: Serve):
    limits = RateLimits("1/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)

    @app.exception_handler(Denied)
    async def answer(_: Request, error: Denied) -> JSONResponse:
        return JSONResponse({"own": error.status_code}, error.status_code)

    client = serve(app)
    client.get("/x")
    denied = client.get("/x")
    assert (denied.status_code, denied.json(), remaining(denied)) == (429, {"own": 429}, {"default": 0})


def test_decisions_are_handed_on_with_their_time_and_an_error_there_harms_no_request(serve: Serve):
    seen: list[tuple[Decision, float]] = []

    def note(*args: Any) -> None:
        seen.append(args)
        raise RuntimeError("a bug in the metrics")

    limits = RateLimits("1/minute", on_decision=note)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    assert statuses(serve(app), "/x", "/x") == [200, 429]
    assert [decision.allowed for decision, _ in seen] == [True, False]
    assert all(0 <= seconds < 60 for _, seconds in seen)


def test_background_tasks_run_after_the_response_and_only_if_it_is_allowed(serve: Serve):
    limits, done = RateLimits("1/minute"), []
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.get("/x")
    def x(tasks: BackgroundTasks) -> str:
        tasks.add_task(done.append, 1)
        return "ok"

    assert statuses(serve(app), "/x", "/x") == [200, 429]
    assert done == [1]


@contextmanager
def without_limits(limits: RateLimits) -> Iterator[None]:
    limits.enabled = False
    yield
    limits.enabled = True


def test_the_off_switch_counts_nothing_and_says_nothing(serve: Serve):
    limits = RateLimits("1/minute")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x", dependencies=[Depends(limits.limit("1/minute", per=user))])(ok)
    client = serve(app)
    with without_limits(limits):
        found = [client.get("/x", headers=ALICE) for _ in range(3)]
        assert [(each.status_code, remaining(each)) for each in found] == [(200, {})] * 3
    assert statuses(client, "/x", "/x", headers=ALICE) == [200, 429]


def test_openapi_has_the_parameters_of_keys_as_theirs_and_the_denial_with_its_fields():
    limits = RateLimits("9/minute")
    app = FastAPI(dependencies=[Depends(limits)], responses=limits.responses)

    def tenant(tenant: str, depth: int = 1) -> str:
        return f"{tenant}{depth}"

    @app.get("/x/{item}")
    @limits.limit("9/minute", per=tenant)
    @limits.exempt
    async def x(item: int, q: str = "") -> str:
        """Documented."""
        return q

    operation = TestClient(app).get("/openapi.json").json()["paths"]["/x/{item}"]["get"]
    assert {each["name"] for each in operation["parameters"]} == {"item", "q", "tenant", "depth"}
    assert (operation["summary"], operation["description"]) == ("X", "Documented.")
    denial = operation["responses"]["429"]
    assert set(denial["headers"]) == {"RateLimit", "RateLimit-Policy", "Retry-After"}
    assert "violated-policies" in denial["content"]["application/problem+json"]["schema"]["properties"]


def test_openapi_has_the_answer_of_fastapi_to_a_body_that_cannot_be_read_beside_that_to_a_key():
    limits = RateLimits("9/minute")
    app = FastAPI(dependencies=[Depends(limits)], responses=limits.responses)

    @app.post("/x")
    async def x(item: Annotated[str, Body(embed=True)]) -> str:
        return item

    client = TestClient(app)
    answer = client.post("/x", content=b"\xff", headers={"content-type": "application/json"})
    described = client.get("/openapi.json").json()["paths"]["/x"]["post"]["responses"]["400"]["content"]
    assert answer.status_code == 400
    assert set(answer.json()) == set(described[answer.headers["content-type"]]["schema"]["properties"])
    assert set(described) == {"application/problem+json", "application/json"}
