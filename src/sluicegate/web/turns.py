"""Turns: a request that is over a limit may wait a little before it is refused, for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate.web.budget import LONGEST_WAIT, Asked

_Result = TypeVar("_Result")


class ClientLeft(Exception):
    """The client of a request that waited has gone: nothing was taken, and nobody hears the answer."""


def turn_of(asked: Sequence[Asked]) -> tuple[float, int | None]:
    """Return how long a request may wait that asks all of this, 0 for not at all, and how many may wait like it."""
    terms = [each.budget.terms for each in asked if each.budget.terms.wait]
    if not terms:
        return 0.0, None
    return min(each.wait for each in terms), min(each.waiting for each in terms)


async def while_connected(working: asyncio.Future[_Result], closed: Callable[[], Awaitable[None]]) -> _Result:
    """Return what a task comes to, for as long as the client is there.

    Args:
        working: The task. It is cancelled if the client leaves, or if this is cancelled. It may have been done all the
            same, in that very moment; then it is the caller who undoes it.
        closed: Returns once the client has gone.

    Raises:
        ClientLeft: The client has gone.
    """
    listening = asyncio.ensure_future(closed())
    tasks = working, listening
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()  # raises what receiving raised
            raise ClientLeft
        return working.result()
    finally:
        for task in tasks:
            task.cancel()
        # Until both have left whatever they were in: nobody else may receive meanwhile.
        await asyncio.wait(tasks)


def checked_wait(wait: Any) -> float:
    """Return for how many seconds a request may wait. Raises `InvalidPolicy`."""
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait <= LONGEST_WAIT:
        raise InvalidPolicy(f"wait must be a number of seconds from 0 to {LONGEST_WAIT:g}, got {short_repr(wait)}")
    return float(wait)


def checked_waiting(waiting: Any) -> int:
    """Return how many requests may wait at once. Raises `InvalidPolicy`."""
    if isinstance(waiting, bool) or not isinstance(waiting, int) or waiting < 1:
        raise InvalidPolicy(f"waiting must be a whole number of 1 or more, got {short_repr(waiting)}")
    return waiting
