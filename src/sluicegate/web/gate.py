"""The gate: an ASGI app around another one. It opens an exchange for each request, and sees to its response."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from sluicegate.web.answers import App, Message, Receive, Scope, Send
from sluicegate.web.exchange import Exchange, with_fields

Enter = Callable[[Exchange], Awaitable[None]]


class Gate:
    """Lets requests into an app, and their responses out of it with the fields that they need.

    Args:
        app: The app.
        open_: Makes the exchange of a request, or returns None for a request that has one already.
        enter: Decides what has to be decided in front of the app; None for nothing.
        owner: Who put it there.
        start: Called when the app starts, before it does, with the scope of its lifespan.
        stop: Awaited when the app has stopped.
    """

    def __init__(
        self,
        app: App,
        open_: Callable[[Scope], Exchange | None],
        enter: Enter | None = None,
        owner: object = None,
        start: Callable[[Scope], None] | None = None,
        stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.app = app
        self.owner = owner
        self._start = start
        self._stop = stop
        self._open = open_
        self._enter = enter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; what is neither HTTP nor a WebSocket goes straight to the app."""
        exchange = self._open(scope) if scope["type"] in ("http", "websocket") else None
        if exchange is None:
            if scope["type"] == "lifespan":
                await self._live(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        out = Outlet(exchange, receive, send)
        if exchange.may_wait:
            exchange.inlet = inlet = Inlet(receive)
            receive = inlet.receive
        exchange.is_guarded = True
        try:
            if self._enter is not None:
                await self._enter(exchange)
            if exchange.refusal is not None:
                await exchange.refuse(receive, out.send)
                return
            await self.app(scope, receive, out.send)
        finally:
            if exchange.held:
                await exchange.end()
            exchange.close()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop with the app."""
        if self._start is not None:
            self._start(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            if self._stop is not None:
                await self._stop()


class Inlet:
    """The way in: what a client sends, which a request that waits for its turn hears before the app does."""

    __slots__ = ("_kept", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._kept: deque[Message] = deque()
        self._receive = receive

    async def receive(self) -> Message:
        """Return the next message, for the app."""
        return self._kept.popleft() if self._kept else await self._receive()

    async def closed(self) -> None:
        """Return once the client has gone. Of a body that is long, the end is left to the app, and nothing is heard."""
        size = 0
        while size <= _MOST_KEPT:
            message = await self._receive()
            self._kept.append(message)
            if message["type"] in _DISCONNECTS:
                return
            size += len(message.get("body", b""))
        await asyncio.Event().wait()


class Outlet:
    """The way out: what a response passes on its way to the server."""

    __slots__ = ("_exchange", "_is_replaced", "_receive", "_send")

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if self._is_replaced:
            return
        kind = message["type"]
        exchange = self._exchange
        if kind in _STARTS or kind == _CLOSE:
            if exchange.pending and exchange.refusal is None and await exchange.decide_pending() is not None:
                # Decided only now, as the app answered before its dependencies had said who makes the request.
                self._is_replaced = True
                await exchange.refuse(self._receive, self._send_refusal)
                return
            if exchange.held:
                exchange.started(message)
            if kind != _CLOSE:
                message = {**message}  # the app may send the same one again
                with_fields(message, exchange.fields())
        elif kind in _ENDS or (kind in _BODIES and not message.get("more_body", False)):
            if exchange.held:
                await exchange.end()
            exchange.is_over = True
        await self._send(message)

    async def _send_refusal(self, message: Message) -> None:
        if message["type"] in _STARTS:
            message = {**message}
            with_fields(message, self._exchange.fields())
        await self._send(message)


_DISCONNECTS = ("http.disconnect", "websocket.disconnect")
_MOST_KEPT = 65536  # bytes of a body, of a request that waits
_STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
_CLOSE = "websocket.close"  # before "websocket.accept" it is the answer to the handshake
_BODIES = ("http.response.body", "websocket.http.response.body")
_ENDS = ("http.response.pathsend",)  # an extension: the server sends a whole file


def is_preflight(scope: Scope) -> bool:
    """Return whether a request is a CORS preflight, which browsers send by themselves: it is not counted."""
    if scope.get("method") != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
