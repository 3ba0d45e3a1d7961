"""slowapi in the forms of its documentation ("FastAPI", "Middleware", "Response headers").

If this file and that documentation differ, suspect this file first.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from kit import LIMIT, Endpoint, Kit, Library, NoWay
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address

RATE = f"{LIMIT}/day"


class Decorator(Kit):
    label = "the decorator"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, redis: str | None = None) -> None:
        super().__init__(redis)
        self.limiter = Limiter(key_func=get_remote_address, storage_uri=redis, **self.options)

    def app(self, **options: Any) -> FastAPI:
        app = FastAPI(**options)
        app.state.limiter = self.limiter
        app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
        return app

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, self.limiter.limit(RATE)(endpoint), methods=[method])

    def above(self, app: FastAPI, path: str, endpoint: Endpoint) -> Endpoint:
        return self.limiter.limit(RATE)(app.get(path)(endpoint))

    def by_user(self, app: FastAPI, path: str, user: Endpoint, limit: int) -> None:
        async def mine(request: Request, response: Response, who: Annotated[str, Depends(user)]) -> str:  # noqa: ARG001 - slowapi requires both
            return who

        mine.__annotations__["who"] = Annotated[str, Depends(user)]
        app.get(path)(self.limiter.limit(f"{limit}/day", key_func=_user)(mine))

    def two_limits(self, app: FastAPI, path: str, endpoint: Endpoint) -> None:
        app.get(path)(self.limiter.limit(RATE)(self.limiter.limit(RATE, key_func=_user)(endpoint)))

    def handshakes(self, app: FastAPI, path: str) -> None:  # noqa: ARG002
        raise NoWay('"websocket endpoints are not supported yet" (its README)')

    messages = handshakes


class ByEndpoint(Decorator):
    in_readme = False
    label = '`key_style="endpoint"`'
    options: ClassVar[dict[str, Any]] = {"key_style": "endpoint"}


class WithTimeout(Decorator):
    in_readme = False
    label = "`socket_timeout=2` and `in_memory_fallback_enabled=True`"
    only = frozenset({"frozen-loop", "frozen-answer"})
    options: ClassVar[dict[str, Any]] = {
        "storage_options": {"socket_timeout": 2},
        "in_memory_fallback_enabled": True,
    }


class SyncRoute(Decorator):
    in_readme = False
    label = "a `def` route, whose limit is checked in its thread"
    only = frozenset({"frozen-loop"})

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:  # noqa: ARG002
        def blocking(request: Request, response: Response) -> str:  # noqa: ARG001 - slowapi requires both
            return "ok"

        super().add(router, path, blocking, method)


class WithFields(Decorator):
    in_readme = False
    label = "the decorator and `headers_enabled=True`"
    only = frozenset({"own-response", "http-exception"})
    options: ClassVar[dict[str, Any]] = {"headers_enabled": True}


class Middleware(Decorator):
    label = "`SlowAPIMiddleware`"
    covers = True
    middleware: ClassVar[Any] = SlowAPIMiddleware
    options: ClassVar[dict[str, Any]] = {"default_limits": [RATE]}

    def app(self, **options: Any) -> FastAPI:
        app = super().app(**options)
        app.add_middleware(self.middleware)
        return app

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method])


class MiddlewareWithFields(Middleware):
    in_readme = False
    label = "`SlowAPIMiddleware` and `headers_enabled=True`"
    only = frozenset({"own-response", "http-exception"})
    options: ClassVar[dict[str, Any]] = {"default_limits": [RATE], "headers_enabled": True}


class AsgiMiddleware(Middleware):
    label = "`SlowAPIASGIMiddleware`"
    middleware: ClassVar[Any] = SlowAPIASGIMiddleware


def _user(request: Request) -> str:
    return request.headers.get("x-user", "")


LIBRARY = Library(
    "slowapi",
    (Decorator, ByEndpoint, WithTimeout, SyncRoute, WithFields, Middleware, AsgiMiddleware, MiddlewareWithFields),
    no_key_dependency="a key is a function of the request; overrides are of dependencies",
)
