"""Functions that users supply where the answer is needed at once: async ones are refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from sluicegate._core.errors import InvalidPolicy, short_repr


def synchronous(function: Callable[[Any], Any], parameter: str, advice: str = "") -> Callable[[Any], Any]:
    """Return the function, guarded against answers that would have to be awaited: a coroutine is truthy.

    Args:
        function: The user's.
        parameter: What the user passed it as; begins the message.
        advice: Ends the message.

    Raises:
        InvalidPolicy: It is a coroutine function. The guarded function raises it if only its answer shows that.
    """

    def refusal() -> InvalidPolicy:
        return InvalidPolicy(
            f"{parameter} must be a synchronous function, got {short_repr(function)}, which is async{advice}"
        )

    def call(key: Any) -> Any:
        answer = function(key)
        if inspect.isawaitable(answer):
            if isinstance(answer, Coroutine):
                answer.close()  # or Python would warn that it was never awaited
            raise refusal()
        return answer

    if is_async(function):
        raise refusal()
    return call


def called(function: Any) -> Any:
    """Return the function whose body runs when a callable is called: of an object, ``__call__`` of its class."""
    while isinstance(function, partial):
        function = function.func
    is_function = inspect.isroutine(function) or isinstance(function, type)
    return function if is_function or not callable(function) else type(function).__call__


def is_async(function: Any) -> bool:
    """Return whether a call of a callable has to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called(function))
