"""Plans: from what a function returns for a request to the policies of its place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from sluicegate._core.errors import InvalidPolicy, InvalidRate, short_repr
from sluicegate._core.policies import Policies
from sluicegate._core.policy import Policy
from sluicegate.web.ban import check_can_ban
from sluicegate.web.budget import Budget, Given, listed, placed

_MOST_KEPT = 1024
"""Sets of policies to keep: a function may return ever new ones."""


class Suspended(Exception):
    """The plan of a request is suspended: it is denied, whatever it asks, and nothing is counted."""


class Plans:
    """The plans that functions may name.

    Args:
        plans: Policies or rate strings, by the name of a plan; None for a plan without a limit, 0 for one that is
            suspended.

    Raises:
        InvalidPolicy: A plan has no policy, or an invalid one.
        InvalidRate: A rate string does not parse.
    """

    def __init__(self, plans: Mapping[str, Given | Literal[0] | None]) -> None:
        if not isinstance(plans, Mapping):
            raise InvalidPolicy(f"plans must be a mapping from names to policies, got {short_repr(plans)}")
        self._plans: dict[str, tuple[Policy, ...]] = {}
        self._suspended: set[str] = set()
        for name, given in plans.items():
            if _is_zero(given):
                self._suspended.add(name)
            elif isinstance(given, int):
                raise InvalidPolicy(f"plan {name} must be policies, a rate, 0 or None, got {short_repr(given)}")
            else:
                self._plans[name] = () if given is None else Policies(listed(given)).all
        self._kept: OrderedDict[tuple[str, object], tuple[Policy, ...]] = OrderedDict()

    def policies(self, budget: Budget, answer: Any) -> tuple[Policy, ...]:
        """Return the policies that a function's answer comes to at a place; none for None.

        Raises:
            InvalidPolicy: It is neither a policy, a rate string, a list of these nor the name of a plan.
            InvalidRate: A rate string does not parse.
            Suspended: It is 0, or the name of a plan that is.
        """
        if answer is None:
            return ()
        if _is_zero(answer) or (isinstance(answer, str) and answer in self._suspended):
            raise Suspended
        given = tuple(listed(answer))
        try:
            kept = self._kept.get((budget.name, given))
        except TypeError:
            raise InvalidPolicy(
                f"a limit must be policies, a rate or the name of a plan, got {short_repr(answer)}"
            ) from None
        if kept is not None:
            return kept
        named = self._named(given)
        if named and budget.terms.ban is not None:
            check_can_ban(Policies(named).all)
        policies = placed(named, budget.name, may_change=True) if named else ()
        if len(self._kept) >= _MOST_KEPT:
            self._kept.popitem(last=False)
        self._kept[budget.name, given] = policies
        return policies

    def every(self, budget: Budget) -> list[tuple[Policy, ...]]:
        """Return the policies of a place under each plan."""
        return [self.policies(budget, name) for name in self._plans]  # those that are not suspended

    def _named(self, given: tuple[Any, ...]) -> tuple[Policy | str, ...]:
        if len(given) == 1 and isinstance(given[0], str) and given[0] in self._plans:
            return self._plans[given[0]]
        try:
            return Policies(given).all
        except InvalidRate as error:
            known = ", ".join([*self._plans, *sorted(self._suspended)]) or "none"
            raise InvalidPolicy(f"not the name of a plan (there is {known}), and no rate: {error}") from None


def _is_zero(given: object) -> bool:
    return type(given) is int and given == 0
