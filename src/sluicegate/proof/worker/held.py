"""`Held` and `Permits`: what the target's ``reserve`` and ``acquire`` returned, until it is ended."""

import contextlib
import inspect
from typing import Any


class Held:
    """One reservation. If it is a context manager, it is entered at once, and left when it is settled or cancelled."""

    def __init__(self, reservation: Any) -> None:
        self._manager = self._reservation = reservation  # a context manager may return another object when entered
        self._is_open = False

    async def enter(self) -> Any:
        """Enter it, and return what its answer can be read from."""
        enter = getattr(self._manager, "__aenter__", None) or getattr(self._manager, "__enter__", None)
        if enter is not None:
            self._is_open = True
            self._reservation = await awaited(enter())
        return self._reservation

    async def end(self, verb: str, cost: int) -> None:
        """Call ``settle(cost)`` or ``cancel()``, and leave it."""
        # An error here is no fault: a limiter may refuse to settle twice. What was charged is what counts.
        with contextlib.suppress(Exception):
            method = getattr(self._reservation, verb)
            await awaited(method(cost) if verb == "settle" else method())
        leave = getattr(self._manager, "__aexit__", None) or getattr(self._manager, "__exit__", None)
        if self._is_open and leave is not None:
            self._is_open = False
            await awaited(leave(None, None, None))


class Permits:
    """The permits of each key, by the number of the call that acquired them, from 1 on."""

    def __init__(self) -> None:
        self._of_key: dict[str, list[Any]] = {}

    def add(self, key: str, permit: Any) -> bool:
        """Keep what ``acquire`` returned; tell whether it is a permit."""
        self._of_key.setdefault(key, []).append(permit)
        return permit is not None and permit is not False

    async def end(self, verb: str, key: str, number: int) -> None:
        """Call ``release()`` or ``renew()``."""
        # An error here is no fault: a limiter may refuse to release twice. How many can be had after it is what counts.
        with contextlib.suppress(Exception):
            await awaited(getattr(self._of_key[key][number - 1], verb)())


async def awaited(answer: Any) -> Any:
    """Return the answer itself, or what it gives when it is awaited."""
    while inspect.isawaitable(answer):
        answer = await answer
    return answer
