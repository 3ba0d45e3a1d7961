"""An app of 24 routes with fastapi-limiter 0.2, in the form of its README, as its users write them."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi_limiter.decorators import skip_limiter
from fastapi_limiter.depends import RateLimiter, WebSocketRateLimiter
from pyrate_limiter import Duration, Limiter, Rate

app = FastAPI()


@app.get("/", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(2, Duration.SECOND * 5))))])
async def index():
    return {"msg": "Hello World"}


@app.get("/search", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE))))])
async def search(q: str = ""):
    return q


@app.get("/suggest", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE))))])
def suggest():
    return ["emma"]


@app.get("/file", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE))))])
async def file():
    return PlainTextResponse("a file")


@app.get("/items/{number}", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(3, Duration.MINUTE))))])
async def item(number: int):
    return number


@app.get(
    "/shelves/{number}",
    dependencies=[
        Depends(RateLimiter(limiter=Limiter(Rate(4, Duration.MINUTE)))),
        Depends(RateLimiter(limiter=Limiter(Rate(10, Duration.HOUR)))),
    ],
)
async def shelf(number: int):
    return number


@app.post("/login", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE))))])
async def login(password: Annotated[str, Body(embed=True)]):
    if password != "correct horse":
        raise HTTPException(401)
    return "in"


@app.get(
    "/multiple",
    dependencies=[
        Depends(RateLimiter(limiter=Limiter(Rate(1, Duration.SECOND * 5)))),
        Depends(RateLimiter(limiter=Limiter(Rate(2, Duration.SECOND * 15)))),
    ],
)
async def multiple():
    return "multiple"


async def get_user(request: Request) -> str:
    return request.headers.get("X-User", "anonymous")


async def user_and_path(request: Request) -> str:
    return await get_user(request) + ":" + request.scope["path"]


@app.get(
    "/me", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE)), identifier=user_and_path))]
)
async def me(user: Annotated[str, Depends(get_user)]):
    return user


@app.get(
    "/me/orders",
    dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(4, Duration.MINUTE)), identifier=user_and_path))],
)
def my_orders():
    return []


@app.get(
    "/transfers",
    dependencies=[
        Depends(RateLimiter(limiter=Limiter(Rate(6, Duration.HOUR)))),
        Depends(RateLimiter(limiter=Limiter(Rate(3, Duration.MINUTE)), identifier=user_and_path)),
    ],
)
async def transfers():
    return []


async def logged_in(user: Annotated[str, Depends(get_user)]):
    if user == "anonymous":
        raise HTTPException(401)


@app.get("/account", dependencies=[Depends(logged_in), Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE))))])
async def account():
    return "an account"


async def slow_down(request, response):
    raise HTTPException(429, "Slow down")


@app.get("/reviews", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(3, Duration.MINUTE)), callback=slow_down))])
async def reviews():
    return []


database = RateLimiter(limiter=Limiter(Rate(6, Duration.MINUTE)))


@app.get("/orders", dependencies=[Depends(database)])
async def orders():
    return []


@app.get("/customers", dependencies=[Depends(database)])
def customers():
    return []


@app.get("/export", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(2, Duration.HOUR))))])
async def export():
    return "rows"


@app.get("/prices", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(3, 500))))])
async def prices():
    return [1, 2]


@app.get("/notes", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(4, Duration.MINUTE))))])
async def notes():
    return []


@app.post("/notes", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(4, Duration.MINUTE))))])
async def add_note():
    return 1


@app.get("/health", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(1, Duration.MINUTE))))])
@skip_limiter
async def health():
    return "ok"


@app.websocket("/room", dependencies=[Depends(WebSocketRateLimiter(limiter=Limiter(Rate(3, Duration.MINUTE))))])
async def room(websocket: WebSocket):
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_text("Hello, room")


@app.websocket("/talk")
async def talk(websocket: WebSocket):
    await websocket.accept()
    ratelimit = WebSocketRateLimiter(limiter=Limiter(Rate(3, Duration.MINUTE)))
    async for _ in websocket.iter_text():
        try:
            await ratelimit(websocket)
            await websocket.send_text("Hello, world")
        except HTTPException:
            await websocket.send_text("Hello again")


router = APIRouter(prefix="/v1", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(5, Duration.MINUTE))))])


@router.get("/things")
async def things():
    return []


@router.get("/parts")
async def parts():
    return []


app.include_router(router)
