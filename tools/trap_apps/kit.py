"""What an adapter of the web traps offers: kits, each one way in which a library puts a limit.

Every kit limits to `LIMIT` requests a day by the client's address, unless a method says otherwise. What a library has
no documented way to do raises `NoWay`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request

LIMIT = 5
Endpoint = Callable[..., Any]


class NoWay(Exception):
    """The library has no documented way to do this; the message says why."""


class NothingToTry(Exception):
    """The library has nothing that could be caught; the message says what it lacks."""


class Kit:
    """One way to put a limit.

    Args:
        redis: The URL of the server to count on; None counts in memory.

    Attributes:
        label: How it is called in the comparison, in Markdown.
        covers: Whether its limit is on the whole app, and not on a route.
        on_redis: Whether it can count on Redis.
        in_readme: Whether its README or its documentation's first pages show it so.
        only: The traps that it is tried in; all that it fits if empty.
    """

    label: ClassVar[str]
    covers: ClassVar[bool] = False
    on_redis: ClassVar[bool] = True
    in_readme: ClassVar[bool] = True
    only: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, redis: str | None = None) -> None:
        self.redis = redis

    def app(self, **options: Any) -> FastAPI:
        """Return a new app, prepared as the library wants it."""
        return FastAPI(**options)

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        """Add a route. Unless the kit covers the app, the route has a limit of its own."""
        router.add_api_route(path, endpoint, methods=[method])

    def guarded(self, guard: Endpoint, path: str, endpoint: Endpoint) -> APIRouter:
        """Return a router with an authentication, and a limited route in it."""
        router = APIRouter(dependencies=[Depends(guard)])
        self.add(router, path, endpoint)
        return router

    def above(self, app: FastAPI, path: str, endpoint: Endpoint) -> Endpoint:  # noqa: ARG002
        """Add a route whose limit is a decorator above the route's, where it does not work."""
        raise NothingToTry("it has no decorator for routes")

    def by_user(self, app: FastAPI, path: str, user: Endpoint, limit: int) -> None:
        """Add a route that depends on ``user`` and is limited by what it returns."""
        raise NotImplementedError

    def two_limits(self, app: FastAPI, path: str, endpoint: Endpoint) -> None:
        """Add a route with two limits: by the header X-User, and by address."""
        raise NotImplementedError

    def handshakes(self, app: FastAPI, path: str) -> None:
        """Add a WebSocket whose handshakes are limited."""
        raise NotImplementedError

    def messages(self, app: FastAPI, path: str) -> None:
        """Add a WebSocket that answers ``ok`` to each message, and limits them by address."""
        raise NotImplementedError


@dataclass(frozen=True)
class Library:
    """A library, and its kits: the first of each sort is the form of its README."""

    name: str
    kits: Sequence[type[Kit]]
    no_fields: str = ""
    no_key_dependency: str = ""


async def user_of(request: Request) -> str:
    """Return who sent the request: what an app's authentication finds in its header."""
    user = request.headers.get("x-user")
    if user is None:
        raise HTTPException(401)
    return user


async def address_of(connection: Request) -> str:
    """Return the address of the peer, and nothing that a header says."""
    return connection.client.host if connection.client else "unknown"
