"""fastapi-limiter in the form of its README, and with a bucket for each client by PyrateLimiter's.

If this file and those two differ, suspect this file first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi_limiter.depends import RateLimiter, WebSocketRateLimiter
from fastapi_limiter.identifier import default_identifier
from kit import LIMIT, Endpoint, Kit, Library, address_of
from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    Duration,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    Rate,
    RateItem,
    RedisBucket,
    WallClock,
)
from redis.asyncio import Redis

RATE = Rate(LIMIT, Duration.DAY)
Identifier = Callable[[Any], Awaitable[str]]


class PerClientBuckets(BucketFactory):
    """A bucket for each name, kept for good, in memory or on Redis."""

    def __init__(self, rate: Rate, redis: str | None, prefix: str, timeout: float | None) -> None:
        self._rates, self._prefix = [rate], prefix
        self._redis = Redis.from_url(redis, socket_timeout=timeout) if redis else None
        self._clock = WallClock() if redis else MonotonicClock()
        self._buckets: dict[str, AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._clock.now(), weight=weight)

    async def get(self, item: RateItem) -> AbstractBucket:
        if item.name not in self._buckets:
            bucket = self._buckets[item.name] = await self._made(item.name)
            self.schedule_leak(bucket)
        return self._buckets[item.name]

    async def _made(self, name: str) -> AbstractBucket:
        if self._redis is None:
            return InMemoryBucket(self._rates)
        return await RedisBucket.init(self._rates, self._redis, f"{self._prefix}:{name}")


class Readme(Kit):
    label = "its README's form"
    on_redis = False
    identifier: ClassVar[Identifier] = staticmethod(default_identifier)

    def limiter(self, limit: int = LIMIT) -> Limiter:
        return Limiter(Rate(limit, Duration.DAY))

    def dependency(self, limit: int = LIMIT, identifier: Identifier | None = None) -> Any:
        return Depends(RateLimiter(limiter=self.limiter(limit), identifier=identifier or self.identifier))

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method], dependencies=[self.dependency()])

    def by_user(self, app: FastAPI, path: str, user: Endpoint, limit: int) -> None:
        async def mine(who: Annotated[str, Depends(user)]) -> str:
            return who

        mine.__annotations__["who"] = Annotated[str, Depends(user)]
        app.get(path, dependencies=[self.dependency(limit, _user)])(mine)

    def two_limits(self, app: FastAPI, path: str, endpoint: Endpoint) -> None:
        app.get(path, dependencies=[self.dependency(identifier=_user), self.dependency(identifier=address_of)])(
            endpoint
        )

    def handshakes(self, app: FastAPI, path: str) -> None:
        limiter = WebSocketRateLimiter(limiter=self.limiter(), identifier=self.identifier)

        @app.websocket(path, dependencies=[Depends(limiter)])
        async def shaken(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("ok")

    def messages(self, app: FastAPI, path: str) -> None:
        @app.websocket(path)
        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            await self.answer(websocket, WebSocketRateLimiter(limiter=self.limiter(), identifier=self.identifier))

    async def answer(self, websocket: WebSocket, ratelimit: WebSocketRateLimiter) -> None:
        while True:
            await websocket.receive_text()
            try:
                await ratelimit(websocket)
                await websocket.send_text("ok")
            except HTTPException:
                await websocket.send_text("denied")


class PerClient(Readme):
    in_readme = False
    label = "a bucket for each client"
    on_redis = True
    timeout: ClassVar[float | None] = None
    _made = 0

    def limiter(self, limit: int = LIMIT) -> Limiter:
        self._made += 1
        rate = Rate(limit, Duration.DAY)
        return Limiter(PerClientBuckets(rate, self.redis, f"{self._made}", self.timeout))

    def messages(self, app: FastAPI, path: str) -> None:
        # One for all connections: in the README's form each connection has a limiter of its own.
        ratelimit = WebSocketRateLimiter(limiter=self.limiter(), identifier=self.identifier)

        @app.websocket(path)
        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            await self.answer(websocket, ratelimit)


class PerAddress(PerClient):
    label = "a bucket for each client, and an `identifier` that returns its address"
    identifier: ClassVar[Identifier] = staticmethod(address_of)


class WithTimeout(PerAddress):
    label = "`socket_timeout=2`"
    only = frozenset({"frozen-loop", "frozen-answer"})
    timeout = 2


class First(PerAddress):
    label = "the limit before the authentication, on the router"
    only = frozenset({"authentication"})

    def guarded(self, guard: Endpoint, path: str, endpoint: Endpoint) -> APIRouter:
        router = APIRouter(dependencies=[self.dependency(), Depends(guard)])
        router.add_api_route(path, endpoint)
        return router


class OnTheApp(PerAddress):
    label = "`FastAPI(dependencies=…)`"
    covers = True

    def app(self, **options: Any) -> FastAPI:
        return FastAPI(dependencies=[self.dependency()], **options)

    def add(self, router: APIRouter | FastAPI, path: str, endpoint: Endpoint, method: str = "GET") -> None:
        router.add_api_route(path, endpoint, methods=[method])


async def _user(request: Request) -> str:
    return request.headers.get("x-user", "")


LIBRARY = Library(
    "fastapi-limiter",
    (Readme, PerClient, PerAddress, WithTimeout, First, OnTheApp),
    no_fields="it sends no fields",
    no_key_dependency="a key is a function of the request; overrides are of dependencies",
)
