"""Judge recorded answers. Nothing is invented: what a delay leaves in doubt is decided for the limiter.

Who asks does not see when a decision falls, only that it fell between sending the request and reading the answer. So a
record is an interval, and a fault is named only where it is one wherever in their intervals the decisions fell. Times
are seconds on one clock that never steps: `time.monotonic` is the same for all processes of a Linux machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple


class Record(NamedTuple):
    """One request and its answer, as the one who asked saw it."""

    start: float
    end: float
    key: str
    cost: int
    allowed: bool


class Span(NamedTuple):
    """The units certainly allowed to ``key`` within less than a window from ``start`` on."""

    key: str
    start: float
    units: int


def over(records: Iterable[Record], limit: int, window: float) -> list[Span]:
    """Return the spans shorter than the window in which more than the limit was certainly allowed. O(n log n)."""
    return [span for span in spans(records, window) if span.units > limit]


def spans(records: Iterable[Record], window: float) -> list[Span]:
    """Return what was certainly allowed in less than a window from the start of each allowed request.

    A request counts where its whole interval lies in the span. No other span holds more than the fullest of these.
    """
    found = []
    for key, mine in _by_key(record for record in records if record.allowed).items():
        by_start = sorted(record for record in mine if record.end - record.start < window)
        by_end = sorted(by_start, key=attrgetter("end"))
        units = ended = left = 0
        for first in by_start:
            # Each is put on no later than when the span begins with itself, and taken off once it begins later.
            while ended < len(by_end) and by_end[ended].end - first.start < window:
                units += by_end[ended].cost
                ended += 1
            while by_start[left].start < first.start:
                units -= by_start[left].cost
                left += 1
            found.append(Span(key, first.start, units))
    return found


def unjustified(records: Iterable[Record], limit: int, window: float) -> list[Record]:
    """Return the denials for which there was room, even counting all that may have been in the window. O(n log n).

    That is each allowed request whose interval meets (start - window, end] of the denial: windows are half-open.
    """
    found = []
    for mine in _by_key(records).values():
        allowed = [record for record in mine if record.allowed]
        starts, begun = _totals((record.start, record.cost) for record in allowed)
        ends, gone = _totals((record.end, record.cost) for record in allowed)
        for record in mine:
            may_hold = begun[bisect_right(starts, record.end)] - gone[bisect_right(ends, record.start - window)]
            if not record.allowed and may_hold + record.cost <= limit:
                found.append(record)
    return found


def _by_key(records: Iterable[Record]) -> dict[str, list[Record]]:
    found = defaultdict(list)
    for record in records:
        found[record.key].append(record)
    return found


def _totals(costs: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Return the times in order, and the total of the first n costs for each n from 0."""
    ordered = sorted(costs)
    return [time for time, _ in ordered], [0, *accumulate(cost for _, cost in ordered)]
