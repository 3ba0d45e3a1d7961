"""A store that fails when a test says so, to see what an app does in an outage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from sluicegate._core.clock import Clock
from sluicegate._core.decision import Verdict
from sluicegate._core.errors import StoreError, StoreTimeout, StoreUnavailable, short_repr
from sluicegate._core.request import Counter, Request, Settlement
from sluicegate._stores.base import TIMEOUT
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.outage import Outage
from sluicegate.testing.outage import outage_by

_MOST_REPAID = 1000  # counters at a time

_Reply = TypeVar("_Reply")


class FailingStore(MemoryStore):
    """A `MemoryStore` that fails when it is told to, for limiters of threads and of tasks, and for the web layer.

    After `fail` every call raises, at once, and limiters answer as their ``on_outage`` says; after `recover` they count
    in this store again. It stands in for a server:

    - With ``"local"``, a limiter begins with what was used when the outage began, by the clock of this store. What it
      allows meanwhile is entered here when the outage is over. It is the only instance: its share is the whole limit.
    - Three failures in a row are an outage for ``on_event`` and the log; `recover` ends it.

    Args:
        clock: As for `MemoryStore`: a `ManualClock`, say.
        max_keys: As for `MemoryStore`.

    Raises:
        ValueError: As for `MemoryStore`.
        TypeError: As for `MemoryStore`.

    Attributes:
        outage: What limiters use to answer while it fails.
    """

    def __init__(self, *, clock: Clock | None = None, max_keys: int = 1_000_000) -> None:
        super().__init__(clock=clock, max_keys=max_keys)
        self._error: type[StoreError] | None = None
        self.outage: Outage = outage_by(clock, self._now_ns)
        self._awaited = _AwaitedFailingStore(self)

    @property
    def is_failing(self) -> bool:
        """Whether calls raise."""
        return self._error is not None

    def fail(self, error: type[StoreUnavailable | StoreTimeout] = StoreUnavailable) -> None:
        """Let every call raise from now on.

        Args:
            error: `StoreUnavailable`: the server cannot be reached, and nothing is taken. `StoreTimeout`: its reply is
                lost. That leaves open whether the cost was taken; here it is, which is the worse case.

        Raises:
            TypeError: It is neither of the two classes.
        """
        self._error = checked_error(error)

    def recover(self) -> None:
        """Let calls succeed again, and enter what limiters have allowed meanwhile. Safe to call twice."""
        self._error = None
        health, _, local, _ = self.outage
        health.recovered()
        while local.owes:
            for charges in local.any_owed(_MOST_REPAID):
                super().decide(Request(charges))

    @contextmanager
    def failing(self, error: type[StoreUnavailable | StoreTimeout] = StoreUnavailable) -> Iterator[Self]:
        """Fail while a block runs: ``with store.failing():``. Raises as `fail` does."""
        self.fail(error)
        try:
            yield self
        finally:
            self.recover()

    def awaited(self) -> AwaitedMemoryStore:
        """Return this store for tasks: the same object each time."""
        return self._awaited

    def decide(self, request: Request) -> list[Verdict]:
        """Decide a request; see `sluicegate.stores.Store.decide`."""
        self._call()
        verdicts = self._reply(super().decide(request))
        self.outage.local.learn((request.charges,), (verdicts,))
        return verdicts

    def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Decide requests in order; see `sluicegate.stores.ReservingStore.decide_line`."""
        self._call()
        answers = self._reply(super().decide_line(requests))
        self.outage.local.learn([request.charges for request in requests[: len(answers)]], answers)
        return answers

    def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:
        """Settle charges; see `sluicegate.stores.ReservingStore.settle`."""
        self._call()
        found = self._reply(super().settle(settlements, within))
        for each, was_there in zip(settlements, found, strict=True):
            if was_there:
                self.outage.local.known.lower(each.policy, each.key, each.cost - each.actual)
        return found

    def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters; see `sluicegate.stores.Store.forget`."""
        self._call()
        self._reply(super().forget(counters))

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Block counters; see `sluicegate.stores.Store.block`."""
        self._call()
        self._reply(super().block(counters, span_us))

    def close(self) -> None:
        """Forget all keys. Safe to call twice; the store stays usable, and fails if it did."""
        super().close()
        self.outage.local.known.clear()

    def _call(self) -> None:
        """Raise the error of a call that does not reach the store."""
        if self._error is StoreUnavailable:
            raise self._noted(
                StoreUnavailable("the store is unreachable, as a test has it; nothing was taken", reason="unreachable")
            )

    def _reply(self, reply: _Reply) -> _Reply:
        """Return the reply to a call, or raise the error of a reply that is lost."""
        if self._error is StoreTimeout:
            raise self._noted(
                StoreTimeout("the store's reply is lost, as a test has it; the cost was taken", reason="timeout")
            )
        self.outage.health.answered()
        return reply

    def _noted(self, error: StoreError) -> StoreError:
        health = self.outage.health
        if health.failed(error, health.failures, TIMEOUT):
            health.report_down(error)
        return error


class _AwaitedFailingStore(AwaitedMemoryStore):
    """A `FailingStore` for tasks."""

    store: FailingStore

    @property
    def outage(self) -> Outage:
        return self.store.outage


def checked_error(error: Any) -> type[StoreUnavailable | StoreTimeout]:
    """Return the class of errors that a store is to raise. Raises `TypeError`."""
    if error is not StoreUnavailable and error is not StoreTimeout:
        raise TypeError(f"error must be the class StoreUnavailable or StoreTimeout, got {short_repr(error)}")
    return error
