"""What the tests of limits in FastAPI ask an app, and what they read from its responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import http_sf
import uvicorn
from fastapi.testclient import TestClient

from service.processes import within

Serve = Callable[..., TestClient]
"""The fixture `serve`: starts an app, and stops it at the end of the test."""


def remaining(response: Any) -> dict[str, int]:
    """Return the units that remain under each policy, in the order of the RateLimit field; nothing without it."""
    lines = response.headers.get_list("ratelimit")
    if not lines:
        return {}
    (field,) = lines  # what is added twice is a bug, though a client may read it as one list
    return {name: parameters["r"] for name, parameters in http_sf.parse(field.encode(), tltype="list")}


def violated(response: Any) -> list[str]:
    """Return the policies that a problem document says are violated."""
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["violated-policies"]


def statuses(client: Any, *paths: str, **options: Any) -> list[int]:
    """Return the statuses of one GET after another."""
    return [client.get(path, **options).status_code for path in paths]


def at_once(call: Callable[[], Any], times: int) -> list[Any]:
    """Call something in as many threads at once, and return what came back."""
    results: list[Any] = []
    threads = [Thread(target=lambda: results.append(call())) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app by uvicorn, in a thread. Gives its URL."""
    # With an end to what still runs: a test that fails must not hang.
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        assert within(lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
