"""The engine behind every integration: what it was set to, its limiters, and how it refuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Any, get_args

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidCost, InvalidKey, InvalidPolicy, StoreError, short_repr
from sluicegate._limiter.callbacks import is_async
from sluicegate.web import answers
from sluicegate.web.answers import Answer, App, Refusal, Scope
from sluicegate.web.bans import Bans
from sluicegate.web.identity import InvalidIdentity
from sluicegate.web.limiters import FieldSet, Limiters
from sluicegate.web.turns import ClientLeft

logger = logging.getLogger("sluicegate")

OnDenied = Callable[[Any, Refusal], Any]
"""A function of the connection and the refusal that returns a response, or None for the usual one."""

_MOST_LOGGED = 100

_FIELD_SETS: tuple[str, ...] = get_args(FieldSet)


class Engine:
    """What an integration decides with.

    Args:
        limiters: The limiters.
        fields: The sets of response fields to send.
        jitter: The most that is added to Retry-After at random, as a fraction of it, 0 to 1.
        pages: Whether browsers get a page in place of a problem document.
        on_decision: Called with each decision, and the seconds that it took.

    Attributes:
        waits: Whether there is a limit under which requests wait for their turn.

    Raises:
        InvalidPolicy: An argument is invalid.
    """

    def __init__(
        self,
        limiters: Limiters,
        *,
        fields: tuple[FieldSet, ...] = ("RateLimit",),
        jitter: float = 0.0,
        pages: bool = False,
        on_decision: Callable[[Decision, float], object] | None = None,
    ) -> None:
        if not isinstance(fields, (tuple, list)) or any(each not in _FIELD_SETS for each in fields):
            expected = " and ".join(map(repr, _FIELD_SETS))
            raise InvalidPolicy(f"fields must be a tuple of none, one or both of {expected}, got {short_repr(fields)}")
        if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
            raise InvalidPolicy(f"jitter must be a fraction of the wait, from 0 to 1, got {short_repr(jitter)}")
        if on_decision is not None and (not callable(on_decision) or is_async(on_decision)):
            raise InvalidPolicy(f"on_decision must be a synchronous function, got {short_repr(on_decision)}")
        self.limiters = limiters
        self.fields = tuple(fields)
        self.pages = pages
        self.on_denied: OnDenied | None = None
        self.connection: Callable[[Scope], Any] = lambda scope: scope  # what `on_denied` is given of a request
        self._jitter = jitter
        self._logged: set[str] = set()
        self.on_decision = on_decision
        self._tasks: set[asyncio.Task[None]] = set()
        self.bans = Bans(limiters, self.later)
        self.waits = False

    def refusal(self, decision: Decision, message: str | None, *, is_banned: bool = False) -> Refusal:
        """Return the refusal that a denial comes to. To fail closed is no denial: the request is over no limit."""
        if decision.source == "fallback" and decision.limit and self.limiters.on_outage == "closed":
            return answers.without_decision()
        return answers.over_limit(decision, message, self._jitter, is_banned=is_banned)

    def refusal_of(self, error: Exception) -> Refusal:
        """Return the refusal that an error comes to; raises it if it is no reason to refuse a request."""
        if isinstance(error, (StoreError, ClientLeft)):
            return answers.without_decision()
        if isinstance(error, InvalidIdentity):
            return answers.invalid_key(error.detail, error.status)
        if isinstance(error, InvalidCost):
            self._log_once(f"requests are refused, as their cost is invalid: {error}")
            return answers.invalid_key("The request does not cost a valid number of units.")
        if isinstance(error, InvalidKey):
            self._log_once(f"requests are refused, as their key cannot be counted by: {error}")
            return answers.invalid_key("The request does not say who makes it in a form that can be counted by.")
        raise error

    def _log_once(self, text: str) -> None:
        """Log what is wrong with the app's own keys: once, as clients could fill the log with it."""
        if text not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(text)
            logger.error(text)

    async def answer(self, refusal: Refusal, scope: Scope) -> App:
        """Return what answers a refused request: what the user's function returns, or the usual document."""
        response: Any = None
        if self.on_denied is not None:
            response = self.on_denied(self.connection(scope), refusal)
            if isawaitable(response):
                response = await response
        if response is None:
            response = Answer(refusal, as_page=self.pages and answers.wants_page(scope))
        app: App = response
        return answers.handshake(app, scope) if scope["type"] == "websocket" else app

    def note(self, decision: Decision, began_at: float) -> None:
        """Hand a decision on to the user's function. What it raises is logged."""
        if self.on_decision is not None:
            try:
                self.on_decision(decision, time.perf_counter() - began_at)
            except Exception:
                logger.exception("on_decision raised")

    def later(self, call: Coroutine[Any, Any, None]) -> None:
        """Run something that no answer waits for."""
        task = asyncio.get_running_loop().create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: the limiter's statistics count what could not be given back

    async def finish(self) -> None:
        """Wait for what runs, and close the store if it was made here."""
        loop = asyncio.get_running_loop()
        running: list[Awaitable[None]] = [task for task in self._tasks if task.get_loop() is loop]
        await asyncio.gather(*running, return_exceptions=True)
        await self.limiters.aclose()
