"""Limits on the messages that a client sends through a WebSocket."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from typing import Any
from uuid import uuid4

from starlette.websockets import WebSocket

from sluicegate._core.errors import InvalidCost, StoreError
from sluicegate._core.policy import Policy
from sluicegate._limiter.async_limiter import AsyncLimiter
from sluicegate.web.answers import TRY_AGAIN_LATER
from sluicegate.web.budget import placed
from sluicegate.web.engine import Engine

# Each set of policies has a limiter of its own: that of a WebSocket must not be a new one for every connection.
_placed_before = lru_cache(maxsize=1024)(placed)


def _placed(policies: tuple[Policy | str, ...], name: str) -> tuple[Policy, ...]:
    try:
        return _placed_before(policies, name)
    except TypeError:  # not hashable, so not policies: it says so
        return placed(policies, name)


class Messages:
    """The messages of a connection, text or bytes, for as long as they are within their limits.

    Args:
        engine: Decides them.
        websocket: The connection, accepted.
        policies: Policies or rate strings.
        key: Who they are counted by; None for this connection alone.
        cost: Units that a message takes, or a function of it that returns them.
        name: The name of the counters.
    """

    def __init__(
        self,
        engine: Engine,
        websocket: WebSocket,
        policies: Sequence[Policy | str],
        key: str | None,
        cost: int | Callable[[Any], int],
        name: str,
    ) -> None:
        self._engine = engine
        self._websocket = websocket
        self._policies = _placed(tuple(policies), name)
        self._key = uuid4().hex if key is None else key
        self._cost = cost

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield each message. Ends when the client has left; or, once it was closed, if a message does not pass."""
        limiter = self._engine.limiters.of(self._policies).limiter
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            given = message.get("text")
            if given is None:
                given = message.get("bytes")
            reason = await self._why_not(limiter, given)
            if reason is not None:
                await self._websocket.close(TRY_AGAIN_LATER, reason)
                return
            yield given

    async def _why_not(self, limiter: AsyncLimiter, given: Any) -> str | None:
        """Return why a message does not pass; None if it does."""
        began_at = time.perf_counter()
        cost = self._cost(given) if callable(self._cost) else self._cost
        if cost == 0 and not isinstance(cost, bool):
            return None
        try:
            decision = await limiter.take(self._key, cost)
        except InvalidCost:
            return "a message that cannot be counted"
        except StoreError:
            return "messages cannot be counted at the moment"
        self._engine.note(decision, began_at)
        if decision:
            return None
        wait = self._engine.refusal(decision, None).headers.get("Retry-After")
        return "too many messages" + (f", retry after {wait} s" if wait else "")
