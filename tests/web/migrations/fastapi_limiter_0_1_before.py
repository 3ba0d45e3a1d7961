"""An app of 24 routes with fastapi-limiter 0.1, as its users write them."""

import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi_limiter import FastAPILimiter
from fastapi_limiter.depends import RateLimiter, WebSocketRateLimiter
from redis.asyncio import Redis


@asynccontextmanager
async def lifespan(app: FastAPI):
    redis = Redis.from_url(os.environ["REDIS_URL"])
    await FastAPILimiter.init(redis, prefix=os.environ["REDIS_PREFIX"])
    yield
    await FastAPILimiter.close()


app = FastAPI(lifespan=lifespan)


@app.get("/", dependencies=[Depends(RateLimiter(times=2, seconds=5))])
async def index():
    return {"msg": "Hello World"}


@app.get("/search", dependencies=[Depends(RateLimiter(times=5, minutes=1))])
async def search(q: str = ""):
    return q


@app.get("/suggest", dependencies=[Depends(RateLimiter(times=5, minutes=1))])
def suggest():
    return ["emma"]


@app.get("/file", dependencies=[Depends(RateLimiter(times=5, minutes=1))])
async def file():
    return PlainTextResponse("a file")


@app.get("/items/{number}", dependencies=[Depends(RateLimiter(times=3, minutes=1))])
async def item(number: int):
    return number


@app.get(
    "/shelves/{number}",
    dependencies=[Depends(RateLimiter(times=4, minutes=1)), Depends(RateLimiter(times=10, hours=1))],
)
async def shelf(number: int):
    return number


@app.post("/login", dependencies=[Depends(RateLimiter(times=5, minutes=1))])
async def login(password: Annotated[str, Body(embed=True)]):
    if password != "correct horse":
        raise HTTPException(401)
    return "in"


@app.get(
    "/multiple",
    dependencies=[Depends(RateLimiter(times=1, seconds=5)), Depends(RateLimiter(times=2, seconds=15))],
)
async def multiple():
    return "multiple"


async def get_user(request: Request) -> str:
    return request.headers.get("X-User", "anonymous")


async def user_and_path(request: Request) -> str:
    return await get_user(request) + ":" + request.scope["path"]


@app.get("/me", dependencies=[Depends(RateLimiter(times=5, minutes=1, identifier=user_and_path))])
async def me(user: Annotated[str, Depends(get_user)]):
    return user


@app.get("/me/orders", dependencies=[Depends(RateLimiter(times=4, minutes=1, identifier=user_and_path))])
def my_orders():
    return []


@app.get(
    "/transfers",
    dependencies=[
        Depends(RateLimiter(times=6, hours=1)),
        Depends(RateLimiter(times=3, minutes=1, identifier=user_and_path)),
    ],
)
async def transfers():
    return []


async def logged_in(user: Annotated[str, Depends(get_user)]):
    if user == "anonymous":
        raise HTTPException(401)


@app.get("/account", dependencies=[Depends(logged_in), Depends(RateLimiter(times=5, minutes=1))])
async def account():
    return "an account"


async def slow_down(request, response, pexpire):
    raise HTTPException(429, "Slow down")


@app.get("/reviews", dependencies=[Depends(RateLimiter(times=3, minutes=1, callback=slow_down))])
async def reviews():
    return []


database = RateLimiter(times=6, minutes=1)


@app.get("/orders", dependencies=[Depends(database)])
async def orders():
    return []


@app.get("/customers", dependencies=[Depends(database)])
def customers():
    return []


@app.get("/export", dependencies=[Depends(RateLimiter(times=2, hours=1))])
async def export():
    return "rows"


@app.get("/prices", dependencies=[Depends(RateLimiter(times=3, milliseconds=500))])
async def prices():
    return [1, 2]


@app.get("/notes", dependencies=[Depends(RateLimiter(times=4, minutes=1))])
async def notes():
    return []


@app.post("/notes", dependencies=[Depends(RateLimiter(times=4, minutes=1))])
async def add_note():
    return 1


@app.get("/health")
async def health():
    return "ok"


@app.websocket("/room", dependencies=[Depends(WebSocketRateLimiter(times=3, minutes=1))])
async def room(websocket: WebSocket):
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_text("Hello, room")


@app.websocket("/talk")
async def talk(websocket: WebSocket):
    await websocket.accept()
    ratelimit = WebSocketRateLimiter(times=3, minutes=1)
    async for _ in websocket.iter_text():
        try:
            await ratelimit(websocket)
            await websocket.send_text("Hello, world")
        except HTTPException:
            await websocket.send_text("Hello again")


router = APIRouter(prefix="/v1", dependencies=[Depends(RateLimiter(times=5, minutes=1))])


@router.get("/things")
async def things():
    return []


@router.get("/parts")
async def parts():
    return []


app.include_router(router)
