"""Budgets: policies that count at one place of an app, under its name, and what a request asks of them. Values only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate._core.keys import NO_KEY, Key
from sluicegate._core.policies import Cost, Policies
from sluicegate._core.policy import Policy
from sluicegate._limiter.callbacks import is_async

if TYPE_CHECKING:
    from sluicegate.web.ban import Ban

Given = Policy | str | Sequence[Policy | str]
"""What users give as a limit: one policy or rate string, or several that are decided together."""

LONGEST_NAME = 64

LONGEST_WAIT = 60.0
"""Seconds that a request may wait for its turn at most."""

MOST_WAITING = 100
"""Requests that may wait at once, by default."""

_DIGITS = 8  # of a digest in a name that was cut
_MOST_JOINT = 1024  # sets of policies to keep for a budget: a function may return ever new ones
_MOST_ATTRIBUTES = 64
_PLAIN = "sliding-window-"


class Outcome(Protocol):
    """What is known of a response once it starts: its status and its headers, by lower-case name."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a limit says, wherever it is put.

    Attributes:
        charge_when: Tells from the response whether the charge stands; None if it always does.
        actual: Tells from the response what the charge is to be; None for the cost.
        message: The ``detail`` of its denials; None for one that names the policy.
        reserves: Whether the endpoint settles the charge itself.
        ban: When a key that is denied too often is banned; None for never.
        wait: For how many seconds a request may wait for its turn.
        waiting: How many requests may wait at once.
    """

    charge_when: Callable[[Outcome], bool] | None = None
    actual: Callable[[Outcome], int] | None = None
    message: str | None = None
    reserves: bool = False
    ban: Ban | None = None
    wait: float = 0.0
    waiting: int = MOST_WAITING

    @property
    def settles(self) -> bool:
        """Whether the charge may change once it was made."""
        return self.reserves or self.charge_when is not None or self.actual is not None


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """Policies that count together at one place.

    Attributes:
        name: The name of the place, unique in the app; the names of its policies begin with it.
        policies: The policies, named. A function gives them for each request where there are none.
        is_shared: Whether other places use it, too: then it is charged in the last step.
        terms: What the limit says.
        settles: Whether a charge may change once it was made.
        stands: Whether its policies are known, and their charges are final once made: without waits, settling or
            leases.
    """

    name: str
    policies: tuple[Policy, ...]
    is_shared: bool = False
    terms: Terms = field(default_factory=Terms)
    settles: bool = field(init=False)
    stands: bool = field(init=False)
    _joint: dict[tuple[int, ...], tuple[tuple[Policy, ...], object]] = field(default_factory=dict, repr=False)
    _attributes: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settles", self.terms.settles)
        lends = any(policy.lends for policy in self.policies)
        stands = bool(self.policies) and not (self.settles or lends or self.terms.wait)
        object.__setattr__(self, "stands", stands)

    def joint(self, asked: Sequence[Asked]) -> tuple[Policy, ...]:
        """Return the policies of all that is asked, this budget's first, counting by attributes."""
        name = tuple([id(each.policies) for each in asked])
        known = self._joint.get(name)
        if known is None:
            if len(self._joint) >= _MOST_JOINT:
                del self._joint[next(iter(self._joint))]
            joint = tuple(each.budget.by_attributes(policy) for each in asked for policy in each.policies)
            # With what it was made of: nothing else can have its ids meanwhile.
            known = self._joint[name] = joint, [each.policies for each in asked]
        return known[0]

    def by_attributes(self, policy: Policy) -> Policy:
        """Return a policy of this budget so that it can be decided together with those of others."""
        if policy.shared:
            return policy
        return renamed(policy, policy.name, tuple(self.attribute(each) for each in policy.per or ("",)))

    def attribute(self, name: str = "") -> str:
        """Return what an attribute of this budget's keys, or a key that is text, is called beside those of others."""
        known = self._attributes.get(name)
        if known is None:
            # With the length of the place's name: else the user of "a.b" and the "b.user" of "a" would be the same.
            known = fitted(f"{len(self.name)}.{self.name}.{name}")
            if len(self._attributes) < _MOST_ATTRIBUTES:
                self._attributes[name] = known
        return known


class Asked(NamedTuple):
    """What one request asks of a budget."""

    budget: Budget
    policies: tuple[Policy, ...]
    key: Key
    cost: Cost


asked_of: Callable[[tuple[Budget, tuple[Policy, ...], Key, Cost]], Asked] = partial(tuple.__new__, Asked)
"""Make an `Asked` from a tuple, in half of the time that its own constructor takes."""


def joined(asked: Sequence[Asked]) -> tuple[tuple[Policy, ...], Key, Cost]:
    """Return the policies, the key and the cost with which all that is asked is decided at once.

    The policies are the same object each time, for whatever is kept by them.
    """
    if len(asked) == 1 and type(asked[0].key) is str:
        return asked[0][1:]
    key: dict[str, str] = {}
    costs: dict[str, int] = {}
    for budget, own, own_key, cost in asked:
        if not isinstance(own_key, str):
            key.update({budget.attribute(name): value for name, value in own_key.items()})
        elif not all(policy.shared for policy in own):
            key[budget.attribute()] = own_key
        if cost != 1:
            costs.update(cost if isinstance(cost, Mapping) else {policy.name: cost for policy in own})
    return asked[0].budget.joint(asked), key or NO_KEY, costs or 1


def listed(given: Given) -> Sequence[Policy | str]:
    """Return policies as a list, be it one alone or a list of them."""
    return given if isinstance(given, (list, tuple)) else (given,)


def placed(
    given: Sequence[Policy | str], name: str, *, shared: bool = False, may_change: bool = False
) -> tuple[Policy, ...]:
    """Return policies under the name of a place: one alone has it, of several each has it with an ending of its own.

    Args:
        given: Policies or rate strings.
        name: The name of the place.
        shared: Whether all keys share one counter.
        may_change: Whether the next request may have other policies. Each has an ending then: a plan that goes from one
            policy to two keeps its counters.

    Raises:
        InvalidPolicy: Something else was given, or two have one name.
        InvalidRate: A rate string does not parse.
    """
    policies = Policies(given).all
    alone = len(policies) == 1 and not may_change
    return tuple(_placed(policy, _name(policy, name, alone=alone), shared) for policy in policies)


def _name(policy: Policy, place: str, *, alone: bool) -> str:
    own = str(policy.name)
    if alone and own == place:  # a limit named after its one policy: once is enough
        return place
    if policy.named:
        return f"{place}.{own}"
    return place if alone else f"{place}.{own.removeprefix(_PLAIN)}"


def _placed(policy: Policy, name: str, shared: bool) -> Policy:
    is_shared = shared or policy.shared
    return replace(policy, name=fitted(name), per=() if is_shared else policy.per, shared=is_shared)


def renamed(policy: Policy, name: str, per: tuple[str, ...]) -> Policy:
    """Return the policy under a name, counting by attributes. Same name and window: the same counters."""
    return replace(policy, name=str(name), per=per)


def fitted(name: str) -> str:
    """Return a name that is not longer than names may be: the same for the same text, and different for others."""
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: LONGEST_NAME - _DIGITS - 1]}-{digest}"


def checked_function(function: Any, what: str) -> Any:
    """Return a function that the user gave, or None. Raises `InvalidPolicy`."""
    if function is not None and (not callable(function) or is_async(function)):
        raise InvalidPolicy(f"{what} must be a synchronous function of the response, got {short_repr(function)}")
    return function
