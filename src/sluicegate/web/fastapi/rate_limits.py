"""`RateLimits`: the store, the default and everything that hangs on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from starlette.requests import Request
from starlette.websockets import WebSocket

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidKey, InvalidPolicy, short_repr
from sluicegate._core.event import StoreEvent
from sluicegate._core.keys import Key
from sluicegate._core.policies import Policies
from sluicegate._core.policy import Policy, checked_cost
from sluicegate._limiter.outages import DEADLINE, OnOutage
from sluicegate._stores.base import AsyncStore
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate.web.answers import App, Refusal, Scope
from sluicegate.web.ban import Ban, ban_of, check_can_ban
from sluicegate.web.banned import Banned, Records
from sluicegate.web.budget import MOST_WAITING, Budget, Outcome, Terms, checked_function
from sluicegate.web.engine import Engine
from sluicegate.web.fastapi import openapi
from sluicegate.web.fastapi.limit import (
    Dependency,
    Exempt,
    Failed,
    Limit,
    LookupFailed,
    Per,
    check_key,
    check_lends,
    check_settles,
    text_of,
)
from sluicegate.web.fastapi.messages import Messages
from sluicegate.web.fastapi.places import Place, path_of
from sluicegate.web.fastapi.serving import Serving
from sluicegate.web.fastapi.table import DEFAULT, RouteLimits, budget_of
from sluicegate.web.fastapi.usable import Usable
from sluicegate.web.gate import Gate
from sluicegate.web.identity import ClientAddress, client_address
from sluicegate.web.limiters import FieldSet, Limiters
from sluicegate.web.plans import Plans
from sluicegate.web.turns import checked_wait, checked_waiting

LOOKUP_TIMEOUT = 1.0
"""Seconds that a function may take to return the policies of a request, by default."""


class RateLimits(Usable):
    """The rate limits of a FastAPI app: the store, the default, and what makes every other limit.

    ``Depends(limits)`` puts the default where it stands: on the app, a router or a route. `limit` makes others.

    Args:
        default: Policies, or rate strings such as ``"100/minute"``, for ``Depends(limits)`` and `Middleware`.
        per: Who the default counts by, and every limit that does not say: a dependency of your own that returns text
            (a whole number or a UUID works, too; None counts by `address`), or one of `client_address`,
            `header`, `cookie` and `user`. The client's address by default.
        store: As for `AsyncLimiter`: nothing counts in the memory of this process, a URL in a store for the fleet. It
            is connected to at the first request.
        on_outage: What to do while the store is down: ``"local"``, ``"open"``, ``"closed"`` or ``"raise"``; see
            `AsyncLimiter`. Where there is no decision the answer is a 503.
        deadline: Seconds within which every step is decided.
        share: As for `AsyncLimiter`.
        strict: Whether the app must not start when a route has no limit and is not exempt.
        plans: Policies or rate strings by the name of a plan, for functions that return such a name. None for a plan
            without a limit, 0 for one that is suspended: its requests are denied, and nothing is counted.
        ban: When the default bans a key; see `limit`.
        lookup_timeout: Seconds that a function may take to return the policies of a request.
        fields: The response fields to send: ``"RateLimit"`` (with RateLimit-Policy) and ``"X-RateLimit"``.
        jitter: The most that is added to Retry-After at random, as a fraction of it, so that clients do not all come
            back at once; 0 to 1.
        pages: Whether a browser gets a page in place of a problem document.
        enabled: False limits nothing, for tests. It can be set later, too.
        on_decision: Called with each `Decision`, and the seconds that it took; for metrics. It must be quick.
        on_event: As for `AsyncLimiter`.

    Attributes:
        address: What a request is counted by if a dependency gives None: ``per`` if that is a `ClientAddress`, else
            `client_address`.
        decision: A dependency: the `Decision` on all limits of the request; of the last step, if there were two.

    Raises:
        InvalidPolicy: An argument is invalid.
        InvalidRate: A rate string does not parse.
        InvalidStore: ``store`` is neither a store nor the URL of one.
    """

    def __init__(
        self,
        *default: Policy | str,
        per: Per | None = None,
        store: AsyncStore | MemoryStore | str | None = None,
        on_outage: OnOutage = "local",
        deadline: float = DEADLINE,
        share: float | None = None,
        strict: bool = False,
        plans: Mapping[str, Policy | str | Sequence[Policy | str] | Literal[0] | None] | None = None,
        ban: Ban | tuple[Policy | str, float] | None = None,
        lookup_timeout: float = LOOKUP_TIMEOUT,
        fields: tuple[FieldSet, ...] = ("RateLimit",),
        jitter: float = 0.0,
        pages: bool = False,
        enabled: bool = True,
        on_decision: Callable[[Decision, float], object] | None = None,
        on_event: Callable[[StoreEvent], object] | None = None,
    ) -> None:
        limiters = Limiters(
            store, on_outage=on_outage, deadline=deadline, share=share, enabled=enabled, on_event=on_event
        )
        self._engine = Engine(limiters, fields=fields, jitter=jitter, pages=pages, on_decision=on_decision)
        self._engine.connection = _connection
        self._per: Per = client_address if per is None else per
        # Behind a proxy, the peer of all who have not logged in is the proxy.
        self.address = per if isinstance(per, ClientAddress) else client_address
        self.strict = strict
        self.lookup_timeout = _checked_timeout(lookup_timeout)
        self._plans = Plans(plans or {})
        self._shared = 0
        self.limits: list[Limit] = []
        self.exempt = Exempt()
        self.default = self._limit(default, name=None, terms=Terms(ban=ban_of(ban))) if default else None
        self.default_budget: Budget | None = None
        if self.default is not None:
            self.default_budget = budget_of(self.default, DEFAULT)
        super().__init__(self.default.__signature__.parameters.values() if self.default is not None else ())
        self.has_middleware = False
        self.serving = Serving(self, self._engine)
        self.decision = self.serving.decision

    # What makes limits

    def limit(
        self,
        *policies: Policy | str | Dependency,
        per: Per | None = None,
        cost: int | Dependency = 1,
        charge_when: Callable[[Outcome], bool] | None = None,
        actual: Callable[[Outcome], int] | None = None,
        name: str | None = None,
        message: str | None = None,
        each: bool = False,
        ban: Ban | tuple[Policy | str, float] | None = None,
        wait: float = 0.0,
        waiting: int = MOST_WAITING,
    ) -> Limit:
        """Make a limit: a dependency, ``Depends(limits.limit("10/minute"))``, and a decorator below the route's line.

        It counts for the place where it is put: on a route that route, on a router or the app all its routes together.

        Args:
            policies: Policies or rate strings; or one function, a dependency, that returns one or several of these, the
                name of a plan, None for no limit, or 0 to deny.
            per: Who it counts by; see `RateLimits`, whose own it is by default.
            cost: Units that a request takes; or a dependency that returns them, 0 for none.
            charge_when: A function of the response (its ``status_code`` and ``headers``) that tells whether the charge
                stands. It is charged first, so that parallel requests cannot slip through, and given back after.
            actual: A function of the response that returns the units which it took, in place of ``cost``.
            name: The name in response fields and of the counters. By default it is made from the place. With ``each``
                the name of the route follows, as in ``by-default.get-search``.
            message: The ``detail`` of its denials.
            each: On a router or the app, count for each route by itself.
            ban: Shut a key out that was denied too often: ``("20/hour", 3600)`` for an hour after 20 denials within
                one; or a `Ban`, for one that grows. Its policies must count by one key, and none may be shared.
            wait: Seconds, up to 60, for which a request over the limit waits for its turn before it is refused. Those
                that wait are served in order, and one whose client has gone waits no longer. If several limits are
                decided together, the shortest of their waits is that of all.
            waiting: How many requests may wait at once in this process; others are refused.

        Raises:
            InvalidPolicy: An argument is invalid, or the charge could not be settled.
            InvalidCost: ``cost`` is neither a dependency nor a whole number from 1 to 10^11.
            InvalidRate: A rate string does not parse.
        """
        terms = Terms(
            checked_function(charge_when, "charge_when"),
            checked_function(actual, "actual"),
            message,
            ban=ban_of(ban),
            wait=checked_wait(wait),
            waiting=checked_waiting(waiting),
        )
        return self._limit(policies, per=per, cost=cost, name=name, each=each, terms=terms)

    def shared(
        self,
        *policies: Policy | str,
        per: Per | None = None,
        cost: int | Dependency = 1,
        name: str | None = None,
        message: str | None = None,
    ) -> Limit:
        """Make a budget that is one wherever it is put: for several routes, say, that use the same thing.

        Args:
            policies: Policies or rate strings.
            per: Who it counts by; by default all clients together.
            cost: As for `limit`.
            name: The name; by default ``shared``, ``shared-2`` and so on in the order of their making.
            message: As for `limit`.

        Raises:
            InvalidPolicy: An argument is invalid.
            InvalidCost: As for `limit`.
            InvalidRate: A rate string does not parse.
        """
        if any(map(_is_function, policies)):
            raise InvalidPolicy("shared must be given policies or rate strings; a function is for limits.limit(...)")
        self._shared += 1
        own = name or ("shared" if self._shared == 1 else f"shared-{self._shared}")
        return self._limit(policies, per=per, cost=cost, name=own, is_shared=True, terms=Terms(message=message))

    def reserve(
        self,
        *policies: Policy | str | Dependency,
        per: Per | None = None,
        cost: int | Dependency = 1,
        name: str | None = None,
        message: str | None = None,
    ) -> Limit:
        """Make a limit whose cost is an estimate: the endpoint settles what was used.

        As in ``r: Annotated[Reservation, Depends(limits.reserve("90000/minute", cost=1200))]`` and ``r.settle(used)``,
        at any time before the last byte of the response. Without that the estimate stands.

        Args:
            policies: As for `limit`.
            per: As for `limit`.
            cost: The estimate, or a dependency that returns it.
            name: As for `limit`.
            message: As for `limit`.

        Raises:
            InvalidPolicy: An argument is invalid, or the charge could not be settled.
            InvalidCost: ``cost`` is neither a dependency nor a whole number from 1 to 10^11.
            InvalidRate: A rate string does not parse.
        """
        return self._limit(policies, per=per, cost=cost, name=name, terms=Terms(message=message, reserves=True))

    def _limit(
        self,
        given: Sequence[Any],
        *,
        per: Per | None = None,
        cost: int | Dependency = 1,
        name: str | None,
        each: bool = False,
        is_shared: bool = False,
        terms: Terms | None = None,
    ) -> Limit:
        function = given[0] if len(given) == 1 and _is_function(given[0]) else None
        policies = () if function is not None else Policies(given).all  # checked here, at the user's own line
        terms = terms or Terms()
        if terms.settles:
            check_settles(policies, "what is settled")
        if terms.ban is not None:
            check_can_ban(policies)
        if terms.wait:
            check_settles(policies, "a wait")
            self._engine.waits = True
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidPolicy(f"name must be text, got {short_repr(name)}")
        if not callable(cost):
            checked_cost(cost)
        check_lends(policies)
        is_everyone = is_shared and per is None
        counted_by = None if is_everyone else self._per if per is None else per
        check_key(policies, counted_by)
        limit = Limit(
            self,
            policies,
            function=function,
            per=counted_by,
            cost=cost,
            name=name,
            each=each,
            is_shared=is_shared,
            terms=terms,
        )
        self.limits.append(limit)
        return limit

    # The default, as a dependency and as a decorator

    async def _solve(self, **values: Any) -> Any:
        return await self._checked_default()(**values)

    def _put_on(self, function: Any) -> Any:
        return self._checked_default()(function)

    def _checked_default(self) -> Limit:
        if self.default is None:
            raise InvalidPolicy('these limits have no default: write RateLimits("100/minute"), or limits.limit(...)')
        return self.default

    @property
    def enabled(self) -> bool:
        """Whether requests are limited. While False all are allowed, and nothing is counted."""
        return self._engine.limiters.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._engine.limiters.enabled = enabled

    # Answers

    def on_denied(self, function: Callable[[Any, Refusal], Any]) -> Callable[[Any, Refusal], Any]:
        """Let a function answer requests that are refused; usable as a decorator.

        Args:
            function: Called with the ``Request`` (or ``WebSocket``) and the `Refusal`; returns a response, or None for
                the usual one. It may be async.
        """
        if not callable(function):
            raise InvalidPolicy(f"on_denied must be given a function, got {short_repr(function)}")
        self._engine.on_denied = function
        return function

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """What limited routes answer, for OpenAPI: ``FastAPI(responses=limits.responses)``."""
        return openapi.responses()

    def messages(
        self,
        websocket: WebSocket,
        *policies: Policy | str,
        key: str | None = None,
        cost: int | Callable[[Any], int] = 1,
        name: str | None = None,
    ) -> Messages:
        """Iterate over the messages of a WebSocket; once they are over a limit, it is closed with code 1013.

        As in ``async for text in limits.messages(websocket, "5/second"):``, after ``websocket.accept()``.

        Args:
            websocket: The connection.
            policies: Policies or rate strings.
            key: Who they are counted by; this connection alone by default.
            cost: Units that a message takes; or a function of the message, text or bytes, that returns them.
            name: The name of the counters; by default it is made from the place, as ``ws-chat.messages``.

        Raises:
            InvalidKey: ``key`` is empty or not text.
            InvalidPolicy: A policy or the name is invalid.
            InvalidRate: A rate string does not parse.
        """
        place = Place("route", path_of(websocket.scope), ("WS",))
        own = f"{place.slug}.messages" if name is None else name
        by = None if key is None else text_of(key, websocket.scope, address=self.address)
        return Messages(self._engine, websocket, policies, by, cost, own)

    # Around the app

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Serve an app: find its limits, put them in front of its routes, and close the store at the end.

        Give it to the app, ``FastAPI(lifespan=limits.lifespan)``; or enter it in a lifespan of your own,
        ``async with limits.lifespan(app): yield``.

        Raises:
            InvalidPolicy: A limit stands where it cannot work, two have one name, or with ``strict`` a route has none.
        """
        self.serving.start(app)
        try:
            yield
        finally:
            self.serving.stop(app)
            await self._engine.finish()

    def Middleware(self, app: App) -> Gate:  # noqa: N802 - it is used like the class of one
        """Apply the default to whatever an app serves: ``app.add_middleware(limits.Middleware)``.

        Mounted apps, static files and paths without a route are limited, too. What it has counted is not counted again
        by ``Depends(limits)``.

        Raises:
            InvalidPolicy: There is no default, or its key needs more than the request.
        """
        if self.default is None or not self.default.is_alone:
            raise InvalidPolicy(
                "the middleware needs a default whose key the request alone gives, such as client_address: "
                'RateLimits("100/minute", per=client_address)'
            )
        self.has_middleware = True
        return Gate(app, self.serving.open_first, start=self.serving.install_if_first, stop=self._engine.finish)

    async def aclose(self) -> None:
        """Close the store, if it was made here, as `lifespan` does at the end. The next request opens it again."""
        await self._engine.finish()

    @property
    def counts_in_memory(self) -> bool:
        """Whether this process counts by itself, in its memory."""
        return isinstance(self._engine.limiters.store, AwaitedMemoryStore)

    def routes(self, app: Any) -> list[RouteLimits]:
        """Return every route of an app, with the limits that are in force on it."""
        return self.serving.table_of(app).rows()

    async def bans(self, app: Any = None) -> list[Banned]:
        """Return the keys that are banned now, limit by limit, those that are banned for longest first.

        For people, and not for each request: it goes through all keys of the store.

        Args:
            app: The app, which need not have started; by default the one that these limits serve.

        Raises:
            InvalidPolicy: The app did not start and was not given.
            InvalidStore: The store cannot say which keys it holds.
            StoreError: It could not be reached, refused, or did not answer in time.
        """
        return [banned for _, records in self._records(app) for banned in await records.banned()]

    async def forget(self, key: Key, *, limit: str | None = None, app: Any = None) -> None:
        """Forget what was counted of a key, and lift its bans and blocks: its limits are free again, on all instances.

        Limits that count by something else are left as they are, and so are those whose policies a function makes anew.
        Other instances allow the key within a second.

        Args:
            key: The key: text; or its attributes, for limits that count by several.
            limit: The name of the limit; by default all of them.
            app: As for `bans`.

        Raises:
            InvalidKey: No limit has that name or counts by such a key.
            InvalidPolicy: The app did not start and was not given.
            StoreError: The store could not be reached, refused, or did not answer in time.
        """
        named = [(name, records) for name, records in self._records(app) if limit in (None, name)]
        refused = InvalidKey(f"no limit is named {short_repr(limit)}" if limit else "there is no limit that has a key")
        is_done = False
        for _, records in named:
            try:
                await records.forget(key)
                is_done = True
            except InvalidKey as error:
                refused = error
        if not is_done:
            raise refused

    def _records(self, app: Any) -> list[tuple[str, Records]]:
        table = self.serving.table if app is None else self.serving.table_of(app)
        if table is None:
            raise InvalidPolicy("the app of these limits has not started: give it, as in limits.bans(app)")
        limiters = self._engine.limiters
        return [
            (each.name, Records(limiters, each, [each.policies] if each.policies else self._plans.every(each)))
            for each in table.budgets()
        ]

    def policies(self, budget: Budget, answer: Any) -> tuple[Policy, ...]:
        """Return the policies that a function's answer comes to at a place. Raises `LookupFailed` or `Suspended`."""
        if isinstance(answer, Failed):
            raise LookupFailed(f"the function of {budget.name} raised {type(answer.error).__name__}") from answer.error
        try:
            return self._plans.policies(budget, answer)
        except InvalidPolicy as error:
            raise LookupFailed(f"the function of {budget.name} returned no limit: {error}") from error

    def __repr__(self) -> str:
        return f"RateLimits({', '.join(map(repr, self.default.given)) if self.default else ''})"


def _is_function(given: object) -> bool:
    return callable(given) and not isinstance(given, (Policy, type))


def _connection(scope: Scope) -> Request | WebSocket:
    return Request(scope) if scope["type"] == "http" else WebSocket(scope, _nothing, _nothing)


async def _nothing(*_: Any) -> Any:
    raise RuntimeError("the connection of a refused request can be looked at, and neither read nor answered")


def _checked_timeout(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600:
        raise InvalidPolicy(f"lookup_timeout must be seconds above 0, at most 3600, got {short_repr(seconds)}")
    return float(seconds)
