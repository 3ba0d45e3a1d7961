"""The exchange of a request to a FastAPI route: which of the route's limits have told what they count by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from inspect import isawaitable, signature
from typing import Any, NamedTuple

from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate.web import answers
from sluicegate.web.answers import Scope
from sluicegate.web.budget import Asked, Budget
from sluicegate.web.engine import Engine
from sluicegate.web.exchange import ERRORS, Exchange
from sluicegate.web.fastapi.limit import Limit, LookupFailed, text_of
from sluicegate.web.identity import ScopeKey

logger = logging.getLogger("sluicegate")


class Part(NamedTuple):
    """A limit at its place."""

    limit: Limit
    budget: Budget


class Steps(NamedTuple):
    """The limits of a route, by when they can be decided.

    Attributes:
        first: What the request alone says, and can be given back.
        last: The rest, and what is shared.
    """

    first: tuple[Part, ...]
    last: tuple[Part, ...]


class RouteExchange(Exchange):
    """One request to an app of FastAPI's.

    Attributes:
        steps: The limits of its route; None until that is known.
    """

    __slots__ = ("_last", "_names", "_overrides", "_waits_for", "steps")

    def __init__(self, engine: Engine, scope: Scope) -> None:
        super().__init__(engine, scope)
        self.steps: Steps | None = None
        self._last: tuple[Part, ...] = ()
        self._waits_for: set[Limit] = set()
        self._names: dict[Limit, list[str]] = {}
        self._overrides: Mapping[Any, Any] = {}

    def cover(self, part: Part) -> None:
        """Ask for the default: it is decided when the response starts, if no route has decided it by then."""
        self.pending += self._ask((part,), {})

    async def begin(self, steps: Steps, *, is_entry: bool) -> None:
        """Begin with the limits of the request's route.

        Args:
            steps: The limits.
            is_entry: Whether the route is being entered. If not, one of its limits tells already: there is one step.
        """
        self.steps = steps
        self.pending.clear()  # the default is one of the limits, or the route is exempt from it
        self._overrides = await _overrides(self.scope)
        self._last = steps.last if is_entry else (*steps.first, *steps.last)
        # Asked now, so that they are decided even if the app answers before any limit tells.
        self.pending += self._ask([part for part in self._last if part.limit.is_alone], {})
        self._waits_for = {part.limit for part in self._last if not (part.limit.is_alone or self._is_off(part.limit))}
        if not is_entry or self.refusal is not None:
            return
        first = self._ask(steps.first, {})
        if self.refusal is not None:
            return
        if self._waits_for:
            if first:
                await self.decide(first, is_last=False)
        elif first or self.pending:
            first, self.pending = [*first, *self.pending], []
            await self.decide(first, is_last=True)

    async def tell(self, limit: Limit, values: Mapping[str, Any]) -> None:
        """Take note of what a limit's dependencies gave, and decide if it was the last one to tell."""
        if limit in self._waits_for:
            self._waits_for.discard(limit)
            self.pending += self._ask([part for part in self._last if part.limit is limit], values)
        if self.pending and not self._waits_for and self.refusal is None:
            await self.decide_pending()

    def policies_of(self, limit: Limit) -> list[str]:
        """Return the names of the policies of a limit that were asked."""
        return self._names.get(limit, [])

    def _ask(self, parts: Iterable[Part], values: Mapping[str, Any]) -> list[Asked]:
        """Return what limits ask. If one of them cannot, the request is refused."""
        asked: list[Asked] = []
        try:
            for limit, budget in parts:
                if self._overrides and self._is_off(limit):
                    continue
                one = self._ask_one(limit, budget, {**values, **self._overrides} if self._overrides else values)
                if one is not None:
                    asked.append(one)
                    if limit.terms.reserves:
                        self._names.setdefault(limit, []).extend(str(policy.name) for policy in one.policies)
        except ERRORS as error:
            self.refuse_for(self._engine.refusal_of(error))
            return []
        return asked

    def _ask_one(self, limit: Limit, budget: Budget, values: Mapping[Any, Any]) -> Asked | None:
        try:
            return limit.ask(budget, self.scope, values)
        except LookupFailed as error:
            on_outage = self._engine.limiters.on_outage
            if on_outage == "raise":
                raise
            logger.warning(
                "a limit could not be looked up, so on_outage=%r decides: %s", on_outage, error, exc_info=True
            )
            if on_outage != "open":
                self.refuse_for(answers.without_decision())
            return None

    def _is_off(self, limit: Limit) -> bool:
        """Return whether a test has overridden the limit itself."""
        return limit in self._overrides or (limit is limit.owner.default and limit.owner in self._overrides)


async def _overrides(scope: Scope) -> Mapping[Any, Any]:
    """Return what a test has overridden: keys of the request alone with their values, and everything else as it is."""
    given = getattr(scope.get("app"), "dependency_overrides", None)
    if not given:
        return {}
    return {each: await _value(each, function, scope) for each, function in given.items()}


async def _value(overridden: Any, function: Any, scope: Scope) -> Any:
    if not isinstance(overridden, ScopeKey):
        return function
    if signature(function).parameters:
        raise InvalidPolicy(
            f"an override of {short_repr(overridden)} must be a function without parameters, got {short_repr(function)}"
        )
    value = function()
    return text_of(await value if isawaitable(value) else value, scope)
