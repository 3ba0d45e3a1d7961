"""The table of an app: every route, with the limits that are in force on it, and their names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from sluicegate._core.errors import InvalidPolicy
from sluicegate._core.policy import Policy
from sluicegate.web.answers import Receive, Scope, Send
from sluicegate.web.budget import Budget, fitted, placed
from sluicegate.web.fastapi.limit import Limit, unwrapped
from sluicegate.web.fastapi.places import Place, Site, around, identity_of, path_of, routers, sites
from sluicegate.web.fastapi.route_exchange import NOWHERE, Part, Steps
from sluicegate.web.fastapi.usable import Usable
from sluicegate.web.words import key_in_words, policy_in_words

if TYPE_CHECKING:
    from sluicegate.web.fastapi.rate_limits import RateLimits

logger = logging.getLogger("sluicegate")

DEFAULT = "default"
"""The name of the default on the whole app."""

_APP = Place("app", "")


@dataclass(frozen=True, slots=True)
class LimitInForce:
    """One limit on one route.

    Attributes:
        name: What its policies are called in response fields, or begin with.
        policies: The policies; empty if a function gives them for each request.
        per: What it counts by, in words.
        at: Where it was put, such as ``app``, ``router /v1`` or ``GET /items/{id}``.
        function: The name of the function that gives the policies; None if none does.
    """

    name: str
    policies: tuple[Policy, ...]
    per: str
    at: str
    function: str | None = None

    @property
    def rates(self) -> tuple[str, ...]:
        """What each policy allows, in words, such as ``100 in any minute``."""
        return tuple(policy_in_words(policy) for policy in self.policies)


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """One route of an app.

    Attributes:
        path: Its template, with all prefixes.
        methods: Its methods; ``WS`` for a WebSocket, ``MOUNT`` for an app that is mounted.
        limits: What is in force on it.
        is_exempt: Whether it was freed from what it would inherit.
        is_documentation: Whether it is one that FastAPI made: the OpenAPI document, or a page that shows it.
    """

    path: str
    methods: tuple[str, ...]
    limits: tuple[LimitInForce, ...]
    is_exempt: bool
    is_documentation: bool = False

    @property
    def lacks_limit(self) -> bool:
        """Whether nothing limits it, and it is not exempt: what ``strict=True`` refuses."""
        return not (self.limits or self.is_exempt or self.is_documentation)


class Table:
    """The limits of an app, found once.

    Args:
        owner: The limits to look for.
        app: The app.

    Raises:
        InvalidPolicy: Two limits have one name, or one is of another `RateLimits`.
    """

    def __init__(self, owner: RateLimits, app: Any) -> None:
        self._owner = owner
        self._app = app
        if owner.Middleware in around(app):
            owner.has_middleware = True  # an app makes its middleware when it starts, and may not have started yet
        self._sites = list(sites(app))
        self._budgets: dict[tuple[Limit, Place], Budget] = {}
        found = [(site, list(self._limits(site))) for site in self._sites]
        self._name([pair for _, pairs in found for pair in pairs])
        self._steps: dict[tuple[int, str], Steps] = {}
        self._parts: list[tuple[Site, list[tuple[Part, Place]]]] = []
        for site, pairs in found:
            parts = [(Part(limit, self._budgets[limit, place]), place) for limit, place in pairs]
            exempt = [limit for call, _ in site.found if (limit := _limit_of(call)) is not None]
            self._parts.append((site, parts))
            self._steps[id(site.identity), site.mounted_at] = _steps([part for part, _ in parts], exempt)
        self._by_route = {name: steps for (name, _), steps in self._steps.items()}
        self._routers = list(routers(app))
        self._sizes = [len(router.routes) for router in self._routers]
        self._hooked: list[Any] = []
        self._left_out: list[tuple[Any, list[Any]]] = []

    @property
    def app(self) -> Any:
        """The app."""
        return self._app

    def is_of(self, app: Any) -> bool:
        """Return whether this is the table of an app, or of one that it is mounted in."""
        return any(router is app.router for router in self._routers)

    def is_stale(self) -> bool:
        """Return whether the app has more routes by now than when they were found."""
        return [len(router.routes) for router in self._routers] != self._sizes

    def steps_of(self, scope: Scope) -> Steps:
        """Return the limits of the route that a request was matched to; nothing for a route that was not found."""
        route, mounted_at = identity_of(scope)
        # A path of a mount with parameters is not its template: then the route itself has to do.
        known = self._steps.get((id(route), mounted_at)) or self._by_route.get(id(route))
        return NOWHERE if known is None else known

    def only_steps(self, route: Any) -> Steps | None:
        """Return the limits of a route that serves in one place alone; else None."""
        own = [self._steps[id(site.identity), site.mounted_at] for site in self._sites if site.route is route]
        return own[0] if len(own) == 1 else None

    def part_of(self, scope: Scope, limit: Limit) -> Part:
        """Return a limit that was not found on the route of a request, with a budget for that route alone."""
        place = Place("route", path_of(scope), (scope.get("method", "WS"),))
        known = self._budgets.get((limit, place))
        if known is None:
            known = self._budgets[limit, place] = budget_of(limit, self._free_name(_name_at(limit, place)))
        return Part(limit, known)

    def _free_name(self, wanted: str) -> str:
        taken = {budget.name for budget in self._budgets.values()}
        names = (wanted if number == 1 else f"{wanted}-{number}" for number in count(1))
        return next(name for name in map(fitted, names) if name not in taken)

    def hook(self) -> None:
        """Put the first steps in front of the routes."""
        for site in self._sites:
            steps = self._steps[id(site.identity), site.mounted_at]
            if (steps.whole.parts or (self._covers and site.kind != "mount")) and site.route not in self._hooked:
                _hook(site.route, self, self._owner, is_mount=site.kind == "mount")
                self._hooked.append(site.route)

    def leave_out(self) -> None:
        """Let FastAPI solve no limit that the first step decides. A request that is past that step would be free."""
        for site in self._sites:
            if site.dependant is not None:
                self._left_out.append((site.dependant, site.leave_out(self._is_decided_at_entry)))

    def unhook(self) -> None:
        """Serve the routes as before."""
        for route in self._hooked:
            vars(route).pop("handle", None)
        self._hooked.clear()
        for dependant, dependencies in self._left_out:
            dependant.dependencies = dependencies
        self._left_out.clear()

    def _is_decided_at_entry(self, call: Any) -> bool:
        """Return whether a dependency is a limit that has been decided where the route was entered."""
        limit = _limit_of(call)
        return limit is not None and limit.owner is self._owner and limit.is_alone and not limit.terms.reserves

    @property
    def _covers(self) -> bool:
        return self._owner.has_middleware

    def budgets(self) -> list[Budget]:
        """Return the budgets of all limits, in the order of the app's routes."""
        return list(dict.fromkeys(part.budget for _, parts in self._parts for part, _ in parts))

    def rows(self) -> list[RouteLimits]:
        """Return the routes, in the app's order."""
        return [
            RouteLimits(
                site.place.path,
                site.place.methods,
                tuple(_in_force(part, place) for part, place in parts),
                self._is_exempt(site),
                site.is_documentation,
            )
            for site, parts in self._parts
        ]

    def check(self) -> None:
        """Raise `InvalidPolicy` for a limit that stands where it cannot work, and if ``strict`` for routes without."""
        endpoints = [each for site in self._sites for each in unwrapped(site.endpoint) if site.endpoint is not None]
        for limit in self._owner.limits:
            for inner, wrapper in limit.decorated():
                if not any(each is wrapper for each in endpoints):
                    self._check_is_nowhere(inner, wrapper)
        for site in self._sites:
            self._check_site(site)
        if self._owner.strict:
            without = [str(row_place(row)) for row in self.rows() if row.lacks_limit]
            if without:
                raise InvalidPolicy(
                    f"strict=True, and no limit is in force on {', '.join(without)}: give each one, or put "
                    f"@limits.exempt below its line"
                )

    def _check_site(self, site: Site) -> None:
        """Raise `InvalidPolicy` for a limit that stands on an endpoint, and that nothing would call."""
        if isinstance(site.endpoint, Limit):
            raise InvalidPolicy(
                f"the endpoint of {site.place} is a limit: write it with its policies, @limits.limit('10/minute')"
            )
        found = [_limit_of(call) for call, _ in site.found]
        chain = unwrapped(site.endpoint) if site.endpoint is not None else []
        for limit in self._owner.limits:
            on_it = any(wrapper is each for _, wrapper in limit.decorated() for each in chain if wrapper is not None)
            if on_it and limit not in found:
                raise InvalidPolicy(
                    f"the limit on {site.place} has no effect there, as it is no route of FastAPI's: add it with "
                    f"app.get(...) or the like, or use limits.Middleware"
                )

    def _check_is_nowhere(self, inner: Any, wrapper: Any) -> None:
        """Raise `InvalidPolicy` for a function with a limit that no route of this app serves."""
        name = getattr(inner, "__qualname__", repr(inner))
        chain = unwrapped(inner)
        for site in self._sites:
            if any(site.endpoint is each for each in chain):
                raise InvalidPolicy(
                    f"the limit of {name} stands above the line of its route, {site.place}, where FastAPI cannot see "
                    f"it: put it below"
                )
        # A function that was made in another one may serve another app, made by the same factory.
        if wrapper is not None and "<locals>" not in name:
            raise InvalidPolicy(
                f"{name} has a limit, and is the endpoint of no route of this app: put the limit below a route's line"
            )

    def log(self) -> None:
        """Log the table, for those who debug."""
        if logger.isEnabledFor(logging.DEBUG):
            for row in self.rows():
                limits = ", ".join(each.name for each in row.limits) or ("exempt" if row.is_exempt else "no limit")
                logger.debug("%s: %s", row_place(row), limits)

    def _limits(self, site: Site) -> Iterator[tuple[Limit, Place]]:
        """Yield the limits of a route, each once for each place."""
        seen: set[tuple[Limit, Place]] = set()
        is_exempt = self._is_exempt(site)
        covered = [(self._owner.default, _APP)] if self._covers else []
        for call, at in (*covered, *site.found):
            limit = _limit_of(call)
            if limit is None:
                continue
            if limit.owner is not self._owner:
                raise InvalidPolicy(
                    f"a limit on {site.place} was made by another RateLimits: an app has one; make its limits all with "
                    f"that one"
                )
            place = _place(limit, at, site, self._owner)
            if (is_exempt and at.kind != "route") or (limit, place) in seen:
                continue
            seen.add((limit, place))
            yield limit, place

    def _is_exempt(self, site: Site) -> bool:
        exempt = self._owner.exempt
        return any(call is exempt for call, _ in site.found) or exempt.covers(site.endpoint)

    def _name(self, pairs: list[tuple[Limit, Place]]) -> None:
        """Give each limit at each place its name."""
        taken: dict[str, tuple[Limit, Place]] = {}
        default = (self._owner.default, _APP)
        # The default first: its name is the same in every app.
        for pair in sorted(dict.fromkeys(pairs), key=lambda pair: pair != default):
            limit, place = pair
            if pair == default and self._owner.default_budget is not None:
                budget, name = self._owner.default_budget, DEFAULT
            else:
                name = fitted(_name_at(limit, place))
                if name in taken:
                    name = self._other_name(name, pair, taken)
                budget = budget_of(limit, name)
            taken[name] = pair
            self._budgets[pair] = budget
        self._check_policies()

    def _check_policies(self) -> None:
        """Raise `InvalidPolicy` if policies of two places have one name: ``a`` with ``b.c``, and ``a.b`` with ``c``."""
        owners: dict[str, Place] = {}
        for (_, place), budget in self._budgets.items():
            for policy in budget.policies:
                if policy.name in owners:
                    raise InvalidPolicy(
                        f"two policies are named {policy.name}, on {owners[policy.name]} and on {place}: give one of "
                        f"their limits a name="
                    )
                owners[policy.name] = place

    def _other_name(self, name: str, pair: tuple[Limit, Place], taken: dict[str, tuple[Limit, Place]]) -> str:
        limit, place = pair
        if limit.name is not None:
            raise InvalidPolicy(
                f"two limits are named {name}, on {taken[name][1]} and on {place}: give each a name of its own, or "
                f"make one with limits.shared(...) and put it on both"
            )
        number = 2
        while fitted(f"{name}-{number}") in taken:
            number += 1
        return fitted(f"{name}-{number}")


