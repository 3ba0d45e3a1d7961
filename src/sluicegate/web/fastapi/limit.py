"""Limits: what `RateLimits.limit` and its siblings return, to be put on a route, a router or the app.

A limit is a dependency, as its key, its cost and its policies may be dependencies of the app's own: FastAPI solves
them, and calls the limit with what they gave. Put above a function, it adds itself to the function's parameters.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakSet, ref

from fastapi import Depends, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from sluicegate._core.errors import InvalidCost, InvalidKey, InvalidPolicy, short_repr
from sluicegate._core.keys import NO_KEY, Key
from sluicegate._core.policies import Cost, Policies
from sluicegate._core.policy import Policy, SlidingWindow, is_whole
from sluicegate._limiter.callbacks import is_async
from sluicegate.web.answers import Scope
from sluicegate.web.budget import Asked, Budget, Terms, asked_of
from sluicegate.web.fastapi.usable import Usable
from sluicegate.web.identity import ScopeKey, client_address
from sluicegate.web.limiters import rounds
from sluicegate.web.words import function_name

if TYPE_CHECKING:
    from sluicegate.web.fastapi.rate_limits import RateLimits

_P = ParamSpec("_P")
_R = TypeVar("_R")

Dependency = Callable[..., Any]
"""A dependency of the app's own, or one that needs nothing but the request, such as `client_address`."""

Per = Dependency | ScopeKey | Mapping[str, Dependency | ScopeKey]

_ANONYMOUS = "\x00"
"""What the key of a request without one begins with; a key of the app's own that begins so has it twice."""

_EMPTY = "a key must not be empty: all who have none would share one limit"

PARAMETER = "_sluicegate_limit"


class Failed:
    """What a function of the app's own came to that did not return in time, or raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Limit(Usable):
    """A limit, wherever it is put. Make one with `RateLimits.limit`, `RateLimits.shared` or `RateLimits.reserve`.

    Attributes:
        owner: Who made it.
        given: The policies, as given; empty if a function gives them.
        name: The name that it was given, or None for the name of its place.
        each: Whether on a router or an app it counts for each route by itself.
        is_shared: Whether it is one budget wherever it is put.
        terms: What it says of charges.
        is_alone: Whether the request alone says all that it asks.
    """

    def __init__(
        self,
        owner: RateLimits,
        given: tuple[Policy | str, ...],
        *,
        function: Dependency | None,
        per: Per | None,
        cost: int | Dependency,
        name: str | None,
        each: bool,
        is_shared: bool,
        terms: Terms,
    ) -> None:
        self.owner = owner
        self.given = given
        self.function = None if function is None else Lookup(function, owner)
        self.name = name
        self.each = each
        self.is_shared = is_shared
        self.terms = terms
        self._decorated: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        self.per = per
        self.cost = cost
        self._keys = _dependencies(per)
        self.is_alone = not self._keys and function is None and not callable(cost)
        super().__init__(self._parameters())

    def _put_on(self, function: Any) -> Any:
        wrapper = with_parameter(function, self)
        # A wrapper that nobody keeps is the sign of a limit above its route's line.
        self._decorated = [pair for pair in self._decorated if pair[0]() is not None]
        self._decorated.append((_weakly(function), _weakly(wrapper)))
        return wrapper

    def decorated(self) -> list[tuple[Any, Any]]:
        """Return the functions that it stands above, those in use, each with what took its place or None."""
        return [(inner(), wrapper()) for inner, wrapper in self._decorated if inner() is not None]

    async def _solve(self, **values: Any) -> Any:
        connection: HTTPConnection = values.pop("connection")
        response: Response = values.pop("response")
        return await self.owner.serving.resolve(self, connection, response, values)

    def _parameters(self) -> list[inspect.Parameter]:
        own = [
            _parameter("connection", HTTPConnection),
            _parameter("response", Response),
            *[_parameter(_key_parameter(name), Any, Depends(function)) for name, function in self._keys.items()],
        ]
        if self.function is not None:
            own.append(_parameter("policies", Any, Depends(self.function)))
        if callable(self.cost):
            own.append(_parameter("cost", Any, Depends(self.cost)))
        return own

    def ask(self, budget: Budget, scope: Scope, values: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks of a budget of this limit; None if it costs nothing, or if nothing limits it.

        Args:
            budget: The budget at the request's place.
            scope: The request.
            values: What the limit's dependencies gave.

        Raises:
            InvalidIdentity: The request has no valid key.
            InvalidKey: A dependency gave something that is not a key.
            InvalidCost: A dependency gave something that is not a cost.
            LookupFailed: A function gave no policies.
        """
        policies = budget.policies
        if self.function is not None:
            policies = self.owner.policies(budget, values["policies"])
        if not policies:
            return None
        cost = self.cost if isinstance(self.cost, int) else checked_cost(values["cost"])
        return None if cost == 0 else asked_of((budget, policies, self._key(scope, values), cost))

    def _key(self, scope: Scope, values: Mapping[str, Any]) -> Key:
        per = self.per
        if isinstance(per, ScopeKey):
            return _scope_key(per, scope, values)
        if per is None:
            return NO_KEY
        if isinstance(per, Mapping):
            return {
                name: _scope_key(each, scope, values)
                if isinstance(each, ScopeKey)
                else self._text(values[_key_parameter(name)], scope, name)
                for name, each in per.items()
            }
        value = values[_key_parameter("")]
        if type(value) is not str and isinstance(value, Mapping):
            return {name: self._text(each, scope, name) for name, each in value.items()}
        return self._text(value, scope)

    def _text(self, value: Any, scope: Scope, attribute: str | None = None) -> str:
        return text_of(value, scope, attribute, address=self.owner.address)

    def __repr__(self) -> str:
        return f"<limit {self.name or ', '.join(map(str, self.given)) or 'by a function'}>"


