"""slowapi as a service, in the form of its documentation ("FastAPI"): ``/ping?user_id=...``.

PEER_LIMIT and PEER_WINDOW (whole seconds) say the limit; PEER_REDIS_URL where it counts, in memory if it is not set;
PEER_STRATEGY how, ``fixed-window`` (slowapi's default) or another one that `limits` has.
Where this file and that documentation may differ, this file is at fault first.
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


# headers_enabled is off by default, and there is no Retry-After then: on, so that there is one to judge.
limiter = Limiter(
    key_func=user_id,
    headers_enabled=True,
    strategy=os.environ.get("PEER_STRATEGY"),
    storage_uri=os.environ.get("PEER_REDIS_URL"),
)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


# Without the response as an argument slowapi has no headers to write to ("Response type").
@app.get("/ping")
@limiter.limit(f"{LIMIT} per {int(WINDOW)} second")
async def ping(request: Request, response: Response) -> dict[str, str]:  # noqa: ARG001 - slowapi asks for both
    return {"message": "pong"}
