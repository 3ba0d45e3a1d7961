"""What a limiter has decided so far: a frozen snapshot of its counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate._core.decision import Source


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts since the limiter was made, of all that takes units. ``peek`` and ``charge`` decide nothing.

    Exact under the GIL; a free-threaded Python may miss a count.

    Attributes:
        allowed: Requests that were allowed.
        denied: Requests that were denied.
        errors: Requests without a decision: the store raised a `StoreError`.
        by_source: For each source of decisions (see `Decision.source`) how many it allowed and denied. A source without
            decisions is not in it. Those of an outage have the source ``fallback``.
        mode: How decisions are made now: ``store``; or, while the store is down, what ``on_outage`` says.
        seconds: For each mode how long decisions were made so.
        waiting: Callers that wait their turn now.
        unsettled: Charges that could not be made what they turned out to be, as the store was down: of reservations
            their estimates stand, and what ``charge`` was to record is missing.
        saturated: Charges of ``charge`` that were left out, as a counter holds as much debt as it can.
        leases_lost: Reservations so far that lost their permits before their block ended.
    """

    allowed: int
    denied: int
    errors: int
    by_source: Mapping[Source, Outcomes]
    mode: str = "store"
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    waiting: int = 0
    unsettled: int = 0
    saturated: int = 0
    leases_lost: int = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many requests were allowed and denied."""

    allowed: int
    denied: int


class Tally:
    """The counters behind `Statistics`."""

    __slots__ = ("allowed", "by_other_source", "denied", "errors", "leases_lost", "saturated", "unsettled")

    def __init__(self) -> None:
        self.allowed = self.denied = 0  # by the store
        self.by_other_source: dict[Source, list[int]] = {}  # by other sources: denied, allowed
        self.errors = self.unsettled = self.saturated = self.leases_lost = 0

    def count(self, source: Source, allowed: bool) -> None:
        """Count one decision."""
        if source != "store":
            self.by_other_source.setdefault(source, [0, 0])[allowed] += 1
        elif allowed:
            self.allowed += 1
        else:
            self.denied += 1

    def snapshot(self, fast: tuple[int, int] = (0, 0)) -> Statistics:
        """Return the counts so far, including what the fast path allowed and denied."""
        by_source: dict[Source, Outcomes] = {
            source: Outcomes(allowed, denied) for source, (denied, allowed) in list(self.by_other_source.items())
        }
        store = Outcomes(self.allowed + fast[0], self.denied + fast[1])
        if store != Outcomes(0, 0):
            by_source["store"] = store
        return Statistics(
            allowed=sum(outcomes.allowed for outcomes in by_source.values()),
            denied=sum(outcomes.denied for outcomes in by_source.values()),
            errors=self.errors,
            by_source=MappingProxyType(by_source),
            unsettled=self.unsettled,
            saturated=self.saturated,
            leases_lost=self.leases_lost,
        )
