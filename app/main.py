"""The service: `/ping`, which is limited, and the endpoints that its operator needs.

To limit another endpoint, add its path to `app.config.ENDPOINTS`, and let it depend on ``limited(path)`` as `/ping`
does. `create_app` makes the service from settings; `app` is made from the environment, for ``uvicorn app.main:app``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

import sluicegate
from app import workers
from app.config import ENDPOINTS, Settings, load, strangers
from app.gate import Gate
from app.metrics import DIRECTORY, share
from sluicegate import Decision, InvalidKey, SlidingWindow, StoreError
from sluicegate.web import headers, problem
from sluicegate.web.problem import Problem

server_log = logging.getLogger("uvicorn.error")  # the logger that is set up to show more than warnings

LONGEST_USER_ID = 256


class Pong(BaseModel):
    """The answer to an allowed request."""

    message: str = "pong"
    remaining: int


class Denied(Exception):
    """Raised to end a request that the limits do not allow, with a 429."""

    def __init__(self, decision: Decision, fields: dict[str, str]) -> None:
        super().__init__(decision, fields)
        self.decision = decision
        self.fields = fields


def limited(path: str) -> Any:
    """Return a dependency that limits an endpoint. Its value is the decision that allowed the request.

    Args:
        path: The path of the endpoint, one of `app.config.ENDPOINTS`.

    Raises:
        LookupError: The path is not one of them. So the service does not start.
    """
    if path not in ENDPOINTS:
        raise LookupError(f"path must be one of app.config.ENDPOINTS, got {path}; add it there")

    async def decision(request: Request, response: Response, user_id: Annotated[str, Depends(_user_id)]) -> Decision:
        gate: Gate = request.app.state.gate()
        decision = await gate.take(path, user_id)
        fields = headers.fields(decision, gate.policies(path))
        if not decision:
            raise Denied(decision, fields)
        response.headers.update(fields)
        return decision

    return Depends(decision)


def create_app(settings: Settings) -> FastAPI:
    """Make the service. The first request connects to the store, so the service starts while the store is down.

    Its gate is made in the process that serves, when that starts: a server may load the service, then fork its workers.
    Where no lifespan is run, as in a mounted application, the first request makes it.
    """
    gate = cache(partial(_open_gate, settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _show_warnings()
        server_log.info("%s", _summary(settings))
        for name in strangers(os.environ):
            server_log.warning("%s is not a setting of this service", name)
        if "REDIS_URL" in os.environ and not settings.store:
            server_log.warning("REDIS_URL is set but not used: RATE_LIMIT_BACKEND is memory")
        gate()
        yield
        await gate().aclose()
        logging.captureWarnings(False)

    app = FastAPI(title="Sluicegate", version=sluicegate.__version__, lifespan=lifespan)
    app.state.gate = gate
    app.exception_handler(Denied)(_denied)
    app.add_exception_handler(StoreError, _store_is_down)
    app.add_exception_handler(InvalidKey, _bad_user_id)
    app.add_exception_handler(RequestValidationError, _bad_user_id)

    @app.get("/ping", responses=LIMITED)
    async def ping(decision: Annotated[Decision, limited("/ping")]) -> Pong:
        """Answer a user who has a request left."""
        return Pong(remaining=decision.remaining)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the process is alive, whatever the state of its store."""
        return {"status": "alive"}

    @app.get("/readyz", response_model=dict[str, str], responses={503: NOT_READY})
    async def readyz() -> Any:
        """Report whether requests can be decided: by the store, which takes writes, or as is set for its outages."""
        try:
            return await gate().check()
        except StoreError as error:
            return _not_ready(settings, error)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the metrics in Prometheus's text format, of all workers together."""
        text = await run_in_threadpool(gate().metrics.text)  # it reads the files of all workers
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return app


def _open_gate(settings: Settings) -> Gate:
    _join_workers(settings)
    return Gate(settings)


def _show_warnings() -> None:
    """Log warnings of the library, like those of the service, where a server shows nothing but its own log."""
    logging.basicConfig(format="%(levelname)s:  %(message)s")
    logging.captureWarnings(True)


