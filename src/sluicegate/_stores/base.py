"""What a store is: one verb that decides a request, a set of charges taken all or not at all.

These are not errors: a denial (a verdict says so), a key that was never seen, forgetting a key that is not there. A
store that cannot answer raises `StoreUnavailable` if nothing was taken, and `StoreTimeout` if it cannot know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sluicegate._core.decision import Verdict
from sluicegate._core.request import Counter, Mark, Request, Settlement

TIMEOUT = 0.5
"""Seconds that a store waits for its server, by default."""


class Remembered(list[Verdict]):
    """An answer that a store gives from memory: the request was denied, it still is, and the server was not called."""


class Reserved(list[Verdict]):
    """An answer that allows a request, and says where its charges were entered.

    Attributes:
        marks: One for each charge.
        asked_at: When the call that brought it was made, by the limiter's time, where that matters.
    """

    __slots__ = ("asked_at", "marks")

    def __init__(self, verdicts: Iterable[Verdict], marks: Sequence[Mark]) -> None:
        super().__init__(verdicts)
        self.marks = marks
        self.asked_at: float | None = None


class Fallback(list[Verdict]):
    """An answer that was given without the store, while it was down or slow.

    Attributes:
        marks: Where the charges were entered in memory, one for each, if the request was allowed there and reserves.
        asked_at: As of `Reserved`.
    """

    marks: Sequence[Mark] | None = None
    asked_at: float | None = None


class Store(Protocol):
    """Counters, and the clock that they are kept by. For threads."""

    def decide(self, request: Request) -> list[Verdict]:
        """Decide a request at one instant of the store's clock.

        Args:
            request: The charges. With ``commit=False`` nothing changes: the answer says what the state is, and what
                would be decided. ``within`` is how long the caller waits.

        Returns:
            A new list with a verdict for each charge, in order. If one denies, none was entered. A `Remembered` is an
            answer from memory, a `Reserved` one that can be settled.

        Raises:
            StoreUnavailable: The store could not be reached, or refused. Nothing was taken.
            StoreTimeout: The outcome is unknown.
        """
        ...

    def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters, and blocks on them: the whole limit is free again."""
        ...

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Deny every request of these counters until ``span_us`` (0 to ten years) from now; 0 lifts a block.

        It replaces any block before. What was counted stays, and goes on leaving its window meanwhile.
        """
        ...

    def close(self) -> None:
        """Close what the store itself opened. Safe to call twice."""
        ...


class ReservingStore(Store, Protocol):
    """A store whose charges can be settled, for ``reserve``, ``wait`` and ``Concurrency``. For threads."""

    def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Decide requests that reserve, in their order and at one instant, up to the first that is denied.

        Args:
            requests: One or more, all on the same counters.

        Returns:
            The answers to those that were looked at: each but the last one allows its request.

        Raises:
            StoreError: As `decide` does, for all of them.
        """
        ...

    def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:
        """Make charges what they turned out to be, at one instant; release leases, and renew them.

        Once for each mark: a second settlement of a charge may change another one that shares its mark.

        Args:
            settlements: The charges, as a `Reserved` answer marked them.
            within: Seconds within which the caller needs the answer.

        Returns:
            Whether each was there. If not, because it has left its window for example, nothing changed.

        Raises:
            StoreUnavailable: Nothing was settled.
            StoreTimeout: The outcome is unknown.
        """
        ...


class AsyncStore(Protocol):
    """The same verbs, awaited. For tasks."""

    async def decide(self, request: Request) -> list[Verdict]:
        """Decide a request; the twin of `Store.decide`."""
        ...

    async def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters; the twin of `Store.forget`."""
        ...

    async def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Block counters; the twin of `Store.block`."""
        ...

    async def aclose(self) -> None:
        """Close what the store itself opened; the twin of `Store.close`."""
        ...


class AsyncReservingStore(AsyncStore, Protocol):
    """The same verbs, awaited. For tasks."""

    async def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Decide a line of requests; the twin of `ReservingStore.decide_line`."""
        ...

    async def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:
        """Settle charges; the twin of `ReservingStore.settle`."""
        ...
