"""Outages: what a limiter answers while its store makes no decision, as its ``on_outage`` says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import InvalidPolicy, StoreError, StoreUnavailable, short_repr
from sluicegate._core.event import StoreEvent
from sluicegate._core.request import Counter, Request, Settlement
from sluicegate._limiter.callbacks import synchronous
from sluicegate._stores.base import Fallback
from sluicegate._stores.fleet import fraction
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.outage import outage_of

logger = logging.getLogger("sluicegate")

OnOutage = Literal["local", "open", "closed", "raise"]
"""What a limiter answers without its store: by its own share, always yes, always no, or an error."""

ON_OUTAGE: tuple[str, ...] = get_args(OnOutage)

DEADLINE = 0.1
"""Seconds within which a decision is made, by default."""

MAX_DEADLINE = 3600


class Outages:
    """Answers in the place of a store that makes no decision.

    Args:
        on_outage: How.
        share: A fixed share of every limit, in place of one by the size of the fleet.
        on_event: The user's, called with what happens to the store.
        store: The store.

    Raises:
        InvalidPolicy: An argument is outside its range.
    """

    def __init__(
        self, on_outage: OnOutage, share: float | None, on_event: Callable[[StoreEvent], object] | None, store: object
    ) -> None:
        if on_outage not in ON_OUTAGE:
            expected = ", ".join(map(repr, ON_OUTAGE))
            raise InvalidPolicy(f"on_outage must be one of {expected}, got {short_repr(on_outage)}")
        # NaN fails the comparison.
        if share is not None and (isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1):
            raise InvalidPolicy(
                f"share must be a fraction of the limit, above 0 and at most 1, got {short_repr(share)}"
            )
        if on_event is not None and not callable(on_event):
            raise InvalidPolicy(f"on_event must be a function of a StoreEvent, got {short_repr(on_event)}")
        self.on_outage = on_outage
        self._share = None if share is None else fraction(share)
        self._on_event = None if on_event is None else synchronous(on_event, "on_event")
        self._outage = outage_of(store)
        self._decides_here = on_outage == "local" and type(store) not in (MemoryStore, AwaitedMemoryStore)
        self._outage.local.is_wanted |= self._decides_here
        self._made_at = time.monotonic()
        self._down_before = self._outage.health.down_seconds
        if on_event is not None:
            self._outage.health.listen(self)

    @property
    def is_open(self) -> bool:
        """Whether the store's breaker is open."""
        return self._outage.health.is_open

    def seconds(self) -> tuple[float, float]:
        """Return for how many seconds the store was up, and down, since the limiter was made."""
        down = self._outage.health.down_seconds - self._down_before
        return max(time.monotonic() - self._made_at - down, 0.0), down

    def answer(self, request: Request, error: StoreError, has_answered: bool) -> Fallback:
        """Return the answer to a request that the store did not decide.

        Args:
            request: The request.
            error: What the store raised.
            has_answered: Whether it has ever decided a request of this limiter.

        Raises:
            StoreError: ``error`` itself: if limiters are to raise it, or if it is one of configuration and the store
                has not answered yet.
        """
        health, fleet, local, _ = self._outage
        if self.on_outage == "raise" or (error.lasts and not (has_answered or health.has_answered)):
            raise error
        wait_us = health.next_probe_us
        if self.on_outage == "local":
            if fleet.size is None and self._share is None:
                health.warn_of_unknown_fleet(error)
            # Of any other error the outcome is unknown: the cost may stand in the store already.
            owe = isinstance(error, StoreUnavailable) and self._outage.repays
            return local.decide(request, share=self._share, owe=owe, wait_us=wait_us)
        if self.on_outage == "open":
            return Fallback([Verdict(True, charge.policy.burst, 0, 0) for charge in request.charges])
        return Fallback([Verdict(False, 0, wait_us, 0) for _ in request.charges])

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle what was decided here. What is owed to the store for it stays as it was."""
        return self._outage.local.settle(settlements)

    def forget(self, counters: Sequence[Counter]) -> None:
        """Forget counters here, too, as they are forgotten on the store."""
        self._outage.local.forget(counters)

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Block counters here, too: in an outage the block of the store is out of reach."""
        if self._decides_here:
            self._outage.local.block(counters, span_us)

    def on_store_event(self, event: StoreEvent) -> None:
        """Call the user's function. What it raises is logged: the caller is a decision, or a probe."""
        try:
            if self._on_event is not None:
                self._on_event(event)
        except Exception:
            logger.exception("on_event raised for %s", event.kind)


def checked_deadline(deadline: Any) -> float:
    """Return a deadline in seconds. Raises `InvalidPolicy`."""
    # NaN fails the comparison, and an int too large for a float is no matter.
    if isinstance(deadline, bool) or not isinstance(deadline, (int, float)) or not 0 < deadline <= MAX_DEADLINE:
        raise InvalidPolicy(
            f"deadline must be a number of seconds above 0, at most {MAX_DEADLINE}, got {short_repr(deadline)}"
        )
    return float(deadline)
