"""A client that calls an ASGI app in process, on the loop of the trap, and sees each message that the app sends.

It needs no package, so that every environment drives its apps in the same way, and the client's address is free.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

CLIENT = "192.0.2.1"
PATIENCE = 60
"""Seconds until an app that does not answer is given up; a busy machine is not that slow."""

Message = dict[str, Any]


@dataclass
class Answer:
    """What came of one request: its status, its fields in lower case, and how often a response was started."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    starts: int = 0
    error: str = ""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def has_fields(self) -> bool:
        return "ratelimit" in self.headers or "x-ratelimit-remaining" in self.headers


class DidNotStart(Exception):
    """The app refused to start; the message is its own."""


@dataclass
class Running:
    """An app whose lifespan runs."""

    app: Any
    state: dict[str, Any]

    async def get(self, path: str, method: str = "GET", **options: Any) -> Answer:
        """Send one request and return its answer, once the app has returned."""
        answer = Answer()
        async with asyncio.timeout(PATIENCE):
            await self.send(answer, path, method, **options)
        return answer

    async def send(
        self,
        answer: Answer,
        path: str,
        method: str = "GET",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        client: str = CLIENT,
        on_message: Callable[[Message], None] | None = None,
    ) -> None:
        """Send one request, and write into ``answer`` what comes as it comes."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        is_over = asyncio.Event()

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await is_over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.starts = message["status"], answer.starts + 1
                answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            elif message["type"] == "http.response.body":
                answer.body += message.get("body", b"")
                if not message.get("more_body"):
                    is_over.set()
            if on_message:
                on_message(message)

        scope = {**self.scope("http", path, headers, client), "method": method, "scheme": "http"}
        try:
            await self.app(scope, receive, send)
        except Exception as error:  # a server logs it, and has sent the response
            answer.error = f"{type(error).__name__}: {error}"

    def scope(self, kind: str, path: str, headers: Mapping[str, str] | None, client: str) -> dict[str, Any]:
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": (client, 50000),
            "server": ("testserver", 80),
            "state": self.state.copy(),
        }

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[Socket]:
        """Open a WebSocket; the app is cancelled at the end if it has not returned."""
        socket = Socket()
        scope = {**self.scope("websocket", path, None, CLIENT), "scheme": "ws", "subprotocols": []}
        scope["extensions"] = {"websocket.http.response": {}}
        task = asyncio.create_task(self._run(scope, socket))
        try:
            async with asyncio.timeout(PATIENCE):
                yield socket
        finally:
            socket.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await asyncio.wait([task], timeout=1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, scope: dict[str, Any], socket: Socket) -> None:
        try:
            await self.app(scope, socket.inbox.get, socket.outbox.put)
        except Exception as error:
            await socket.outbox.put({"type": "error", "text": f"{type(error).__name__}: {error}"})
        else:
            await socket.outbox.put({"type": "returned"})


class Socket:
    """The client's end of a WebSocket."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})

    async def opened(self) -> str:
        """Return ``open``, or how the handshake was refused, such as ``429``."""
        message = await self.outbox.get()
        if message["type"] == "websocket.http.response.start":
            return str(message["status"])
        names = {"websocket.accept": "open", "websocket.close": f"closed with {message.get('code')}"}
        return names.get(message["type"]) or str(message.get("text") or message["type"])

    async def asked(self, text: str) -> str:
        """Send a text and return the answer, or how the connection ended."""
        await self.inbox.put({"type": "websocket.receive", "text": text})
        message = await self.outbox.get()
        if message["type"] == "websocket.close":
            return f"closed with {message.get('code')}"
        return str(message.get("text") or message["type"])


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[Running]:
    """Run the lifespan of an app.

    Raises:
        DidNotStart: The app refused to start.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    inbox.put_nowait({"type": "lifespan.startup"})
    task = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, inbox.get, outbox.put)
    )
    try:
        async with asyncio.timeout(PATIENCE):
            started = await outbox.get()
        if started["type"] != "lifespan.startup.complete":
            raise DidNotStart(started.get("message", ""))
        yield Running(app, state)
    finally:
        inbox.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([task], timeout=5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
