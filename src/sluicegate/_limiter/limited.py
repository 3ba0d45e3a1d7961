"""``limited``: a function or a block that waits its turn before it runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import isasyncgenfunction, isgeneratorfunction
from math import isinf
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidPolicy, NotAllowed, ReservationError, short_repr
from sluicegate._limiter.callbacks import called, is_async
from sluicegate._limiter.reservation import AsyncReservation, Reservation

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Turn = TypeVar("_Turn", Reservation, AsyncReservation)


class _Limited(Generic[_Turn]):
    """What both kinds share.

    Args:
        turn: Makes a reservation that waits, for a key and a cost.
        key: The key, or for a decorated function a function of its arguments.
        cost: The cost, likewise.
    """

    def __init__(self, turn: Callable[[Any, Any], _Turn], key: Any, cost: Any) -> None:
        self._turn: Callable[[Any, Any], _Turn] = turn
        self._key = key
        self._cost = cost
        self._block: _Turn | None = None

    def _for_call(self, args: tuple[Any, ...], options: dict[str, Any]) -> _Turn:
        return self._turn(*[each(*args, **options) if callable(each) else each for each in (self._key, self._cost)])

    def _for_block(self) -> _Turn:
        for what, each in (("key", self._key), ("cost", self._cost)):
            if callable(each):
                raise InvalidPolicy(f"{what} must be a value in a with statement, got {short_repr(each)}")
        if self._block is not None:
            raise ReservationError(
                "this block was entered before, nothing was taken: write limited(...) for each block"
            )
        self._block = self._turn(self._key, self._cost)
        return self._block

    def _end_block(self) -> _Turn:
        assert self._block is not None  # noqa: S101 - it was entered
        return self._block


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or short_repr(function)


def _check_runs_in_its_turn(function: Any) -> None:
    """Raise `InvalidPolicy` if this is not a function, or if a call of it returns before its body runs."""
    if not callable(function):
        raise InvalidPolicy(
            f"limited must stand above a function, got {short_repr(function)}; with brackets, @limiter.limited(key)"
        )
    if isgeneratorfunction(called(function)) or isasyncgenfunction(called(function)):
        raise InvalidPolicy(
            f"{_name(function)} yields, so it would run after its turn: write with limiter.limited(...): inside it"
        )


def _check(decision: Decision) -> Decision:
    if not decision.allowed:
        raise NotAllowed(f"not run, {_why(decision)}", decision=decision)
    return decision


def _why(decision: Decision) -> str:
    if isinf(decision.retry_after):
        return f"as its cost is above what policy {decision.policy} ever allows, {decision.limit}"
    later = f"retry after {decision.retry_after:.6g} s"
    if decision.source == "fallback":
        return f"as the store is down and policy {decision.policy} did not allow it without the store: {later}"
    return f"as policy {decision.policy} did not allow it in time: {later}"


class Limited(_Limited[Reservation]):
    """What ``Limiter.limited`` returns: a decorator for functions, and a context manager."""

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        _check_runs_in_its_turn(function)
        if is_async(function):
            raise InvalidPolicy(f"{_name(function)} is async: limit it with an AsyncLimiter")

        @wraps(function)
        def limited(*args: _P.args, **options: _P.kwargs) -> _R:
            with self._for_call(args, options) as turn:
                _check(turn.decision)
                return function(*args, **options)

        return limited

    def __enter__(self) -> Decision:
        return _check(self._for_block().__enter__().decision)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_block().__exit__(kind, error, trace)


class AsyncLimited(_Limited[AsyncReservation]):
    """What ``AsyncLimiter.limited`` returns: a decorator for async functions, and an async context manager."""

    def __call__(self, function: Callable[_P, Coroutine[Any, Any, _R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
        _check_runs_in_its_turn(function)
        if not is_async(function):
            raise InvalidPolicy(f"{_name(function)} is not async: limit it with a Limiter")

        @wraps(function)
        async def limited(*args: _P.args, **options: _P.kwargs) -> _R:
            async with self._for_call(args, options) as turn:
                _check(turn.decision)
                return await function(*args, **options)

        return limited

    async def __aenter__(self) -> Decision:
        return _check((await self._for_block().__aenter__()).decision)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end_block().__aexit__(kind, error, trace)
