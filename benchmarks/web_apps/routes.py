"""What the apps of all contenders share: their settings, routes and the users that they count.

WEB_REDIS_URL is the server to count on; without it an app counts in memory. WEB_POLICIES is how many policies decide a
request, WEB_ROUTES how many routes the app has. ``/ping``, the only one that is requested, is the first of them.
WEB_LIMIT is the limit, which is never reached by default.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request

LIMIT = int(os.environ.get("WEB_LIMIT", "1000000000"))
REDIS_URL = os.environ.get("WEB_REDIS_URL")
POLICIES = int(os.environ.get("WEB_POLICIES", "1"))
ROUTES = int(os.environ.get("WEB_ROUTES", "1"))
MINUTES = range(1, POLICIES + 1)
"""The windows of the policies: no two are the same, or two limits would be one."""


async def user(x_user: Annotated[str, Header()]) -> str:
    """Return who sent the request; a dependency, as apps have them."""
    return x_user


async def user_of(request: Request) -> str:
    """Return the same from the request, for limiters that call a function with it."""
    return request.headers["x-user"]


async def pong() -> dict[str, str]:
    return {"message": "pong"}


def with_routes(app: FastAPI, endpoint: Callable[..., Any] = pong, **options: Any) -> FastAPI:
    """Add the routes, with these options of a route."""
    app.get("/ping", **options)(endpoint)
    for n in range(1, ROUTES):
        app.get(f"/other/{n}/{{item}}", **options)(endpoint)
    return app
