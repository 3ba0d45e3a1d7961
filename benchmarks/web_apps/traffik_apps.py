"""Apps that traffik limits, in the forms of its README.

``documented`` forms have its defaults: a fixed window by address, and no response fields. ``nearest`` has its exact
window and counts by user; it can send fields only if the endpoint adds them itself, and so sends none. If this file and
that README differ, suspect this file first.
"""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from routes import LIMIT, MINUTES, REDIS_URL, user_of, with_routes
from traffik import HTTPThrottle
from traffik.backends.inmemory import InMemoryBackend
from traffik.backends.redis.aioredis import RedisBackend
from traffik.middleware import MiddlewareThrottle, ThrottleMiddleware
from traffik.strategies import SlidingWindowLog


def documented() -> FastAPI:
    return _by_dependencies()


def nearest() -> FastAPI:
    return _by_dependencies(strategy=SlidingWindowLog(), identifier=user_of)


def middleware() -> FastAPI:
    backend = _backend()
    app = FastAPI(lifespan=backend.lifespan)
    throttles = [MiddlewareThrottle(throttle) for throttle in _throttles()]
    app.add_middleware(ThrottleMiddleware, middleware_throttles=throttles, backend=backend)
    return with_routes(app)


def _by_dependencies(**options: Any) -> FastAPI:
    app = FastAPI(lifespan=_backend().lifespan)
    return with_routes(app, dependencies=[Depends(throttle) for throttle in _throttles(**options)])


def _throttles(**options: Any) -> list[HTTPThrottle]:
    return [HTTPThrottle(uid=f"bench:{n}", rate=f"{LIMIT}/{n}min", **options) for n in MINUTES]


def _backend() -> Any:
    return RedisBackend(REDIS_URL, namespace="bench") if REDIS_URL else InMemoryBackend(namespace="bench")
