"""Schemathesis calls what OpenAPI documents describe: no 500, and no status, field or body that is not described."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from app.config import Settings
from app.main import create_app
from sluicegate import Concurrency, FixedWindow, SlidingWindow, TokenBucket
from sluicegate.web.fastapi import RateLimits, Reservation, client_address, cookie, header

schemathesis = pytest.importorskip(
    "schemathesis", reason="Schemathesis is not installed: pip install -r requirements-dev.txt"
)
from schemathesis import checks  # noqa: E402 - a part of what may be missing

CHECKED = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
"""Not those that take a 429 for a refusal of valid data."""

MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


def every_kind() -> FastAPI:  # noqa: C901 - one app, one route after the other
    """Make an app with limits of every kind, low enough that all of them deny."""
    limits = RateLimits(
        "200/minute", per=client_address, plans={"free": "3/minute", "pro": "10/minute"}, fields=("RateLimit",)
    )

    async def tenant(x_tenant: Annotated[str | None, Header()] = None) -> str | None:
        return x_tenant

    async def plan(plan: Annotated[str, Query()] = "free") -> Any:
        return plan if plan in ("free", "pro") else None

    def units(units: Annotated[int, Query(ge=0, le=100)] = 1) -> int:
        return units

    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)], responses=limits.responses)

    @app.get("/by-header", dependencies=[Depends(limits.limit("5/minute", per=header("X-API-Key")))])
    async def by_header() -> str:
        return "header"

    @app.get("/by-cookie", dependencies=[Depends(limits.limit("5/minute", per=cookie("session")))])
    def by_cookie() -> str:
        return "cookie"

    @app.get("/by-dependency", dependencies=[Depends(limits.limit("5/minute", per=tenant))])
    async def by_dependency() -> str:
        return "dependency"

    @app.get("/by-plan", dependencies=[Depends(limits.limit(plan, per=tenant))])
    async def by_plan() -> str:
        return "plan"

    @app.get("/by-cost", dependencies=[Depends(limits.limit(TokenBucket(50, window=60), cost=units))])
    async def by_cost() -> str:
        return "cost"

    @app.post("/log-in", responses={401: {"description": "Unknown user."}})
    @limits.limit("5/minute", charge_when=lambda response: response.status_code == 401)
    async def log_in(name: Annotated[str, Body(embed=True)]) -> str:
        if len(name) % 2:
            raise HTTPException(401)
        return name

    @app.get("/after-use")
    @limits.limit("30/minute", actual=lambda response: int(response.headers["x-used"]))
    async def after_use(response: Response, used: Annotated[int, Query(ge=0, le=9)] = 1) -> int:
        response.headers["X-Used"] = str(used)
        return used

    @app.post("/reserve")
    async def reserve(
        reservation: Annotated[Reservation, Depends(limits.reserve("100/minute", cost=10))],
        used: Annotated[int, Body(ge=0, le=50, embed=True)],
    ) -> int:
        reservation.settle(used)
        return reservation.decision.remaining

    @app.get("/stream", dependencies=[Depends(limits.limit(Concurrency(2)))], response_class=StreamingResponse)
    async def stream() -> StreamingResponse:
        async def parts() -> Any:
            yield b"a"
            await asyncio.sleep(0)
            yield b"b"

        return StreamingResponse(parts(), media_type="text/plain")

    @app.get("/exempt")
    @limits.exempt
    async def exempt() -> str:
        return "exempt"

    both = limits.shared(FixedWindow(20, window=60), name="both")
    router = APIRouter(prefix="/items", dependencies=[Depends(limits.limit("40/minute")), Depends(both)])

    @router.get("/{item}")
    @limits.limit(
        SlidingWindow(8, window=60, per=("tenant", "address")), per={"tenant": tenant, "address": client_address}
    )
    async def item(item: int) -> int:
        return item

    @router.put("/{item}", dependencies=[Depends(both)])
    @limits.limit("8/minute", each=True, message="Not so fast.")
    def put(item: int, name: Annotated[str, Body(max_length=20)]) -> str:
        return name

    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    return app


APPS: dict[str, Any] = {
    "the service": lambda: create_app(Settings(rate_limit_backend="memory", rate_limit_global="20/minute")),
    "limits of every kind": every_kind,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPS)
def test_no_request_gets_a_500_or_an_answer_that_is_not_described(name: str):
    schema = schemathesis.openapi.from_asgi("/openapi.json", APPS[name]())
    statuses: Counter[int] = Counter()

    def call(case: Any) -> None:
        response = case.call()
        case.validate_response(response, checks=CHECKED)
        statuses[response.status_code] += 1

    for operation in schema.get_all_operations():
        valid, invalid = (operation.ok().as_strategy(generation_mode=mode) for mode in MODES)
        given(valid)(call)()
        with suppress(Unsatisfiable):  # without parameters no request is invalid
            settings(suppress_health_check=list(HealthCheck))(given(invalid)(call))()
    assert {200, 422, 429} <= set(statuses)
