"""The service: `/ping`, which is limited, and the endpoints that its operator needs.

`create_app` makes the service from settings; `app` is made from the environment, for ``uvicorn app.main:app``.
"""

# Without "from __future__ import annotations": FastAPI could not resolve names that are local to `create_app`.

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

import sluicegate
from app.config import ENDPOINTS, Settings, load
from app.drain import Drain, draining
from app.refusals import refusal
from app.start import log_settings, show_warnings
from app.watch import Watch
from sluicegate import Decision, StoreError, open_async_store
from sluicegate.web.fastapi import RateLimits, openapi
from sluicegate.web.problem import Problem

LONGEST_USER_ID = 256


class Pong(BaseModel):
    """The answer to an allowed request."""

    message: str = "pong"
    remaining: int


async def user_id(
    request: Request,
    _: Annotated[
        str,
        Query(alias="user_id", description="The user; exactly once.", min_length=1, max_length=LONGEST_USER_ID),
    ],
) -> str:
    """Return the id of the user, as it was sent: what the limits count by.

    The framework would replace invalid UTF-8 by U+FFFD, so that many such ids would share one limit, and would take the
    last of several ids.
    """
    query: bytes = request.scope["query_string"]
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")["user_id"]
    if len(given) > 1 or any("\ud800" <= each <= "\udfff" for each in given[0]):
        raise RequestValidationError([])
    return given[0]


def create_app(settings: Settings) -> FastAPI:
    """Make the service. The first request connects to the store, so the service starts while the store is down."""
    store = open_async_store(settings.store, timeout=max(settings.rate_limit_deadline_seconds, 0.5))
    watch = Watch(settings, store)
    limits = RateLimits(
        per=user_id,
        store=store,
        on_outage=settings.rate_limit_on_outage,
        deadline=settings.rate_limit_deadline_seconds,
        enabled=settings.rate_limit_enabled,
        strict=True,  # an endpoint that is neither limited nor exempt keeps the service from starting
        on_decision=watch.on_decision,
        on_event=watch.on_event,
    )
    limits.on_denied(watch.on_denied)
    limited = _limited(limits, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        show_warnings()
        log_settings(settings)
        _ = watch.metrics  # the workers find each other when they start, and not with their first requests
        try:
            async with limits.lifespan(app):
                yield
        finally:
            await watch.aclose()
            logging.captureWarnings(False)

    app = FastAPI(title="Sluicegate", version=sluicegate.__version__, lifespan=lifespan)
    app.add_exception_handler(RequestValidationError, _bad_user_id)
    drain = Drain()
    app.state.limits, app.state.limited, app.state.store, app.state.drain = limits, limited, store, drain

    @app.get("/ping", dependencies=limited("/ping"), responses=LIMITED)
    async def ping(decision: Annotated[Decision, Depends(limits.decision)]) -> Pong:
        """Answer a user who has a request left."""
        return Pong(remaining=decision.remaining)

    @app.get("/healthz")
    @limits.exempt
    async def healthz() -> dict[str, str]:
        """Report that the process is alive, whatever the state of its store."""
        return {"status": "alive"}

    @app.get("/readyz", response_model=dict[str, str], responses={503: NOT_READY})
    @limits.exempt
    async def readyz() -> Any:
        """Report whether requests can be decided: by the store, which takes writes, or as is set for its outages."""
        if drain.has_begun:
            return draining()
        try:
            return await watch.check()
        except StoreError as error:
            return _not_ready(settings, error)

    @app.get("/metrics", response_class=Response)
    @limits.exempt
    async def metrics() -> Response:
        """Return the metrics in Prometheus's text format, of all workers together."""
        text = await run_in_threadpool(watch.metrics.text)  # it reads the files of all workers
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return app


def _limited(limits: RateLimits, settings: Settings) -> Callable[[str], list[Any]]:
    """Return a function from the path of an endpoint to its limits: those of all endpoints, and its own."""
    of_all_endpoints = [
        limits.shared(policy, per=user_id, name=policy.name) for policy in (settings.policy, *settings.global_policies)
    ]

    def limited(path: str) -> list[Any]:
        """Return the limits of an endpoint, for its ``dependencies=``. They are decided together, in one step.

        Args:
            path: One of `app.config.ENDPOINTS`.

        Raises:
            LookupError: The path is not one of them. So the service does not start.
        """
        if path not in ENDPOINTS:
            raise LookupError(f"path must be one of app.config.ENDPOINTS, got {path}; add it there")
        own = [limits.limit(policy, name=policy.name) for policy in settings.endpoint_policies(path)]
        return [Depends(limit) for limit in (*of_all_endpoints, *own)]

    return limited


def _bad_user_id(_: Request, _error: Exception) -> Response:
    expected = f"Expected user_id once, as 1 to {LONGEST_USER_ID} characters of UTF-8: ?user_id=alice"
    return refusal(Problem(422, "Unprocessable Content", expected))


def _not_ready(settings: Settings, error: StoreError) -> Response:
    store, why = settings.rate_limit_backend, error.reason
    detail = f"The {store} store does not take writes: {why}. The log of the service says more."
    members = {"store": store, "reason": why}
    return refusal(Problem(503, "Service Unavailable", detail, members=members), {"Retry-After": "1"})


# For the OpenAPI document.

NOT_READY = openapi.described(
    "The store does not take writes, or the instance is shutting down; `reason` says which.", "Retry-After"
)

LIMITED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Allowed.", "headers": openapi.fields("RateLimit-Policy", "RateLimit")},
    422: openapi.described("The user_id is missing, repeated, empty, too long or invalid UTF-8."),
    **{status: answer for status, answer in openapi.responses().items() if status != 400},  # a bad user_id is a 422
}

app = create_app(load())
