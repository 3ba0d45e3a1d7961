"""What limits have in common: FastAPI calls them as async dependencies, and users put them above a function."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, overload

from sluicegate._core.errors import InvalidPolicy, short_repr

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Usable(ABC):
    """A dependency, ``Depends(it)``, that is also a decorator, ``@it``, below a route's own line.

    Args:
        parameters: What FastAPI solves for it.
    """

    def __init__(self, parameters: Iterable[inspect.Parameter] = ()) -> None:
        self.__signature__ = inspect.Signature(list(parameters))
        # FastAPI looks here to tell whether a call is to be awaited; Python itself calls the method of the class.
        vars(self)["__call__"] = self._solve

    @overload
    def __call__(self, function: _Function, /) -> _Function: ...

    @overload
    def __call__(self, **values: Any) -> Coroutine[Any, Any, Any]: ...

    def __call__(self, *functions: Any, **values: Any) -> Any:
        """Put it on an endpoint; or solve it, if it is called as FastAPI calls dependencies."""
        if not functions:
            return self._solve(**values)
        if len(functions) > 1 or not callable(functions[0]):
            raise InvalidPolicy(f"a limit must stand above a function, got {short_repr(functions[0])}")
        return self._put_on(functions[0])

    @abstractmethod
    async def _solve(self, **values: Any) -> Any:
        """Return the value of the dependency."""

    @abstractmethod
    def _put_on(self, function: Any) -> Any:
        """Return the function that takes the place of an endpoint."""
