"""The app of slowapi_before.py with Sluicegate, as docs/how-to/come-from-slowapi.md says."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse

from sluicegate.web.fastapi import RateLimits

limits = RateLimits(fields=("RateLimit", "X-RateLimit"))
by_default = limits.limit("30/minute", each=True, name="default")
app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(by_default)])


async def get_user(request: Request) -> str:
    return request.headers.get("X-User", "anonymous")


User = Annotated[str, Depends(get_user)]


@app.get("/books")
def books():
    return ["Emma", "Ulysses"]


@app.get("/books/{number}")
async def book(number: int):
    return number


@app.get("/health")
@limits.exempt
async def health():
    return "ok"


@app.get("/search")
@limits.limit("5/minute")
async def search(q: str = ""):
    return q


@app.get("/suggest")
@limits.limit("5/minute")
def suggest():
    return ["emma"]


@app.get("/prices")
@limits.exempt
@limits.limit("100/minute")
async def prices():
    return [1, 2]


@app.get("/maps")
@limits.limit("100/minute")
async def maps():
    return "a map"


@app.get("/news")
@limits.limit("3/second;10/minute")
async def news():
    return "news"


@app.get("/feed")
@limits.limit("6/minute")
@limits.limit("8/hour")
async def feed():
    return "feed"


@app.get("/file")
@limits.limit("5/minute")
async def file():
    return PlainTextResponse("a file")


@app.post("/login")
@limits.limit("5/minute", message="Too many log-ins")
async def login(password: Annotated[str, Body(embed=True)]):
    if password != "correct horse":
        raise HTTPException(401)
    return "in"


async def logged_in(user: User) -> None:
    if user == "anonymous":
        raise HTTPException(401)


@app.get("/account", dependencies=[Depends(logged_in)])
@limits.limit("5/minute")
async def account():
    return "an account"


@app.get("/me")
@limits.limit("5/minute", per=get_user)
async def me(user: User):
    return user


@app.get("/me/orders")
@limits.limit("4/minute", per=get_user)
def my_orders():
    return []


@app.get("/reports/{number}")
@limits.limit("3/minute", per=get_user)
async def report(number: int):
    return number


@app.get("/transfers")
@limits.limit("3/minute", per=get_user)
@limits.limit("6/hour")
async def transfers():
    return []


database = limits.shared("6/minute", per=limits.address, name="database")


@app.get("/orders")
@database
async def orders():
    return []


@app.get("/customers")
@database
def customers():
    return []


async def pages(pages: Annotated[int, Query(ge=0)]) -> int:
    return pages


@app.get("/scan")
@limits.limit("20/minute", cost=pages)
async def scan():
    return "scanned"


@app.get("/export")
@limits.limit("12/minute", cost=5)
async def export():
    return "rows"


async def limit_of(user: User) -> str:
    return "8/minute" if user == "alice" else "3/minute"


@app.get("/reviews")
@limits.limit(limit_of, per=get_user)
async def reviews():
    return []


async def unless_partner(user: User) -> str | None:
    return None if user == "partner" else "3/minute"


@app.get("/stock")
@limits.limit(unless_partner)
async def stock():
    return 7


@app.get("/notes")
@limits.limit("4/minute")
async def notes():
    return []


@app.post("/notes")
@limits.limit("4/minute")
async def add_note():
    return 1


router = APIRouter(prefix="/v1")


@router.get("/things")
@limits.limit("5/minute")
async def things():
    return []


@router.get("/parts")
async def parts():
    return []


app.include_router(router)
