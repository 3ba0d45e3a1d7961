"""The exchange of a request to a FastAPI route: which of the route's limits are resolved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from inspect import isawaitable, signature
from typing import Any, Final, NamedTuple

from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate.web import answers
from sluicegate.web.answers import Refusal, Scope
from sluicegate.web.budget import Asked, Budget
from sluicegate.web.engine import Engine
from sluicegate.web.exchange import ERRORS, Exchange
from sluicegate.web.fastapi.limit import Limit, LookupFailed, text_of
from sluicegate.web.identity import ScopeKey
from sluicegate.web.plans import Suspended

logger = logging.getLogger("sluicegate")


class Part(NamedTuple):
    """A limit at its place."""

    limit: Limit
    budget: Budget


class Step:
    """Limits that are decided together.

    Attributes:
        parts: All of them.
        alone: Those that ask for what the request alone says.
        dependent: The limits of the others, which wait for dependencies.
    """

    __slots__ = ("alone", "dependent", "parts")

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = tuple(parts)
        self.alone = tuple(part for part in self.parts if part.limit.is_alone)
        self.dependent = frozenset(part.limit for part in self.parts if not part.limit.is_alone)


class Steps:
    """The limits of a route, by when they can be decided.

    Attributes:
        first: What the request alone says, and can be given back.
        last: The rest, and what is shared.
        whole: All of them, for a request that was not seen where its route was entered.
        known: Their limits, and those that the route is exempt from.
    """

    __slots__ = ("first", "known", "last", "whole")

    def __init__(self, first: Iterable[Part], last: Iterable[Part], exempt: Iterable[Limit] = ()) -> None:
        self.first, self.last = Step(first), Step(last)
        self.whole = Step([*self.first.parts, *self.last.parts])
        self.known = frozenset([*(part.limit for part in self.whole.parts), *exempt])


NOTHING: Final = Step(())

_NO_OVERRIDES: Final[Mapping[Any, Any]] = {}


NOWHERE: Final = Steps((), ())
"""The limits of a route that was not found."""


class RouteExchange(Exchange):
    """One request to an app of FastAPI's.

    Args:
        engine: Decides it.
        scope: Its ASGI scope, in which it can be found.
        key: Where in the scope.

    Attributes:
        steps: The limits of its route; None until that is known.
        added: The fields that its response has already, where no gate adds them.
    """

    __slots__ = ("_key", "_last", "_names", "_overrides", "_unknown", "_unresolved", "added", "steps")

    def __init__(self, engine: Engine, scope: Scope, key: str) -> None:
        super().__init__(engine, scope)
        self._key = key
        scope[key] = self
        self.steps: Steps | None = None
        self.added: list[tuple[bytes, bytes]] = []
        self._last = NOTHING
        self._unknown: tuple[Limit, ...] = ()
        self._unresolved: AbstractSet[Limit] = NOTHING.dependent
        self._names: dict[Limit, list[str]] | None = None
        self._overrides: Mapping[Any, Any] = _NO_OVERRIDES

    def cover(self, part: Part) -> None:
        """Let the default be decided when the response starts, if no route has seen to it by then."""
        self.pending.append(part)

    async def decide_pending(self) -> Refusal | None:
        """Decide what was asked, and the default if no route has seen to it."""
        covered = [each for each in self.pending if isinstance(each, Part)]
        if covered:
            self.pending = [each for each in self.pending if isinstance(each, Asked)]
            self.pending += self._ask(covered, {})
        return self.refusal if self.refusal is not None else await super().decide_pending()

    def close(self) -> None:
        """Note that the request is over, and leave its scope: a server keeps that until the connection's next one."""
        self.is_over = True
        self.scope.pop(self._key, None)

    async def begin(self, steps: Steps, *, is_entry: bool) -> None:
        """Begin with the limits of the request's route.

        Args:
            steps: The limits.
            is_entry: Whether the route is being entered. If not, its dependencies are being solved: there is one step.
        """
        self.steps = steps
        if steps is not NOWHERE:
            self.pending.clear()  # the default is one of the limits, or the route is exempt from it
        overrides = getattr(self.scope.get("app"), "dependency_overrides", None)
        if overrides:
            self._overrides = await _values(overrides, self.scope)
        last = self._last = steps.last if is_entry else steps.whole
        if last.alone:  # asked now, so that they are decided even if the app answers before any limit is resolved
            self.pending += self._ask(last.alone, {})
        if last.dependent:
            self._unresolved = {limit for limit in last.dependent if not self._is_off(limit)}
        if is_entry:
            await self._decide_first(self._ask(steps.first.parts, {}))

    async def _decide_first(self, first: list[Asked]) -> None:
        if self.refusal is not None:
            await self._charge_all_the_same(first)
            return
        if self._unresolved:
            if first:
                await self.decide(first, is_last=False)
        elif first or self.pending:
            first, self.pending = [*first, *self.pending], []
            await self.decide(first, is_last=True)

    async def resolve(self, limit: Limit, values: Mapping[str, Any]) -> None:
        """Take note of what a limit's dependencies gave, and decide if it was the last one to be resolved."""
        if limit in self._unresolved:
            self._unresolved = self._unresolved - {limit}
            self.pending += self._ask([part for part in self._last.parts if part.limit is limit], values)
        if self.refusal is not None:
            if self.refusal.decision is None:  # not of a plan that is suspended
                await self._charge_all_the_same([])
        elif self.pending and not self._unresolved:
            await self.decide_pending()

    async def _charge_all_the_same(self, asked: list[Asked]) -> None:
        """Decide what could be asked of a request that is refused, as it has no valid key for another limit."""
        asked, self.pending = [*asked, *self.pending], []
        refusal = self.refusal
        if asked:
            await self.decide(asked, is_last=True)
            if self.decision is not None and self.decision.allowed:
                self.refusal = refusal

    async def resolve_unknown(self, part: Part, values: Mapping[str, Any]) -> None:
        """Decide a limit that the table of the app does not have on this route, by itself: nobody gets past it."""
        if part.limit in self._unknown or self._is_off(part.limit):
            return
        self._unknown = (*self._unknown, part.limit)
        self.pending += self._ask((part,), values)
        if self.pending and self.refusal is None:
            await self.decide_pending()

    def policies_of(self, limit: Limit) -> list[str]:
        """Return the names of the policies of a limit that were asked."""
        return [] if self._names is None else self._names.get(limit, [])

    def _note_names(self, limit: Limit, asked: Asked) -> None:
        if self._names is None:
            self._names = {}
        self._names.setdefault(limit, []).extend(str(policy.name) for policy in asked.policies)

    def _ask(self, parts: Iterable[Part], values: Mapping[str, Any]) -> list[Asked]:
        """Return what limits ask. If one of them cannot, the request is refused."""
        asked: list[Asked] = []
        for limit, budget in parts:
            if self._overrides:
                if self._is_off(limit):
                    continue
                values = {**values, **self._overrides}
            try:
                one = limit.ask(budget, self.scope, values)
            except ERRORS as error:
                self.refuse_for(self._engine.refusal_of(error))
                continue
            except LookupFailed as error:
                self._do_without(error)
                continue
            except Suspended:
                self.suspend(budget.name)
                continue
            if one is not None:
                asked.append(one)
                if limit.terms.reserves:
                    self._note_names(limit, one)
        return asked

    def _do_without(self, error: LookupFailed) -> None:
        """Let ``on_outage`` decide what a limit comes to that could not be looked up."""
        on_outage = self._engine.limiters.on_outage
        if on_outage == "raise":
            raise error
        logger.warning("a limit could not be looked up, so on_outage=%r decides: %s", on_outage, error, exc_info=error)
        if on_outage != "open":
            self.refuse_for(answers.without_decision())

    def _is_off(self, limit: Limit) -> bool:
        """Return whether a test has overridden the limit itself."""
        return limit in self._overrides or (limit is limit.owner.default and limit.owner in self._overrides)


async def _values(overrides: Mapping[Any, Any], scope: Scope) -> Mapping[Any, Any]:
    """Return what a test has overridden: keys of the request alone with their values, and everything else as it is."""
    return {each: await _value(each, function, scope) for each, function in overrides.items()}


async def _value(overridden: Any, function: Any, scope: Scope) -> Any:
    if not isinstance(overridden, ScopeKey):
        return function
    if signature(function).parameters:
        raise InvalidPolicy(
            f"an override of {short_repr(overridden)} must be a function without parameters, got {short_repr(function)}"
        )
    value = function()
    return text_of(await value if isawaitable(value) else value, scope)
