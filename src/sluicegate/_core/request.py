"""What a limiter hands to a store: a request, which is charges that are decided together. Values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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

    What a request asks beyond its charges is a field here: later an entry that can be settled, or one that is charged
    whatever the limit. A store reads the fields it knows.

    Attributes:
        charges: One or more, no two on the same counter.
        commit: False changes nothing: the answer says what the state is, and what would be decided.
        within: Seconds within which the caller needs the answer; None for as long as the store waits by itself.
    """

    charges: tuple[Charge, ...]
    commit: bool = True
    within: float | None = None


charge_of: Callable[[tuple[Policy, CounterKey, int]], Charge] = partial(tuple.__new__, Charge)
"""Make a `Charge` from a tuple, in half of the time that its own constructor takes."""

request_of: Callable[[tuple[tuple[Charge, ...], bool, float | None]], Request] = partial(tuple.__new__, Request)
"""Make a `Request` likewise."""
