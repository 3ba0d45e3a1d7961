"""Serving: an app with its limits, from its start to its stop, and the way of each request through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Response
from starlette.requests import HTTPConnection

from sluicegate._core.codes import warn
from sluicegate._core.errors import InvalidPolicy
from sluicegate.web.answers import App, Receive, Refusal, Scope, Send
from sluicegate.web.engine import Engine
from sluicegate.web.fastapi.denied import Denied
from sluicegate.web.fastapi.limit import Limit
from sluicegate.web.fastapi.reservation import Reservation
from sluicegate.web.fastapi.route_exchange import Part, RouteExchange, Steps
from sluicegate.web.fastapi.table import Table
from sluicegate.web.gate import Gate, Outlet, is_preflight

if TYPE_CHECKING:
    from sluicegate.web.fastapi.rate_limits import RateLimits


class Serving:
    """The app that limits serve, if it has started, and its requests.

    Args:
        owner: The limits.
        engine: Decides.

    Attributes:
        table: The limits of the app, as they were found; None before its start.
        decision: A dependency that returns the decision on all limits of a request.
    """

    def __init__(self, owner: RateLimits, engine: Engine) -> None:
        self._owner = owner
        self._engine = engine
        self._key = key = f"sluicegate.{id(owner)}"
        self._served: Any = None  # the app whose lifespan runs
        self._is_late = False  # whether requests had come before the limits were found
        self._default: Part | None = None
        if owner.default is not None and owner.default_budget is not None:
            self._default = Part(owner.default, owner.default_budget)
        self.table: Table | None = None

        async def decision(connection: HTTPConnection) -> Any:
            exchange: RouteExchange | None = connection.scope.get(key)
            return None if exchange is None else exchange.decision

        self.decision: Callable[..., Any] = decision

    # An app

    def start(self, app: Any) -> None:
        """Find the limits of an app, and put them in front of its routes. Raises `InvalidPolicy`, see `lifespan`."""
        if self._served is not None:
            raise InvalidPolicy(
                "these limits serve an app already, which has not stopped: make a RateLimits for each app, and start "
                "an app once at a time"
            )
        self._uninstall(app)
        self._is_late = False
        table = Table(self._owner, app)
        table.check()
        self._install(app, table)
        self._served = app

    def stop(self, app: Any) -> None:
        """Serve the app as before it started."""
        self._served = None
        self._uninstall(app)

    def table_of(self, app: Any) -> Table:
        """Return the limits of an app, which need not have started."""
        return self.table if self.table is not None and self.table.app is app else Table(self._owner, app)

    def _install(self, app: Any, table: Table | None) -> Table:
        if self.table is not None:
            self.table.unhook()
        self.table = table = table or Table(self._owner, app)
        table.hook()
        if not self._is_late:
            table.leave_out()
        stack = getattr(app, "middleware_stack", None)
        if stack is None and hasattr(app, "build_middleware_stack"):  # no request has come yet
            stack = app.build_middleware_stack()
        if stack is not None and not (isinstance(stack, Gate) and stack.owner is self):
            app.middleware_stack = Gate(stack, self._open, owner=self)
        table.log()
        return table

    def _install_late(self, app: Any) -> Table:
        """Find the limits of an app that serves requests already. These are past its routes' first steps."""
        self._is_late = True
        return self._install(app, None)

    def _uninstall(self, app: Any) -> None:
        if self.table is not None:
            self.table.unhook()
        self.table = None
        stack = getattr(app, "middleware_stack", None)
        if isinstance(stack, Gate) and stack.owner is self:
            app.middleware_stack = stack.app

    # A request

    def _open(self, scope: Scope) -> RouteExchange | None:
        """Open the exchange of a request. Returns None if there is one: this gate stands inside of another."""
        opened: RouteExchange | None = scope.get(self._key)
        # One that has been to a route already is that of a request whose app calls itself, for the parts of a batch.
        if opened is not None and opened.steps is None:
            return None
        if self.table is not None and self.table.is_stale():
            self._install(self.table.app, None)
        exchange = RouteExchange(self._engine, scope, self._key)
        if self._owner.has_middleware and self._default is not None and not is_preflight(scope):
            exchange.cover(self._default)
        return exchange

    def open_first(self, scope: Scope) -> RouteExchange | None:
        """Open the exchange of a request that comes to the middleware, where there may have been no start."""
        if self.table is None:
            self.install_if_first(scope)
        return self._open(scope)

    def install_if_first(self, scope: Scope) -> None:
        """Find the limits of the app when it starts; or with its first request, where no lifespan is run."""
        if self.table is None and "app" in scope:
            self._install(scope["app"], None)

    def guarded(self, app: App) -> App:
        """Return an app that has a gate of its own for a request that has come around the gate of the whole app."""
        gate = Gate(app, self._open)

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await (app if self._key in scope else gate)(scope, receive, send)

        return guarded

    async def enter(self, scope: Scope, steps: Steps, receive: Receive, send: Send) -> bool:
        """Decide the first step, where a route is entered. Returns whether the request was refused, and answered."""
        exchange: RouteExchange | None = scope.get(self._key)
        if exchange is None or exchange.steps is not None:
            return False
        await exchange.begin(steps, is_entry=True)
        if exchange.refusal is None:
            return False
        if "starlette.exception_handlers" in scope:
            raise self._denied(scope, exchange.refusal)
        await exchange.refuse(receive, send)
        return True

    async def resolve(
        self, limit: Limit, connection: HTTPConnection, response: Response, values: Mapping[str, Any]
    ) -> Any:
        """Take note of what the dependencies of a limit gave, and decide once all limits of the route are resolved."""
        scope: Scope = connection.scope
        exchange: RouteExchange | None = scope.get(self._key)
        if exchange is None:
            exchange = self._open_unguarded(scope)
        table = self.table or self._install_late(scope["app"])
        if exchange.steps is None:
            await exchange.begin(table.steps_of(scope), is_entry=False)
        assert exchange.steps is not None  # noqa: S101 - it has begun
        if limit in exchange.steps.known:
            await exchange.resolve(limit, values)
        else:
            await exchange.resolve_unknown(table.part_of(scope, limit), values)
        if exchange.refusal is not None:
            raise self._denied(scope, exchange.refusal)
        if not exchange.is_guarded:
            _set_fields(response, exchange)
        return Reservation(exchange, limit) if limit.terms.reserves else exchange.decision

    def _open_unguarded(self, scope: Scope) -> RouteExchange:
        """Open an exchange in the middle of a request: neither `lifespan` nor `Middleware` is in force yet."""
        if self.table is None or not self.table.is_of(scope["app"]):
            warn(
                "limits-without-lifespan",
                "without a lifespan, the first request is limited only once FastAPI solves the limit: its body is read "
                "by then, and only 200 and 429 have fields; write FastAPI(lifespan=limits.lifespan)",
            )
            self._install_late(scope["app"])
        exchange = RouteExchange(self._engine, scope, self._key)
        stack = scope.get("fastapi_inner_astack")
        if stack is not None:
            stack.push_async_callback(exchange.end)
        return exchange

    def _denied(self, scope: Scope, refusal: Refusal) -> Denied:
        """Return the exception that ends a request, once the app knows how to answer it."""
        handlers, _ = scope.get("starlette.exception_handlers", ({}, {}))
        handlers.setdefault(Denied, self._handle)
        return Denied(refusal, self._owner)

    async def _handle(self, connection: HTTPConnection, error: Denied) -> App:
        return await error.owner.serving.answer(error.refusal, connection.scope)

    async def answer(self, refusal: Refusal, scope: Scope) -> App:
        """Return what answers a refused request."""
        app = await self._engine.answer(refusal, scope)
        exchange: RouteExchange = scope[self._key]
        return app if exchange.is_guarded else _with_fields_of(exchange, app)


def _set_fields(response: Response, exchange: RouteExchange) -> None:
    """Set the fields of the response that FastAPI will make, as no gate adds them. Each limit of a route does so."""
    before, exchange.added = exchange.added, exchange.fields()
    kept = [each for each in response.headers.raw if each not in before]
    response.headers.raw[:] = [*kept, *exchange.added]


def _with_fields_of(exchange: RouteExchange, app: App) -> App:
    """Return an app whose response has the fields, as no gate will add them."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, Outlet(exchange, receive, send).send)

    return answer
