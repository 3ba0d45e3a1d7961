"""The apps of fastapi_limiter_before.py and fastapi_limiter_0_1_before.py with Sluicegate.

It is what docs/how-to/come-from-fastapi-limiter.md leads to.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse

from sluicegate.web.fastapi import RateLimits, client_address

limits = RateLimits()
app = FastAPI(lifespan=limits.lifespan)


@app.get("/", dependencies=[Depends(limits.limit("2/5s"))])
async def index():
    return {"msg": "Hello World"}


@app.get("/search", dependencies=[Depends(limits.limit("5/minute"))])
async def search(q: str = ""):
    return q


@app.get("/suggest", dependencies=[Depends(limits.limit("5/minute"))])
def suggest():
    return ["emma"]


@app.get("/file", dependencies=[Depends(limits.limit("5/minute"))])
async def file():
    return PlainTextResponse("a file")


@app.get("/items/{number}", dependencies=[Depends(limits.limit("3/minute"))])
async def item(number: int):
    return number


@app.get(
    "/shelves/{number}",
    dependencies=[Depends(limits.limit("4/minute")), Depends(limits.limit("10/hour"))],
)
async def shelf(number: int):
    return number


@app.post("/login", dependencies=[Depends(limits.limit("5/minute"))])
async def login(password: Annotated[str, Body(embed=True)]):
    if password != "correct horse":
        raise HTTPException(401)
    return "in"


@app.get(
    "/multiple",
    dependencies=[Depends(limits.limit("1/5s")), Depends(limits.limit("2/15s"))],
)
async def multiple():
    return "multiple"


async def get_user(request: Request) -> str:
    return request.headers.get("X-User", "anonymous")


@app.get("/me", dependencies=[Depends(limits.limit("5/minute", per=get_user))])
async def me(user: Annotated[str, Depends(get_user)]):
    return user


@app.get("/me/orders", dependencies=[Depends(limits.limit("4/minute", per=get_user))])
def my_orders():
    return []


@app.get(
    "/transfers",
    dependencies=[
        Depends(limits.limit("6/hour")),
        Depends(limits.limit("3/minute", per=get_user)),
    ],
)
async def transfers():
    return []


async def logged_in(user: Annotated[str, Depends(get_user)]):
    if user == "anonymous":
        raise HTTPException(401)


@app.get("/account", dependencies=[Depends(logged_in), Depends(limits.limit("5/minute"))])
async def account():
    return "an account"


@app.get("/reviews", dependencies=[Depends(limits.limit("3/minute", message="Slow down"))])
async def reviews():
    return []


database = limits.limit("6/minute")


@app.get("/orders", dependencies=[Depends(database)])
async def orders():
    return []


@app.get("/customers", dependencies=[Depends(database)])
def customers():
    return []


@app.get("/export", dependencies=[Depends(limits.limit("2/hour"))])
async def export():
    return "rows"


@app.get("/prices", dependencies=[Depends(limits.limit("3/500ms"))])
async def prices():
    return [1, 2]


@app.get("/notes", dependencies=[Depends(limits.limit("4/minute"))])
async def notes():
    return []


@app.post("/notes", dependencies=[Depends(limits.limit("4/minute"))])
async def add_note():
    return 1


@app.get("/health")
async def health():
    return "ok"


@app.websocket("/room", dependencies=[Depends(limits.limit("3/minute"))])
async def room(websocket: WebSocket):
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_text("Hello, room")


@app.websocket("/talk")
async def talk(websocket: WebSocket):
    await websocket.accept()
    key = client_address.of(websocket.scope)
    async for _ in limits.messages(websocket, "3/minute", key=key):
        await websocket.send_text("Hello, world")


router = APIRouter(prefix="/v1", dependencies=[Depends(limits.limit("5/minute", each=True))])


@router.get("/things")
async def things():
    return []


@router.get("/parts")
async def parts():
    return []


app.include_router(router)
