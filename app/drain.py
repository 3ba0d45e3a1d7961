"""The end of a process that serves: requests in flight are answered, new ones go elsewhere, and none holds it up.

A drain begins with SIGTERM or SIGINT, and has two parts:

1. The delay. `/readyz` is 503 and each response closes its connection, but requests are still taken: a balancer that
   watches readiness has this time to send them elsewhere. A second SIGTERM ends the delay; a second SIGINT ends
   everything at once.
2. The grace. Connections are refused, and the requests in flight have this time to end by themselves.

Then what is left is answered with a 503: a request that waits its turn, or one that hangs. At last the store is closed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.refusals import refusal
from sluicegate.web.problem import Problem

log = logging.getLogger("uvicorn.error")  # the server's own log

_DRAINING = Problem(
    503,
    "Service Unavailable",
    "This instance is shutting down. Another one answers if you try again.",
    members={"reason": "draining"},
)
_CLOSE = (b"connection", b"close")
_TICK = 0.1  # seconds between two looks for a second signal, as uvicorn looks for the first


def draining() -> JSONResponse:
    """Return the response of an instance that takes no more requests."""
    return refusal(_DRAINING, {"Retry-After": "1"})


class Drain:
    """Whether the service is draining, and which requests it still has to answer.

    Attributes:
        has_begun: True from `begin` on.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self._ends_at: float | None = None  # on the clock of the event loop
        self._in_flight: set[asyncio.Timeout] = set()

    def begin(self, seconds: float) -> None:
        """Begin to drain: every request, in flight or to come, is answered within ``seconds`` from now."""
        self.has_begun = True
        self._ends_at = asyncio.get_running_loop().time() + seconds
        for timeout in self._in_flight:
            if not timeout.expired():  # else its request is being answered with a 503
                timeout.reschedule(self._ends_at)

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return ``app`` with the end that a drain puts to its requests."""

        async def drained(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._serve(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return drained

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_closing(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                if self.has_begun:
                    message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
            await send(message)

        timeout = asyncio.timeout_at(self._ends_at)
        try:
            async with timeout:
                self._in_flight.add(timeout)
                await app(scope, receive, send_closing)
        except TimeoutError:
            if not timeout.expired():
                raise  # the app's own
            if not has_started:  # otherwise uvicorn cuts the response, and logs that
                await draining()(scope, receive, send_closing)
        finally:
            self._in_flight.discard(timeout)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains before it stops.

    Args:
        app: The ASGI app to serve.
        drain: The state from which the app knows that it is draining.
        delay: Seconds that requests are still taken for, 0 or more.
        grace: Seconds that requests in flight have after that, 0 or more.
        options: Options of ``uvicorn.Config``, such as ``host``.
    """

    def __init__(self, app: ASGIApp, drain: Drain, *, delay: float, grace: float, **options: Any) -> None:
        # uvicorn's own time-out logs errors, so it comes later: only for a request that cannot be cancelled.
        super().__init__(uvicorn.Config(drain.around(app), timeout_graceful_shutdown=math.ceil(grace) + 1, **options))
        self._drain = drain
        self._delay = delay
        self._grace = grace
        self._is_hurried = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop because of a signal; a second SIGTERM ends the delay, and a second SIGINT everything."""
        self._is_hurried = self.should_exit
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop."""
        log.info(
            "draining: taking requests for %g s, then finishing those in flight within %g s", self._delay, self._grace
        )
        clock = asyncio.get_running_loop().time
        closes_at = clock() + self._delay
        self._drain.begin(self._delay + self._grace)
        while not self._is_hurried and clock() < closes_at:
            await asyncio.sleep(_TICK)
            await self.on_tick(0)  # which sets the date of responses; the loop that does it has ended
        if self._is_hurried:
            self._drain.begin(self._grace)
        await super().shutdown(sockets)
