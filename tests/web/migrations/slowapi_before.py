"""An app of 26 routes with slowapi, as its users write them."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address, default_limits=["30/minute"], headers_enabled=True)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_middleware(SlowAPIMiddleware)


def get_user(request: Request) -> str:
    return request.headers.get("X-User", "anonymous")


@app.get("/books")
def books():
    return ["Emma", "Ulysses"]


@app.get("/books/{number}")
async def book(number: int):
    return number


@app.get("/health")
@limiter.exempt
async def health():
    return "ok"


@app.get("/search")
@limiter.limit("5/minute")
async def search(request: Request, response: Response, q: str = ""):
    return q


@app.get("/suggest")
@limiter.limit("5/minute")
def suggest(request: Request, response: Response):
    return ["emma"]


@app.get("/prices")
@limiter.limit("100/minute")
async def prices(request: Request, response: Response):
    return [1, 2]


@app.get("/maps")
@limiter.limit("100/minute")
async def maps(request: Request, response: Response):
    return "a map"


@app.get("/news")
@limiter.limit("3/second;10/minute")
async def news(request: Request, response: Response):
    return "news"


@app.get("/feed")
@limiter.limit("6/minute")
@limiter.limit("8/hour")
async def feed(request: Request, response: Response):
    return "feed"


@app.get("/file")
@limiter.limit("5/minute")
async def file(request: Request):
    return PlainTextResponse("a file")


@app.post("/login")
@limiter.limit("5/minute", error_message="Too many log-ins")
async def login(request: Request, response: Response, password: Annotated[str, Body(embed=True)]):
    if password != "correct horse":
        raise HTTPException(401)
    return "in"


def logged_in(request: Request) -> None:
    if get_user(request) == "anonymous":
        raise HTTPException(401)


@app.get("/account", dependencies=[Depends(logged_in)])
@limiter.limit("5/minute")
async def account(request: Request, response: Response):
    return "an account"


@app.get("/me")
@limiter.limit("5/minute", key_func=get_user)
async def me(request: Request, response: Response):
    return get_user(request)


@app.get("/me/orders")
@limiter.limit("4/minute", key_func=get_user)
def my_orders(request: Request, response: Response):
    return []


@app.get("/reports/{number}")
@limiter.limit("3/minute", key_func=get_user)
async def report(request: Request, response: Response, number: int):
    return number


@app.get("/transfers")
@limiter.limit("3/minute", key_func=get_user)
@limiter.limit("6/hour")
async def transfers(request: Request, response: Response):
    return []


database = limiter.shared_limit("6/minute", scope="database")


@app.get("/orders")
@database
async def orders(request: Request, response: Response):
    return []


@app.get("/customers")
@database
def customers(request: Request, response: Response):
    return []


def pages(request: Request) -> int:
    return int(request.query_params["pages"])


@app.get("/scan")
@limiter.limit("20/minute", cost=pages)
async def scan(request: Request, response: Response):
    return "scanned"


@app.get("/export")
@limiter.limit("12/minute", cost=5)
async def export(request: Request, response: Response):
    return "rows"


def limit_of(key: str) -> str:
    return "8/minute" if key == "alice" else "3/minute"


@app.get("/reviews")
@limiter.limit(limit_of, key_func=get_user)
async def reviews(request: Request, response: Response):
    return []


def is_partner(request: Request) -> bool:
    return get_user(request) == "partner"


@app.get("/stock")
@limiter.limit("3/minute", exempt_when=is_partner)
async def stock(request: Request, response: Response):
    return 7


@app.get("/notes")
@limiter.limit("4/minute")
async def notes(request: Request, response: Response):
    return []


@app.post("/notes")
@limiter.limit("4/minute")
async def add_note(request: Request, response: Response):
    return 1


router = APIRouter(prefix="/v1")


@router.get("/things")
@limiter.limit("5/minute")
async def things(request: Request, response: Response):
    return []


@router.get("/parts")
async def parts():
    return []


app.include_router(router)
