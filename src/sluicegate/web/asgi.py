"""`RateLimitMiddleware`: one limit in front of any ASGI app, for HTTP and WebSockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidKey, InvalidPolicy, StoreError, short_repr
from sluicegate._core.event import StoreEvent
from sluicegate._core.policy import Policy
from sluicegate._limiter.async_limiter import AsyncLimiter
from sluicegate._limiter.callbacks import is_async
from sluicegate._limiter.outages import DEADLINE, OnOutage
from sluicegate._stores.base import AsyncStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate.web.answers import TRY_AGAIN_LATER, App, Message, Receive, Refusal, Scope, Send
from sluicegate.web.ban import Ban, ban_of, check_can_ban
from sluicegate.web.budget import Budget, Given, Terms, asked_of, listed, placed
from sluicegate.web.engine import Engine
from sluicegate.web.exchange import ERRORS, Exchange
from sluicegate.web.gate import Gate, is_preflight
from sluicegate.web.identity import InvalidIdentity, ScopeKey, client_address
from sluicegate.web.limiters import FieldSet, Limiters


class RateLimitMiddleware(Gate):
    """Limits the requests to an ASGI app: Starlette's, Litestar's, or any other.

    Each request is decided before the app sees it. One over the limit gets a 429, at the handshake of a WebSocket, too;
    responses have RateLimit fields. Streams, background tasks and the lifespan pass untouched. CORS preflights are not
    counted.

    Put it around the whole app, or hand it a ``store``: Litestar makes the middleware of its own list once for each
    route, and in memory each would count by itself.

    Args:
        app: The app.
        limit: A policy, a rate such as ``"100/minute"``, or a list of these, decided together.
        per: Who it counts by: `client_address`, `header` and the like, or a function of the ASGI scope that returns
            text.
        exempt: A function of the ASGI scope that tells whether a request is not limited, such as a health check.
        messages: The limit of the messages that a client sends through one WebSocket; over it, the connection is closed
            with code 1013. None for no limit.
        ban: When a key is shut out that was denied too often: ``("20/hour", 3600)`` for an hour after 20 denials within
            one; or a `Ban`, for one that grows. None for never.
        name: The name of the limit, in response fields and of its counters.
        store: As for `AsyncLimiter`. What a URL opens is closed when the app's lifespan ends; where none is run, by
            `aclose`.
        on_outage: As for `AsyncLimiter`. Where there is no decision the answer is a 503.
        deadline: As for `AsyncLimiter`, seconds.
        fields: The response fields to send: ``"RateLimit"`` (with RateLimit-Policy) and ``"X-RateLimit"``.
        jitter: The most that is added to Retry-After at random, as a fraction of it, 0 to 1.
        pages: Whether a browser gets a page in place of a problem document.
        enabled: False limits nothing, for tests.
        on_denied: A function of the scope and the `Refusal` that returns an ASGI app to answer with, or None.
        on_decision: Called with each `Decision`, and the seconds that it took. It must be quick.
        on_event: As for `AsyncLimiter`.

    Raises:
        InvalidPolicy: An argument is invalid.
        InvalidRate: A rate string does not parse.
        InvalidStore: ``store`` is neither a store nor the URL of one.
    """

    def __init__(
        self,
        app: App,
        limit: Given,
        *,
        per: ScopeKey | Callable[[Scope], str] = client_address,
        exempt: Callable[[Scope], bool] | None = None,
        messages: Given | None = None,
        ban: Ban | tuple[Policy | str, float] | None = None,
        name: str = "default",
        store: AsyncStore | MemoryStore | str | None = None,
        on_outage: OnOutage = "local",
        deadline: float = DEADLINE,
        fields: tuple[FieldSet, ...] = ("RateLimit",),
        jitter: float = 0.0,
        pages: bool = False,
        enabled: bool = True,
        on_denied: Callable[[Mapping[str, Any], Refusal], Any] | None = None,
        on_decision: Callable[[Decision, float], object] | None = None,
        on_event: Callable[[StoreEvent], object] | None = None,
    ) -> None:
        limiters = Limiters(store, on_outage=on_outage, deadline=deadline, enabled=enabled, on_event=on_event)
        self._engine = Engine(limiters, fields=fields, jitter=jitter, pages=pages, on_decision=on_decision)
        if on_denied is not None and not callable(on_denied):
            raise InvalidPolicy(
                f"on_denied must be a function of the scope and the refusal, got {short_repr(on_denied)}"
            )
        self._engine.on_denied = on_denied
        self._budget = Budget(name, _checked_plain(placed(listed(limit), name)), terms=Terms(ban=ban_of(ban)))
        if ban is not None:
            check_can_ban(self._budget.policies)
        self._messages = _checked_plain(placed(listed(messages), f"{name}-messages")) if messages is not None else ()
        self._per = per.of if isinstance(per, ScopeKey) else _checked_function(per, "per")
        self._exempt = None if exempt is None else _checked_function(exempt, "exempt")
        super().__init__(
            self._limit_messages(app) if self._messages else app, self._open_limited, self._decide, stop=self.aclose
        )

    async def aclose(self) -> None:
        """Close the store, if this middleware made it. The next request opens it again."""
        await self._engine.finish()

    def _open_limited(self, scope: Scope) -> Exchange | None:
        if is_preflight(scope) or self._is_exempt(scope):
            return None
        return Exchange(self._engine, scope)

    def _is_exempt(self, scope: Scope) -> bool:
        try:
            return self._exempt is not None and bool(self._exempt(scope))
        except InvalidIdentity:  # a header that ``exempt`` reads as a key; who sent it gets a 400 for that
            return False

    def _key(self, scope: Scope) -> str:
        key = self._per(scope)
        if not isinstance(key, str):
            raise InvalidKey(f"a key must be a str, got one of type {type(key).__name__}; return one from per=")
        if not key:
            raise InvalidKey(
                "a key must not be empty: all who have none would share one limit; return another from per="
            )
        return key

    async def _decide(self, exchange: Exchange) -> None:
        try:
            asked = asked_of((self._budget, self._budget.policies, self._key(exchange.scope), 1))
        except ERRORS as error:
            exchange.refuse_for(self._engine.refusal_of(error))
        else:
            await exchange.decide((asked,), is_last=True)

    def _limit_messages(self, app: App) -> App:
        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket" and not (self._exempt is not None and self._exempt(scope)):
                limiter = self._engine.limiters.of(self._messages).limiter
                counted = _CountedMessages(self._engine, limiter, self._key(scope), receive, send)
                receive, send = counted.receive, counted.send
            await app(scope, receive, send)

        return limited


class _CountedMessages:
    """The two ways of a WebSocket. Once its client's messages are over their limit it is closed, and both are shut."""

    def __init__(self, engine: Engine, limiter: AsyncLimiter, key: str, receive: Receive, send: Send) -> None:
        self._engine = engine
        self._limiter = limiter
        self._key = key
        self._receive = receive
        self._send = send
        self._is_closed = False

    async def receive(self) -> Message:
        """Return the next message; the disconnect once the WebSocket was closed."""
        if not self._is_closed:
            message = await self._receive()
            if message["type"] != "websocket.receive" or await self._is_allowed():
                return message
            if not self._is_closed:  # by another task that receives
                self._is_closed = True
                await self._send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "too many messages"})
        return {"type": "websocket.disconnect", "code": TRY_AGAIN_LATER}

    async def send(self, message: Message) -> None:
        """Pass a message on. Raises `OSError` once the WebSocket was closed, as servers do when the client has left."""
        if not self._is_closed:
            await self._send(message)
        elif message["type"] != "websocket.close":
            raise OSError("the WebSocket was closed, as its client had sent too many messages")

    async def _is_allowed(self) -> bool:
        began_at = time.perf_counter()
        try:
            decision = await self._limiter.take(self._key)
        except StoreError:
            return False  # without a decision no message passes
        self._engine.note(decision, began_at)
        return decision.allowed


def _checked_plain(policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
    for policy in policies:
        if policy.per:
            raise InvalidPolicy(
                f"policies of this middleware must count by the key that its own per= returns, got one with "
                f"per={short_repr(policy.per)}"
            )
    return policies


def _checked_function(function: Any, what: str) -> Any:
    if not callable(function) or isinstance(function, type):
        raise InvalidPolicy(f"{what} must be a function of the ASGI scope, got {short_repr(function)}")
    if is_async(function):
        raise InvalidPolicy(f"{what} must be a synchronous function, got {short_repr(function)}, which is async")
    return function