class LookupFailed(Exception):
    """A function of the app's own gave no policies."""


class Lookup:
    """A function that gives the policies of a request, as a dependency that never raises and never hangs.

    It equals the function, so that an app's ``dependency_overrides`` finds it.

    Attributes:
        name: The name of the function.
    """

    def __init__(self, function: Dependency, owner: RateLimits) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidPolicy(f"policies must be returned, and {_name(function)} yields")
        self._function = function
        self._owner = owner
        self._is_async = is_async(function)
        self.name = function_name(function)
        self.__signature__ = inspect.signature(function, eval_str=True)

    async def __call__(self, **values: Any) -> Any:
        """Call the function. What an `HTTPException` says is what the app wants to answer."""
        try:
            async with asyncio.timeout(self._owner.lookup_timeout):
                if self._is_async:
                    return await self._function(**values)
                return await run_in_threadpool(self._function, **values)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request alone
            return Failed(error)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._function

    def __hash__(self) -> int:
        return hash(self._function)


class Exempt(Usable):
    """What `RateLimits.exempt` is: it frees a route from what it would inherit."""

    def __init__(self) -> None:
        super().__init__()
        self._functions: WeakSet[Any] = WeakSet()

    async def _solve(self, **_: Any) -> None: ...

    def _put_on(self, function: Any) -> Any:
        self._functions.add(function)
        return function

    def covers(self, endpoint: Any) -> bool:
        """Return whether an endpoint is free."""
        return any(each in self._functions for each in unwrapped(endpoint))


def _weakly(function: Any) -> Callable[[], Any]:
    try:
        return ref(function)
    except TypeError:  # of a kind that has no weak references
        return lambda: function


def unwrapped(function: Any) -> list[Any]:
    """Return a function and those that it wraps, from the outside in; of a method its function, too."""
    chain = [function]
    while (function := _inner(function)) is not None and function not in chain:
        chain.append(function)
    return chain


def _inner(function: Any) -> Any:
    if isinstance(function, partial):
        return function.func
    # A bound method passes on the __wrapped__ of its function, which would leave the function itself out.
    return getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)


