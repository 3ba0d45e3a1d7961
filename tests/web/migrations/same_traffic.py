"""The same traffic, sent to an app before it moves to Sluicegate and after."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

HERE = Path(__file__).parent
PAGES = HERE.parents[2] / "docs/how-to"

Answers = list[Any]
"""Statuses, and for a WebSocket the messages that came and the code that it was closed with."""


@dataclass(frozen=True)
class Call:
    """Requests of one client to one path, one after another."""

    path: str
    times: int = 1
    user: str | None = None
    address: str = "192.0.2.1"
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    content: str | None = None


@dataclass(frozen=True)
class Talk:
    """Messages through one WebSocket, each after the answer to the one before."""

    path: str
    messages: int
    address: str = "192.0.2.1"


@dataclass(frozen=True)
class Wait:
    """Seconds between two requests."""

    seconds: float


Step = Call | Talk | Wait


@dataclass(frozen=True)
class Difference:
    """Where the two apps answer the same traffic in two ways.

    Attributes:
        sentence: What the page says of it.
        traffic: What shows it.
        before: The answers before.
        after: The answers after.
    """

    sentence: str
    traffic: Sequence[Step]
    before: Answers
    after: Answers

    def check(self, page: str, before: Answers, after: Answers) -> None:
        """Check that the page says it, and that it was seen."""
        assert self.sentence in sentences(page)
        print(f"{self.sentence}\n  before: {before}\n  after:  {after}")
        assert (before, after) == (self.before, self.after)
        assert before != after


def sentences(page: str) -> str:
    """Return the text of a page, each run of white space as one space."""
    return re.sub(r"\s+", " ", (PAGES / page).read_text())


def load(name: str) -> Any:
    """Return an app's module, run anew."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Return the paths and methods that an app serves, sorted; WS for a WebSocket."""
    schema = app.openapi()["paths"]
    sockets = [(route.path, "ws") for route in app.routes if isinstance(route, APIWebSocketRoute)]
    return sorted([*sockets, *((path, method) for path, methods in schema.items() for method in methods)])


def answers(app: Any, traffic: Sequence[Step], advance: Callable[[float], object]) -> Answers:
    """Send traffic to an app, and return the answers.

    Args:
        app: The app.
        traffic: What is sent.
        advance: Moves the clock that the app counts by.
    """
    came: Answers = []
    with TestClient(_with_addresses(app), raise_server_exceptions=False) as client:
        for step in traffic:
            if isinstance(step, Wait):
                advance(step.seconds)
            elif isinstance(step, Talk):
                came += _talk(client, step)
            else:
                came += [_send(client, step) for _ in range(step.times)]
    return came


def _send(client: TestClient, call: Call) -> int:
    headers = {**call.headers, "X-Test-Address": call.address, **({"X-User": call.user} if call.user else {})}
    return client.request(call.method, call.path, headers=headers, json=call.json, content=call.content).status_code


def _talk(client: TestClient, talk: Talk) -> Answers:
    came: Answers = []
    try:
        with client.websocket_connect(talk.path, headers={"X-Test-Address": talk.address}) as websocket:
            for _ in range(talk.messages):
                websocket.send_text("hello")
                came.append(websocket.receive_text())
    except WebSocketDenialResponse as denied:
        came.append(denied.status_code)
    except WebSocketDisconnect as closed:
        came.append(closed.code)
    return came


def _with_addresses(app: Any) -> Any:
    """Let each request come from the address that it names."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-test-address":
                scope["client"] = (value.decode(), 50000)
        await app(scope, receive, send)

    return served
