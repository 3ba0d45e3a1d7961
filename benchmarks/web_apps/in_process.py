"""Serve requests to one app without a server or a socket, and print the CPU seconds of one.

    python benchmarks/web_apps/in_process.py ours:dependency                the seconds
    python benchmarks/web_apps/in_process.py ours:dependency --profile      where they go, by function

Run it with the interpreter of the environment that the app's limiter is installed in.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import importlib
import pstats
import sys
import time
from collections.abc import MutableMapping
from typing import Any

USERS, WARM_UP = 100, 500
Message = MutableMapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the CPU seconds of one request to an app, without a server.")
    parser.add_argument("app", metavar="MODULE:FACTORY", help="a factory in this folder, such as ours:dependency")
    parser.add_argument("--requests", type=int, default=4000, metavar="N")
    parser.add_argument("--profile", action="store_true", help="print the functions that take longest, in place of it")
    given = parser.parse_args()
    module, _, factory = given.app.partition(":")
    app = getattr(importlib.import_module(module), factory)()
    asyncio.run(_measure(app, given.requests, cProfile.Profile() if given.profile else None))


async def _measure(app: Any, requests: int, profile: cProfile.Profile | None) -> None:
    lifespan = _Lifespan(app)
    await lifespan.start()
    await _serve(app, WARM_UP)
    gc.collect()
    gc.freeze()
    if profile is not None:
        profile.enable()
    began = time.process_time()
    await _serve(app, requests)
    seconds = (time.process_time() - began) / requests
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    else:
        print(seconds)
    await lifespan.stop()


async def _serve(app: Any, requests: int) -> None:
    for n in range(requests):
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        await app(_scope(f"user-{n % USERS}"), _receive, send)
        if status != 200:
            sys.exit(f"a request was answered with {status}, so nothing is measured")


def _scope(user: str) -> Message:
    """Return what uvicorn makes of a request of wrk's."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/ping",
        "raw_path": b"/ping",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"x-user", user.encode())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


class _Lifespan:
    """The lifespan of an app, as a server drives it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(self._app(scope, self._sent.get, self._answers.put))
        await self._turn("startup")

    async def stop(self) -> None:
        await self._turn("shutdown")
        await self._task

    async def _turn(self, what: str) -> None:
        await self._sent.put({"type": f"lifespan.{what}"})
        answer = await self._answers.get()
        if answer["type"] != f"lifespan.{what}.complete":
            sys.exit(f"the app failed at its {what}: {answer.get('message', '')}")


if __name__ == "__main__":
    main()
