"""The service: `/ping`, limited for each user, and what those who run it need.

`create_app` makes it from settings; `app` is the one that ``uvicorn app.main:app`` serves, from the environment.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from pydantic import BaseModel

import headgate
from app.config import Settings, load
from headgate import AsyncLimiter, Decision, InvalidKey, StoreError
from headgate.web import headers, problem
from headgate.web.problem import Problem

logger = logging.getLogger(__name__)
server_log = logging.getLogger("uvicorn.error")  # the one that is set up to show what is no warning

LONGEST_USER_ID = 256


class Pong(BaseModel):
    """The answer to a request that was allowed."""

    message: str = "pong"
    remaining: int


class Gate:
    """The limiter as the service uses it: its decisions counted, and whether its store has answered.

    Attributes:
        ready: Whether the store has answered once. It stays so: an outage that meets all instances alike is no reason
            to take each of them out of service.
        registry: The metrics. None of them has a key for a label: there are too many, and they are users.
    """

    def __init__(self, limiter: AsyncLimiter) -> None:
        self.limiter = limiter
        self.ready = False
        self.registry = CollectorRegistry()
        self._away = False
        self._decisions = Counter(
            "headgate_decisions",
            "Decisions on requests, by policy and outcome.",
            ("policy", "outcome"),
            registry=self.registry,
        )
        for policy in limiter.policies:  # so that a rate of 0 is a 0, and not a series that is missing
            for outcome in ("allowed", "denied", "error"):
                self._decisions.labels(policy.name, outcome)

    async def take(self, key: str) -> Decision:
        """Decide one request. Raises what `AsyncLimiter.take` does."""
        try:
            decision = await self.limiter.take(key)
        except StoreError as error:
            for policy in self.limiter.policies:
                self._decisions.labels(policy.name, "error").inc()
            self._lost(error)
            raise
        for part in decision.decisions:
            self._decisions.labels(part.policy, "allowed" if part.allowed else "denied").inc()
        self._answered()
        return decision

    async def check(self) -> None:
        """Ask the store, if it has not answered yet; nothing is taken. Raises `StoreError` if it does not answer."""
        if not self.ready:
            await self.limiter.peek("readyz")
            self._answered()

    def _answered(self) -> None:
        self.ready = True
        if self._away:
            self._away = False
            logger.warning("the store answers again")

    def _lost(self, error: StoreError) -> None:
        # Once for an outage, not for each request; and never the message, which says where the store is.
        if not self._away:
            self._away = True
            logger.warning("no answer from the store: %s, %s", type(error).__name__, type(error.__cause__).__name__)


def create_app(settings: Settings) -> FastAPI:
    """Make the service. Its store is connected to at the first request, so it starts while the store is away."""
    gate = Gate(AsyncLimiter(settings.policy, store=settings.store))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server_log.info("%s", _set_up(settings))
        yield
        await gate.limiter.aclose()

    app = FastAPI(title="Headgate", version=headgate.__version__, lifespan=lifespan)
    app.add_exception_handler(StoreError, _without_the_store)
    app.add_exception_handler(InvalidKey, _bad_user_id)
    app.add_exception_handler(RequestValidationError, _bad_user_id)

    @app.get("/ping", response_model=Pong, responses=_PING_RESPONSES)
    async def ping(user_id: Annotated[str, Depends(_user_id)], response: Response) -> Pong | Response:
        """Answer, if this user has a request left."""
        decision = await gate.take(user_id)
        fields = headers.fields(decision, gate.limiter.policies)
        if not decision.allowed:
            return _refusal(problem.quota_exceeded(decision), fields)
        response.headers.update(fields)
        return Pong(remaining=decision.remaining)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process is alive, whatever its store does."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: _described("The store has not answered yet.", "Retry-After")})
    async def readyz() -> dict[str, str]:
        """Say whether the store has answered once. It stays so in an outage, which /ping tells of."""
        await gate.check()
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the counters in Prometheus's text format."""
        return Response(generate_latest(gate.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _set_up(settings: Settings) -> str:
    where = "on Redis" if settings.store else "in memory, for this process alone"
    window = settings.rate_limit_window_seconds
    return f"counting {where}: {settings.rate_limit_requests} requests of each user in any {window:g} s"


def _user_id(
    request: Request,
    _: Annotated[
        str,
        Query(alias="user_id", description="Who asks; given once.", min_length=1, max_length=LONGEST_USER_ID),
    ],
) -> str:
    """Return the id as it was sent. What is no UTF-8 becomes lone surrogates, which headgate refuses.

    The framework puts U+FFFD for all of it, so that many such ids would share one limit, and takes the last of several.
    """
    query: bytes = request.scope["query_string"]
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")["user_id"]
    if len(given) > 1:
        raise RequestValidationError([])
    return given[0]


def _bad_user_id(_: Request, _error: Exception) -> Response:
    expected = f"Expected user_id once, as 1 to {LONGEST_USER_ID} characters of UTF-8: /ping?user_id=alice"
    return _refusal(Problem(422, "Unprocessable Content", expected))


def _without_the_store(_: Request, _error: Exception) -> Response:
    # Closed: no decision, no service. A policy for outages (open, or a local share) is to be asked before this.
    return _refusal(problem.temporary_reduced_capacity(), {"Retry-After": "1"})


def _refusal(why: Problem, fields: dict[str, str] | None = None) -> JSONResponse:
    # RFC 6585, section 4: a 429 is never stored by a cache. No other refusal should be, either.
    return JSONResponse(
        why.document(), why.status, {"Cache-Control": "no-store", **(fields or {})}, media_type=problem.MEDIA_TYPE
    )


# For the OpenAPI document.

_FIELDS = {
    "RateLimit-Policy": f"The policies: quota q in a window of w seconds ({headers.DRAFT}).",
    "RateLimit": "For each policy the units r that remain; on a denial, t: seconds until there are more.",
    "Retry-After": "Whole seconds until the same request could be allowed.",
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "violated-policies": {"type": "array", "items": {"type": "string"}},
    },
}


def _fields(*names: str) -> dict[str, Any]:
    return {name: {"description": _FIELDS[name], "schema": {"type": "string"}} for name in names}


def _described(description: str, *names: str) -> dict[str, Any]:
    content = {problem.MEDIA_TYPE: {"schema": _PROBLEM}}
    return {"description": description, "content": content, "headers": _fields(*names)}


_PING_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Allowed.", "headers": _fields("RateLimit-Policy", "RateLimit")},
    422: _described("The user_id is missing, repeated, empty, too long or no UTF-8."),
    429: _described("Denied: over the limit.", *_FIELDS),
    503: _described("No decision could be had from the store.", "Retry-After"),
}

app = create_app(load())
