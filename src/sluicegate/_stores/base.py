"""What a store is: one verb that decides a batch of requests, each a set of charges taken all or not at all.

What is not an error: a denial (a verdict says so), a key that was never seen, forgetting what is not there. A store
that cannot answer raises `StoreUnavailable` when nothing was taken, and `StoreTimeout` when it cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import StoreError
from sluicegate._core.request import Charge, Counter

Request = Sequence[Charge]
"""Charges decided together: all of them are entered or none is. No counter is in it twice."""

Answer = list[Verdict] | StoreError
"""A verdict for each charge of a request, in its order; or the error that made this one request fail."""


class Remembered(list[Verdict]):
    """An answer that a store remembered: it was denied, it still is, and nobody was asked."""


@runtime_checkable
class Store(Protocol):
    """Counters, and the clock they are kept by.

    A store may have ``bind(policy, request)`` as well, see `sluicegate.MemoryStore.bind`: a quicker way to ``allow``.
    """

    def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """Decide a batch: its requests one after the other, in their order, at one instant of the store's clock.

        (On a server, requests with a window of the calendar may come after the others, when a sender that is wrong
        about the server's clock has been corrected.)

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

    def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters, and blocks on them: the whole limit is free again."""
        ...

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Let counters deny whatever is asked until ``span_us`` from now, in place of any block before; 0 lifts it.

        What was counted stays, and goes on to leave its window meanwhile.
        """
        ...

    def close(self) -> None:
        """Give back what the store itself opened. Twice is once."""
        ...


class AsyncStore(Protocol):
    """The same verbs, awaited."""

    async def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """See `Store.decide`."""
        ...

    async def forget(self, counters: Sequence[Counter]) -> None:
        """See `Store.forget`."""
        ...

    async def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """See `Store.block`."""
        ...

    async def aclose(self) -> None:
        """See `Store.close`."""
        ...