def with_parameter(function: Callable[_P, _R], limit: Any) -> Callable[_P, _R]:
    """Return an endpoint with one more parameter, which FastAPI solves before the endpoint's own.

    It is called with the endpoint's own arguments, so a test of the endpoint can still call it.
    """
    signature = inspect.signature(function, eval_str=True)
    name = PARAMETER
    while name in signature.parameters:
        name += "_"

    if is_async(function):

        @wraps(function)
        async def endpoint(*args: Any, **options: Any) -> Any:
            options.pop(name, None)
            return await function(*args, **options)  # type: ignore[misc]

    else:

        @wraps(function)
        def endpoint(*args: Any, **options: Any) -> Any:
            options.pop(name, None)
            return function(*args, **options)

    own = list(signature.parameters.values())
    # FastAPI solves parameters in their order: a limit comes before what the endpoint itself depends on.
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.kind in _NAMED]
    rest = [each for each in own if each.kind not in _NAMED]
    at = 1 if own and own[0].kind in _NAMED and own[0].name == "self" else 0
    lead = [own[0]] if at else []
    parameters = [*lead, _parameter(name, Any, Depends(limit)), *keyword[at:]]
    ordered = sorted([*parameters, *rest], key=lambda each: each.kind)
    endpoint.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    return endpoint  # type: ignore[return-value]


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _key_parameter(attribute: str) -> str:
    return f"key_{attribute}"


def _dependencies(per: Per | None) -> dict[str, Dependency]:
    """Return the keys that are dependencies of the app's own, by the name of their attribute."""
    given = per if isinstance(per, Mapping) else {"": per}
    for name, each in given.items():
        if each is not None and not isinstance(each, ScopeKey) and not callable(each):
            what = f"per[{name!r}]" if name else "per"
            raise InvalidPolicy(
                f"{what} must be a dependency such as client_address, or a function of your own, got {short_repr(each)}"
            )
    return {name: each for name, each in given.items() if each is not None and not isinstance(each, ScopeKey)}


def _scope_key(key: ScopeKey, scope: Scope, values: Mapping[Any, Any]) -> str:
    given: str | None = values.get(key) if values else None  # of a test that overrides it
    text = key.of(scope) if given is None else given
    if not text:
        raise InvalidKey(_EMPTY)
    return text


def text_of(value: Any, scope: Scope, attribute: str | None = None, *, address: ScopeKey = client_address) -> str:
    """Return the text of a key that a dependency gave.

    Whole numbers, UUIDs and members of an enum are written as text. None means that nobody has logged in: the key is
    then the client's address, apart from every key that is text.

    Raises:
        InvalidKey: It is empty, or something else.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return _ANONYMOUS + address.of(scope)
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidKey(
            f"a key must be a str, an int, a UUID or None, got one of type {type(value).__name__}; return one of these "
            f"from per=",
            attribute=attribute,
        )
    if not value:
        raise InvalidKey(_EMPTY, attribute=attribute)
    return _ANONYMOUS + value if value.startswith(_ANONYMOUS) else value


def checked_cost(cost: Any) -> Cost:
    """Return the cost that a dependency gave; 0 is free. Raises `InvalidCost`: it may be a client's number."""
    if isinstance(cost, Mapping):
        return dict(cost)
    if cost == 0 and not isinstance(cost, bool):
        return 0
    if not is_whole(cost):
        raise InvalidCost(cost, message=f"a cost must be a whole number from 0 to 10^11, got a {type(cost).__name__}")
    return int(cost)


def check_key(policies: tuple[Policy, ...], per: Per | None) -> None:
    """Raise `InvalidPolicy` if a key is known to lack what the policies count by. What a dependency gives is not."""
    if not policies or not isinstance(per, (Mapping, ScopeKey)):
        return
    try:
        Policies(policies).charges(dict.fromkeys(per, "x") if isinstance(per, Mapping) else "x")
    except InvalidKey as error:
        raise InvalidPolicy(f"per= does not give the key that the policies need: {error}") from None


def check_settles(policies: tuple[Policy, ...], what: str) -> None:
    """Raise `InvalidPolicy` if a charge of one of the policies could not be settled."""
    for policy in policies:
        if isinstance(policy, SlidingWindow) and policy.buckets is not None:
            raise InvalidPolicy(
                f"{what} needs exact entries, and a policy has buckets={policy.buckets}: leave buckets= out, or use a "
                f"TokenBucket"
            )


def check_lends(policies: tuple[Policy, ...]) -> None:
    """Raise `InvalidPolicy` if one policy lends permits and another rounds times: they cannot be decided together."""
    if any(policy.lends for policy in policies) and any(map(rounds, policies)):
        raise InvalidPolicy("permits and buckets= cannot be decided together: make a limit for each")


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or short_repr(function)
