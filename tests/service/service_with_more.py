"""The service as ``python -m app`` serves it, with endpoints for tests beside its own.

- `/slow` answers once the file exists that is the last argument.
- `/turn` has one unit a minute, nearly, and requests wait for it.
- `/address` is limited by the client's address.
- `/unanswered` says in a field how many requests are not answered yet.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fastapi import Depends, Request, Response

from app.__main__ import main
from app.main import app
from sluicegate import SlidingWindow
from sluicegate.web.fastapi import client_address

GO = Path(sys.argv.pop())
limits = app.state.limits


@app.get("/slow")
@limits.exempt
async def slow() -> str:
    while not GO.exists():  # noqa: ASYNC240 - a look at a file blocks nobody
        await asyncio.sleep(0.01)
    return "done"


@app.get("/unanswered")
@limits.exempt
async def unanswered(response: Response) -> None:
    response.headers["Unanswered"] = str(len(app.state.drain._in_flight))


async def everybody() -> str:
    return "everybody"


@app.get("/turn", dependencies=[Depends(limits.limit(SlidingWindow(1, window=59), per=everybody, wait=60))])
async def turn() -> str:
    return "done"


@app.get("/address", dependencies=[Depends(limits.limit("3/hour", per=client_address))])
async def address(request: Request) -> str:
    return client_address.of(request.scope)


main()
