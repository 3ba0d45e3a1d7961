"""slowapi as a service, in the form of its documentation ("FastAPI"): ``/ping?user_id=...``.

PEER_LIMIT and PEER_WINDOW (whole seconds) set the limit. PEER_REDIS_URL sets the server to count on; without it the
service counts in memory. PEER_STRATEGY sets the strategy of `limits`; slowapi's default is ``fixed-window``.
If this file and that documentation differ, suspect this file first.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request, Response
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded

LIMIT, WINDOW = int(os.environ["PEER_LIMIT"]), float(os.environ["PEER_WINDOW"])
if WINDOW < 1 or int(WINDOW) != WINDOW:
    raise ValueError(f"slowapi: PEER_WINDOW must be whole seconds, 1 or more, got {WINDOW}")


def user_id(request: Request) -> str:
    return request.query_params.get("user_id", "")


# headers_enabled is off by default, and then there is no Retry-After to judge.
limiter = Limiter(
    key_func=user_id,
    headers_enabled=True,
    strategy=os.environ.get("PEER_STRATEGY"),
    storage_uri=os.environ.get("PEER_REDIS_URL"),
)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


# slowapi adds its headers to the response, which must be an argument ("Response type").
@app.get("/ping")
@limiter.limit(f"{LIMIT} per {int(WINDOW)} second")
async def ping(request: Request, response: Response) -> dict[str, str]:  # noqa: ARG001 - slowapi requires both
    return {"message": "pong"}
