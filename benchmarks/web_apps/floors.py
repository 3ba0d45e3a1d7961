"""Apps without a limit: what the limited ones are compared with."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from routes import user, with_routes

FIELDS = [(b"ratelimit-policy", b'"default";q=1000000000;w=60'), (b"ratelimit", b'"default";r=999999999')]


def bare() -> FastAPI:
    return with_routes(FastAPI())


class ConstantFields:
    """Adds the two fields of a limit to each response, always the same ones: what writing and sending them costs."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_fields(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += FIELDS
            await send(message)

        await self._app(scope, receive, send_with_fields)


def constant_fields() -> FastAPI:
    app = FastAPI()
    app.add_middleware(ConstantFields)
    return with_routes(app)


async def nothing() -> None:
    pass


def empty_dependency() -> FastAPI:
    return with_routes(FastAPI(), dependencies=[Depends(nothing)])


def key_dependency() -> FastAPI:
    """Have the dependency that names the user, and do nothing with the name."""
    return with_routes(FastAPI(), dependencies=[Depends(user)])
