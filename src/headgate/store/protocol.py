"""What a store is: one verb that decides a batch of requests, each a set of charges taken all or not at all.

What is not an error: a denial (a verdict says so), a key that was never seen, forgetting what is not there. A store
that cannot answer raises `StoreUnavailable` when nothing was taken, and `StoreTimeout` when it cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from headgate.decision import Verdict
from headgate.errors import StoreError
from headgate.policy import SlidingWindow


class Charge(NamedTuple):
    """Units to take from one policy's counter for one key. Values that have been checked."""

    policy: SlidingWindow
    key: str
    cost: int


Request = Sequence[Charge]
"""Charges decided together: all of them are entered or none is. No counter is in it twice."""

Answer = list[Verdict] | StoreError
"""A verdict for each charge of a request, in its order; or the error that made this one request fail."""


@runtime_checkable
class Store(Protocol):
    """Counters, and the clock they are kept by."""

    def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """Decide a batch: its requests one after the other, in their order, at one instant of the store's clock.

        Args:
            requests: What is asked; at least one request, each with at least one charge.
            charging: False changes nothing: each answer says what the state is, and what would be decided.

        Returns:
            An answer for each request.

        Raises:
            StoreUnavailable: Nothing was taken, for any of them.
            StoreTimeout: The outcome is unknown for all of them.
        """
        ...

    def forget(self, policy: SlidingWindow, key: str) -> None:
        """Drop the counter of ``key`` under ``policy``: the whole limit is free again."""
        ...

    def close(self) -> None:
        """Give back what the store itself opened. Twice is once."""
        ...


class AsyncStore(Protocol):
    """The same verbs, awaited."""

    async def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """See `Store.decide`."""
        ...

    async def forget(self, policy: SlidingWindow, key: str) -> None:
        """See `Store.forget`."""
        ...

    async def aclose(self) -> None:
        """See `Store.close`."""
        ...
