"""Sluicegate in the forms of its README: dependency, decorator, default on the app, middleware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from kit import LIMIT, Endpoint, Kit, Library

from sluicegate.web.fastapi import RateLimits, client_address, header

RATE = f"{LIMIT}/day"


class Dependency(Kit):
    label = "the dependency"
    default: Sequence[str] = ()

    def __init__(self, redis: str | None = None) -> None:
        super().__init__(redis)
        self.limits = RateLimits(*self.default, per=client_address, store=redis)

    def app(self, **options: Any) -> FastAPI:
        return FastAPI(lifespan=self.limits.lifespan, **options)

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method], dependencies=[Depends(self.limits.limit(RATE))])

    def above(self, app: FastAPI, path: str, endpoint: Endpoint) -> Endpoint:
        return self.limits.limit(RATE)(app.get(path)(endpoint))

    def by_user(self, app: FastAPI, path: str, user: Endpoint, limit: int) -> None:
        async def mine(who: Annotated[str, Depends(user)]) -> str:
            return who

        mine.__annotations__["who"] = Annotated[str, Depends(user)]
        app.get(path, dependencies=[Depends(self.limits.limit(f"{limit}/day", per=user))])(mine)

    def two_limits(self, app: FastAPI, path: str, endpoint: Endpoint) -> None:
        by_user, by_address = self.limits.limit(RATE, per=header("X-User")), self.limits.limit(RATE)
        app.get(path, dependencies=[Depends(by_user), Depends(by_address)])(endpoint)

    def handshakes(self, app: FastAPI, path: str) -> None:
        @app.websocket(path, dependencies=[Depends(self.limits.limit(RATE))])
        async def shaken(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("ok")

    def messages(self, app: FastAPI, path: str) -> None:
        @app.websocket(path)
        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            async for _ in self.limits.messages(websocket, RATE, key=self.talker(websocket)):
                await websocket.send_text("ok")

    def talker(self, websocket: WebSocket) -> str | None:  # noqa: ARG002 - it is for a key of the app's own
        """Return the key of the messages; None counts them by connection."""
        return None


class ByAddress(Dependency):
    label = "`key=` of `limits.messages`"
    only = frozenset({"reconnecting"})

    def talker(self, websocket: WebSocket) -> str | None:
        return websocket.client.host if websocket.client else None


class Decorator(Dependency):
    label = "the decorator"

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, self.limits.limit(RATE)(endpoint), methods=[method])


class Default(Dependency):
    label = "`FastAPI(dependencies=…)`"
    covers = True
    default = (RATE,)

    def app(self, **options: Any) -> FastAPI:
        return super().app(dependencies=[Depends(self.limits)], **options)

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method])


class Middleware(Default):
    label = "`limits.Middleware`"

    def app(self, **options: Any) -> FastAPI:
        app = FastAPI(lifespan=self.limits.lifespan, **options)
        app.add_middleware(self.limits.Middleware)
        return app


LIBRARY = Library("sluicegate", (Dependency, ByAddress, Decorator, Default, Middleware))