def _join_workers(settings: Settings) -> None:
    """Join the other workers of this server, if it has any: their metrics are one, but their counts in memory are not.

    The second worker to start warns of that. Without a place among them no worker knows of the others, and each warns.
    """
    server = workers.supervisor()
    if server is None:
        return
    is_to_warn = True
    try:
        place = workers.place(server)
    except OSError as error:
        server_log.warning(
            "this worker cannot find the others of its server: %s. Each has /metrics of its own, unless %s is set to a "
            "directory for all of them",
            error,
            DIRECTORY,
        )
    else:
        share(place)
        is_to_warn = place.number > 1 and place.is_first("warned")
    if is_to_warn and settings.rate_limit_enabled and not settings.store:
        server_log.warning(
            "each worker counts by itself, in its own memory, so N workers allow N times the limit: set "
            "RATE_LIMIT_BACKEND=redis to count together"
        )


def _summary(settings: Settings) -> str:
    if not settings.rate_limit_enabled:
        return "the limits are off: every request is allowed and none is counted"
    where = "on Redis" if settings.store else "in memory, for this process only"
    limits = [_describe(settings.policy, "requests of each user")]
    limits += [_describe(policy, "of all users together") for policy in settings.global_policies]
    limits += [
        _describe(policy, f"of each user on {path}")
        for path in ENDPOINTS
        for policy in settings.endpoint_policies(path)
    ]
    return f"counting {where}: {', '.join(limits)}"


def _describe(policy: SlidingWindow, what: str) -> str:
    window = f"{policy.window:.6f}".rstrip("0").rstrip(".")
    return f"{policy.limit} {what} in any {window} s"


def _user_id(
    request: Request,
    _: Annotated[
        str,
        Query(alias="user_id", description="The user; exactly once.", min_length=1, max_length=LONGEST_USER_ID),
    ],
) -> str:
    """Return the id as it was sent. Invalid UTF-8 becomes lone surrogates, which the limiter refuses.

    The framework would replace them with U+FFFD, so that many such ids would share one limit, and would take the last
    of several ids.
    """
    query: bytes = request.scope["query_string"]
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")["user_id"]
    if len(given) > 1:
        raise RequestValidationError([])
    return given[0]


def _bad_user_id(_: Request, _error: Exception) -> Response:
    expected = f"Expected user_id once, as 1 to {LONGEST_USER_ID} characters of UTF-8: ?user_id=alice"
    return _refusal(Problem(422, "Unprocessable Content", expected))


async def _denied(_: Request, error: Denied) -> Response:
    return _refusal(problem.quota_exceeded(error.decision), error.fields)


def _store_is_down(_: Request, _error: Exception) -> Response:
    # No decision, no service: RATE_LIMIT_ON_OUTAGE says so, or the store is not set up right.
    return _refusal(problem.temporary_reduced_capacity(), {"Retry-After": "1"})


def _not_ready(settings: Settings, error: StoreError) -> Response:
    store, why = settings.rate_limit_backend, error.reason
    detail = f"The {store} store does not take writes: {why}. The log of the service says more."
    members = {"store": store, "reason": why}
    return _refusal(Problem(503, "Service Unavailable", detail, members=members), {"Retry-After": "1"})


def _refusal(why: Problem, fields: dict[str, str] | None = None) -> JSONResponse:
    # RFC 6585, section 4: a 429 is never stored by a cache. No other refusal should be, either.
    return JSONResponse(
        why.document(), why.status, {"Cache-Control": "no-store", **(fields or {})}, media_type=problem.MEDIA_TYPE
    )


# For the OpenAPI document.

_FIELDS = {
    "RateLimit-Policy": f"The policies: quota q in a window of w seconds ({headers.DRAFT}).",
    "RateLimit": "For each policy the remaining units r; on a denial the seconds t until there are more.",
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
        "store": {"type": "string"},
        "reason": {"type": "string"},
    },
}


def _fields(*names: str) -> dict[str, Any]:
    return {name: {"description": _FIELDS[name], "schema": {"type": "string"}} for name in names}


def _described(description: str, *names: str) -> dict[str, Any]:
    content = {problem.MEDIA_TYPE: {"schema": _PROBLEM}}
    return {"description": description, "content": content, "headers": _fields(*names)}


NOT_READY = _described("The store does not take writes; `reason` says why.", "Retry-After")

LIMITED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Allowed.", "headers": _fields("RateLimit-Policy", "RateLimit")},
    422: _described("The user_id is missing, repeated, empty, too long or invalid UTF-8."),
    429: _described("Denied: over a limit.", *_FIELDS),
    503: _described("The store made no decision.", "Retry-After"),
}

app = create_app(load())