def row_place(row: RouteLimits) -> Place:
    """Return a row's route as a place."""
    return Place("route", row.path, row.methods)


def _place(limit: Limit, at: Place, site: Site, owner: RateLimits) -> Place:
    if limit.is_shared:
        return _APP
    # What the middleware counts on the whole app is not counted again, wherever the default is put.
    if limit is owner.default and (at.kind == "app" or owner.has_middleware):
        return _APP
    return site.place if limit.each else at


def _name_at(limit: Limit, place: Place) -> str:
    """Return the name of a limit at a place: its own; with that of the place, if it counts for each by itself."""
    if limit.name is None:
        return place.slug
    return f"{limit.name}.{place.slug}" if limit.each else limit.name


def budget_of(limit: Limit, name: str) -> Budget:
    """Return the budget of a limit under the name of a place."""
    policies = placed(limit.given, name, shared=limit.is_shared and limit.per is None) if limit.given else ()
    return Budget(name, policies, limit.is_shared, limit.terms)


def _limit_of(call: Any) -> Limit | None:
    """Return the limit that a dependency is, be it the default; None for any other dependency."""
    limit = getattr(call, "default", None) if isinstance(call, Usable) and not isinstance(call, Limit) else call
    return limit if isinstance(limit, Limit) else None


def _steps(parts: list[Part], exempt: list[Limit]) -> Steps:
    """Divide the limits of a route by when they are decided."""
    first = tuple(part for part in parts if part.limit.is_alone and not part.budget.is_shared)
    return Steps(first, tuple(part for part in parts if part not in first), exempt)


def _in_force(part: Part, place: Place) -> LimitInForce:
    limit, budget = part
    at = "everywhere" if limit.is_shared else str(place)
    function = None if limit.function is None else limit.function.name
    return LimitInForce(budget.name, budget.policies, _counted_by(limit), at, function)


def _counted_by(limit: Limit) -> str:
    if limit.given and all(isinstance(policy, Policy) and policy.shared for policy in limit.given):
        return key_in_words(None)
    return key_in_words(limit.per)


def _hook(route: Any, table: Table, owner: RateLimits, *, is_mount: bool) -> None:
    """Let a route decide the first step of its requests before it handles them: no body is read by then."""
    handle = route.handle
    only = table.only_steps(route)
    methods = None if is_mount else getattr(route, "methods", None)  # it answers others with a 405

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        steps = only or table.steps_of({**scope, "route": route} if is_mount else scope)
        is_for_it = steps is not NOWHERE and (not methods or scope.get("method") in methods)
        if is_for_it and await owner.serving.enter(scope, steps, receive, send):
            return
        await handle(scope, receive, send)

    route.handle = owner.serving.guarded(enter)
