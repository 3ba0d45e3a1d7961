"""What a limiter hands to a store: a request, which is charges that are decided together. Values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sluicegate._core.keys import CounterKey
from sluicegate._core.policy import Policy


class Counter(NamedTuple):
    """One policy's counter for one key."""

    policy: Policy
    key: CounterKey


class Charge(NamedTuple):
    """Units to take from one policy's counter for one key. All three have been checked."""

    policy: Policy
    key: CounterKey
    cost: int


class Request(NamedTuple):
    """Charges that are decided together: all of them are entered, or none is.

    What a request asks beyond its charges is a field here. A store reads the fields it knows.

    Attributes:
        charges: One or more, no two on the same counter.
        commit: False changes nothing: the answer says what the state is, and what would be decided.
        within: Seconds within which the caller needs the answer; None for as long as the store waits by itself.
        reserves: Whether the caller may settle what is entered: the answer then says where each charge is.
    """

    charges: tuple[Charge, ...]
    commit: bool = True
    within: float | None = None
    reserves: bool = False


Mark = Any
"""Where a charge was entered. Only the store that made it knows the type."""


class Settlement(NamedTuple):
    """What a charge turned out to be.

    Attributes:
        policy: Its policy.
        key: Its key.
        cost: The units that were entered.
        mark: Where.
        actual: The units that it is to be, 0 or more. Of a lease, 0 releases it and ``cost`` renews it.
    """

    policy: Policy
    key: CounterKey
    cost: int
    mark: Mark
    actual: int


charge_of: Callable[[tuple[Policy, CounterKey, int]], Charge] = partial(tuple.__new__, Charge)
"""Make a `Charge` from a tuple, in half of the time that its own constructor takes."""

request_of: Callable[[tuple[tuple[Charge, ...], bool, float | None, bool]], Request] = partial(tuple.__new__, Request)
"""Make a `Request` likewise."""
