"""Apps that Sluicegate limits, each in one of the ways to put a limit."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from routes import LIMIT, MINUTES, REDIS_URL, user, with_routes

from sluicegate import SlidingWindow
from sluicegate.web.asgi import RateLimitMiddleware
from sluicegate.web.fastapi import RateLimits, client_address, header

POLICIES = [SlidingWindow(LIMIT, window=60 * n) for n in MINUTES]


def middleware() -> FastAPI:
    return _in_front(_limits())


def middleware_without_fields() -> FastAPI:
    return _in_front(RateLimits(*POLICIES, per=client_address, store=REDIS_URL, fields=()))


def middleware_switched_off() -> FastAPI:
    return _in_front(RateLimits(*POLICIES, per=client_address, store=REDIS_URL, enabled=False))


def asgi_middleware() -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limit=POLICIES, per=client_address, store=REDIS_URL)
    return with_routes(app)


def default() -> FastAPI:
    limits = _limits()
    return with_routes(FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)]))


def dependency() -> FastAPI:
    return _by(user)


def header_key() -> FastAPI:
    return _by(header("X-User"))


def _by(per: Any) -> FastAPI:
    limits = RateLimits(store=REDIS_URL)
    app = FastAPI(lifespan=limits.lifespan)
    return with_routes(app, dependencies=[Depends(limits.limit(*POLICIES, per=per))])


def _limits() -> RateLimits:
    return RateLimits(*POLICIES, per=client_address, store=REDIS_URL)


def _in_front(limits: RateLimits) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan)
    app.add_middleware(limits.Middleware)
    return with_routes(app)
