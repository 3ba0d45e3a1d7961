"""Rate limits of web apps as users write them, held by mypy and pyright in their strict modes. It is not run."""

# pyright: strict

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, assert_type

from fastapi import APIRouter, Depends, FastAPI, Form, Header, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.applications import Starlette
from starlette.middleware import Middleware

from sluicegate import Decision, MemoryStore, Policy, SlidingWindow, TokenBucket
from sluicegate.web.asgi import RateLimitMiddleware
from sluicegate.web.fastapi import (
    ClientAddress,
    LimitInForce,
    RateLimits,
    Refusal,
    Reservation,
    RouteLimits,
    client_address,
    cookie,
    header,
    user,
)


async def current_user(x_user: Annotated[str, Header()]) -> str:
    return x_user


# The quickstart

limits = RateLimits("100/minute", per=client_address, store="redis://localhost:6379/0")
app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])


@app.get("/search", dependencies=[Depends(limits.limit("10/minute", per=current_user))])
async def search() -> dict[str, int]:
    return {"found": 1}


@app.post("/login")
@limits.limit("5/minute", per=client_address, charge_when=lambda response: response.status_code == 401)
async def login(name: Annotated[str, Form()]) -> str:
    if not name:
        raise HTTPException(401)
    return name


# Decorators keep the type of the endpoint


@limits.limit("5/minute")
async def asynchronous(item: int, name: str = "") -> list[str]:
    return [name] * item


@limits.limit("5/minute")
def synchronous(item: int) -> int:
    return item


@limits.exempt
async def health() -> bool:
    return True


@limits
def with_the_default(item: int) -> str:
    return str(item)


@limits.shared("5/minute", name="together")
def with_a_shared_one() -> None: ...


async def called() -> None:
    assert_type(await asynchronous(1, name="a"), list[str])
    assert_type(await health(), bool)
    await asynchronous("1")  # type: ignore[arg-type]


assert_type(synchronous(1), int)
assert_type(with_the_default(1), str)
synchronous()  # type: ignore[call-arg]
with_a_shared_one(1)  # type: ignore[call-arg]

# Limits in every form


async def by_plan(name: Annotated[str, Depends(current_user)]) -> str | Policy | list[Policy | str] | None:
    return "pro" if name == "ann" else None


def units(size: int = 1) -> int:
    return size


Depends(limits.limit("10/minute", SlidingWindow(5, window=1, name="burst"), per=header("X-API-Key"), name="search"))
Depends(limits.limit("10/minute", per=cookie("session"), cost=3, message="Not so fast."))
Depends(limits.limit("10/minute", per=user, cost=units, each=True))
Depends(limits.limit(by_plan, per=current_user))
Depends(limits.limit(SlidingWindow(5, window=60, per=("user", "ip")), per={"user": current_user, "ip": client_address}))
Depends(limits.limit("9/minute", actual=lambda response: int(response.headers["x-used"])))
Depends(limits.shared("10/minute", per=ClientAddress(trusted=["10.0.0.0/8"], ipv6_prefix=56)))
APIRouter(prefix="/v1", dependencies=[Depends(limits.limit("10/minute", each=True)), Depends(limits.exempt)])
FastAPI(responses=limits.responses).add_middleware(limits.Middleware)

limits.limit(10, 60)  # type: ignore[arg-type]
limits.limit("10/minute", per="user")  # type: ignore[arg-type]
limits.limit("10/minute", cost=1.5)  # type: ignore[arg-type]
limits.limit("10/minute", charge_when=True)  # type: ignore[arg-type]
limits.limit("10/minute", burst=5)  # type: ignore[call-arg]
RateLimits("100/minute", on_outage="panic")  # type: ignore[arg-type]
RateLimits("100/minute", fields=("X-Rate",))  # type: ignore[arg-type]
RateLimits(
    "100/minute",
    store=MemoryStore(),
    on_outage="closed",
    deadline=0.2,
    strict=True,
    plans={"free": "10/minute", "pro": [TokenBucket(100, window=60, burst=5), "1000/day"]},
    lookup_timeout=0.5,
    fields=("RateLimit", "X-RateLimit"),
    jitter=0.1,
    pages=True,
    enabled=False,
    on_decision=lambda decision, seconds: print(decision.policy, seconds),
)

# What endpoints get


@app.post("/complete")
async def complete(reservation: Annotated[Reservation, Depends(limits.reserve("90000/minute", cost=1200))]) -> int:
    assert_type(reservation.decision, Decision)
    reservation.settle(800)
    reservation.settle({"post-complete": 800})
    reservation.settle("800")  # type: ignore[arg-type]
    reservation.cancel()
    return reservation.decision.remaining


@app.get("/left")
async def left(decision: Annotated[Decision, Depends(limits.decision)]) -> int:
    return decision.remaining


@app.websocket("/ws")
@limits.limit("10/minute")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in limits.messages(websocket, "5/second", key="ann", cost=len):
        await websocket.send_text(text)


@limits.on_denied
async def denied(request: Request, refusal: Refusal) -> Response | None:
    assert_type(refusal.status, int)
    assert_type(refusal.decision, Decision | None)
    assert_type(refusal.headers, Mapping[str, str])
    return None if request.url.path == "/" else JSONResponse({"detail": refusal.problem.detail}, refusal.status)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with limits.lifespan(app):
        yield


for row in limits.routes(app):
    assert_type(row, RouteLimits)
    assert_type(row.limits, tuple[LimitInForce, ...])
    assert_type(row.methods, tuple[str, ...])
    assert_type(row.is_exempt, bool)

assert_type(limits.enabled, bool)
limits.enabled = False

# In front of any ASGI app


def by_tenant(scope: Mapping[str, Any]) -> str:
    return str(scope["path"])


async def by_database(scope: Mapping[str, Any]) -> str:
    return str(scope["path"])


RateLimitMiddleware(app, "100/minute")
Middleware(RateLimitMiddleware, "100/minute", per=header("X-API-Key"))
limited = RateLimitMiddleware(
    Starlette(),
    ["10/second", TokenBucket(100, window=60)],
    per=by_tenant,
    exempt=lambda scope: scope["path"] == "/health",
    messages="5/second",
    on_denied=lambda scope, refusal: JSONResponse(refusal.problem.document(), refusal.status),
)
RateLimitMiddleware(app, "100/minute", per=by_database)  # type: ignore[arg-type]
RateLimitMiddleware(app, "100/minute", per="X-API-Key")  # type: ignore[arg-type]
RateLimitMiddleware(app)  # type: ignore[call-arg]

RateLimitMiddleware(limited, "100/minute")
