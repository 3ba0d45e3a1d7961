"""A user's function that has to answer at once: an async one is refused, and never taken for an answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from sluicegate._core.errors import InvalidPolicy, short_repr


def at_once(function: Callable[[Any], Any], what: str, advice: str = "") -> Callable[[Any], Any]:
    """Return the function, guarded; ``what`` the user calls it, and ``advice``, end the message.

    Raises:
        InvalidPolicy: It is async. The guarded one raises it, too, where that shows only in what was returned.
    """

    def refused() -> InvalidPolicy:
        return InvalidPolicy(
            f"{what} must be a function that need not be awaited, got {short_repr(function)}, which is async{advice}"
        )

    def ask(key: Any) -> Any:
        answer = function(key)
        if inspect.isawaitable(answer):
            if isinstance(answer, Coroutine):
                answer.close()  # or Python would warn that nobody awaited it
            raise refused()
        return answer

    if inspect.iscoroutinefunction(function):
        raise refused()
    return ask
