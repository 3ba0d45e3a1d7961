"""traffik in the forms of its README: dependency, decorator, middleware, WebSockets.

If this file and that README differ, suspect this file first.
"""

from __future__ import annotations

from inspect import signature
from itertools import count
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from kit import LIMIT, Endpoint, Kit, Library, address_of
from traffik import HTTPThrottle
from traffik.backends.inmemory import InMemoryBackend
from traffik.backends.redis.aioredis import RedisBackend
from traffik.decorators import throttled
from traffik.headers import Header, Headers
from traffik.middleware import MiddlewareThrottle, ThrottleMiddleware
from traffik.throttles import WebSocketThrottle, is_throttled

RATE = f"{LIMIT}/day"
_uids = count()


class Dependency(Kit):
    label = "the dependency"
    query: ClassVar[str] = ""

    def __init__(self, redis: str | None = None) -> None:
        super().__init__(redis)
        namespace = f"traps{next(_uids)}"
        self.backend: Any = (
            RedisBackend(redis + self.query, namespace=namespace) if redis else InMemoryBackend(namespace=namespace)
        )

    def throttle(self, rate: str = RATE, **options: Any) -> HTTPThrottle:
        return HTTPThrottle(uid=f"api:{next(_uids)}", rate=rate, **options)

    def app(self, **options: Any) -> FastAPI:
        return FastAPI(lifespan=self.backend.lifespan, **options)

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method], dependencies=[Depends(self.throttle())])

    def above(self, app: FastAPI, path: str, endpoint: Endpoint) -> Endpoint:
        return throttled(self.throttle())(app.get(path)(endpoint))

    def by_user(self, app: FastAPI, path: str, user: Endpoint, limit: int) -> None:
        async def mine(who: Annotated[str, Depends(user)]) -> str:
            return who

        mine.__annotations__["who"] = Annotated[str, Depends(user)]
        app.get(path, dependencies=[Depends(self.throttle(f"{limit}/day", identifier=_user))])(mine)

    def two_limits(self, app: FastAPI, path: str, endpoint: Endpoint) -> None:
        both = [Depends(self.throttle(identifier=who)) for who in (_user, address_of)]
        app.get(path, dependencies=both)(endpoint)

    def handshakes(self, app: FastAPI, path: str) -> None:
        @app.websocket(path, dependencies=[Depends(WebSocketThrottle(f"ws:{next(_uids)}", rate=RATE))])
        async def shaken(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("ok")

    def messages(self, app: FastAPI, path: str) -> None:
        throttle = WebSocketThrottle(f"ws:{next(_uids)}", rate=RATE)

        @app.websocket(path)
        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            while True:
                await websocket.receive_text()
                await throttle.hit(websocket, context={"scope": "message"})
                if not is_throttled(websocket):  # it has sent its own message where it is
                    await websocket.send_text("ok")


class CheckedFirst(Dependency):
    in_readme = False
    label = "`check()` of both, and then `hit()` of both"
    only = frozenset({"second-limit"})

    def two_limits(self, app: FastAPI, path: str, endpoint: Endpoint) -> None:
        throttles = [self.throttle(identifier=who) for who in (_user, address_of)]

        async def both(request: Request) -> None:
            for throttle in throttles:
                if not await throttle.check(request, cost=1):
                    raise HTTPException(429)
            for throttle in throttles:
                await throttle.hit(request)

        both.__annotations__["request"] = Request
        app.get(path, dependencies=[Depends(both)])(endpoint)


class ByHand(Dependency):
    label = "`get_headers()` in each endpoint"
    in_readme = False
    only = frozenset({"own-response", "http-exception"})

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        shown = {
            "X-RateLimit-Limit": Header.LIMIT(when="always"),
            "X-RateLimit-Remaining": Header.REMAINING(when="always"),
        }
        throttle = self.throttle(headers=Headers(shown))

        async def with_fields(request: Request, response: Response) -> Any:
            fields = await throttle.get_headers(request)
            arguments = {"request": request, "response": response}
            try:
                answer = await endpoint(**{name: arguments[name] for name in signature(endpoint).parameters})
            except HTTPException as raised:
                raise HTTPException(raised.status_code, raised.detail, fields) from None
            answer.headers.update(fields)
            return answer

        router.add_api_route(path, with_fields, methods=[method], dependencies=[Depends(throttle)], response_model=None)


class WithTimeout(Dependency):
    in_readme = False
    label = "`socket_timeout=2` in the URL"
    only = frozenset({"frozen-loop", "frozen-answer"})
    query = "?socket_timeout=2"


class First(Dependency):
    in_readme = False
    label = "the limit before the authentication, on the router"
    only = frozenset({"authentication"})

    def guarded(self, guard: Endpoint, path: str, endpoint: Endpoint) -> APIRouter:
        router = APIRouter(dependencies=[Depends(self.throttle()), Depends(guard)])
        router.add_api_route(path, endpoint)
        return router


class OnTheApp(Dependency):
    label = "`FastAPI(dependencies=…)`"
    covers = True

    def app(self, **options: Any) -> FastAPI:
        return super().app(dependencies=[Depends(self.throttle())], **options)

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method])


class Middleware(Dependency):
    label = "`ThrottleMiddleware`"
    covers = True
    methods: ClassVar[set[str] | None] = None

    def app(self, **options: Any) -> FastAPI:
        app = super().app(**options)
        throttle = MiddlewareThrottle(self.throttle(), methods=self.methods)
        app.add_middleware(ThrottleMiddleware, middleware_throttles=[throttle], backend=self.backend)
        return app

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method])


class MiddlewareOfMethods(Middleware):
    label = "`ThrottleMiddleware` and `methods=`"
    only = frozenset({"preflight"})
    methods: ClassVar[set[str] | None] = {"GET", "POST", "PUT", "PATCH", "DELETE"}


async def _user(request: Request) -> str:
    return request.headers.get("x-user", "")


LIBRARY = Library(
    "traffik",
    (Dependency, ByHand, CheckedFirst, WithTimeout, First, OnTheApp, Middleware, MiddlewareOfMethods),
    no_key_dependency="a key is a function of the request; overrides are of dependencies",
)
