"""One thing that is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MANY = 10**9  # never reached: every call is allowed


@dataclass(frozen=True)
class Contender:
    """A call that decides on one key, or that does the least of such a call.

    Attributes:
        name: Of its row.
        call: Takes a key. Of a contender with tasks, it is awaited.
        exact: Whether it promises "at most N in any T seconds"; None for a floor, which decides nothing.
        awaited: Whether the call is to be awaited.
        allowed: Whether what the call returned says that the request was allowed.
    """

    name: str
    call: Callable[[str], Any]
    exact: bool | None
    awaited: bool = False
    allowed: Callable[[Any], bool] = bool


def peers(contenders: list[Contender]) -> list[Contender]:
    """Return those that are neither ours nor a floor."""
    return [each for each in contenders if each.exact is not None and not each.name.startswith("sluicegate")]
