"""Apps that slowapi limits, in the forms of its documentation ("FastAPI" and "Middleware").

``documented`` forms have its defaults: a fixed window by address, and no response fields. ``nearest`` ones come as near
to what Sluicegate does as slowapi can: an exact window, by user, with fields. If this file and that documentation
differ, suspect this file first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from routes import LIMIT, MINUTES, REDIS_URL, with_routes
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address

RATES = [f"{LIMIT} per {n} minute" for n in MINUTES]
NEAREST: dict[str, Any] = {"headers_enabled": True, "strategy": "moving-window"}


def decorator_documented() -> FastAPI:
    limiter = Limiter(key_func=get_remote_address, storage_uri=REDIS_URL)

    async def ping(request: Request) -> dict[str, str]:  # noqa: ARG001 - slowapi requires it
        return {"message": "pong"}

    return with_routes(_app(limiter), _limited(limiter, ping))


def decorator_nearest() -> FastAPI:
    limiter = Limiter(key_func=_user, storage_uri=REDIS_URL, **NEAREST)

    # slowapi adds its fields to the response, which must be an argument ("Response type").
    async def ping(request: Request, response: Response) -> dict[str, str]:  # noqa: ARG001 - slowapi requires both
        return {"message": "pong"}

    return with_routes(_app(limiter), _limited(limiter, ping))


def middleware_documented() -> FastAPI:
    app = _app(Limiter(key_func=get_remote_address, storage_uri=REDIS_URL, default_limits=RATES))
    app.add_middleware(SlowAPIMiddleware)
    return with_routes(app)


def middleware_nearest() -> FastAPI:
    app = _app(Limiter(key_func=_user, storage_uri=REDIS_URL, default_limits=RATES, **NEAREST))
    app.add_middleware(SlowAPIASGIMiddleware)
    return with_routes(app)


def _app(limiter: Limiter) -> FastAPI:
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    return app


def _limited(limiter: Limiter, endpoint: Callable[..., Any]) -> Callable[..., Any]:
    for rate in RATES:
        endpoint = limiter.limit(rate)(endpoint)
    return endpoint


def _user(request: Request) -> str:
    return request.headers["x-user"]
