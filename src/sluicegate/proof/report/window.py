"""The part of a history that a report draws: the window that shows a finding best, and what was counted in it.

What is said of it errs for the limiter, as in `sluicegate.proof.judge`: before an allowed request only the units are
counted that were certainly allowed within the window, and before a denial all that may have been.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import NamedTuple

from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import spans
from sluicegate.proof.report.text import number, seconds, shorter

_BEFORE, _AFTER = 1.15, 0.15  # of a window: what is drawn before the record and after it
_MARGIN = 0.04  # of what is drawn, left free on either side


@dataclass(frozen=True, slots=True)
class Window:
    """What to draw of one key. Times are seconds on the clock of the records.

    Attributes:
        key: Whose requests they are.
        limit: Units per window.
        window: Seconds.
        begin: Where the drawing begins.
        end: And ends, later than ``begin``.
        records: The requests of the key in that part, by their end.
        left_out: Its requests before and after.
        first: Where the span begins that is pointed out: less than a window, or a whole one before a denial.
        last: And ends.
        units: Counted in that span.
        fault: Whether that is more than the limit, or leaves room for what was denied.
        says: The span and its count, in two lines.
        certain: Whether ``units`` and ``held`` count what was certainly allowed; else, what may have been.
        held: Each time at which the units of the window that ends there change, with the new number; rising, the first
            at ``begin``.
    """

    key: str
    limit: int
    window: float
    begin: float
    end: float
    records: tuple[Record, ...]
    left_out: int
    first: float
    last: float
    units: int
    fault: bool
    says: tuple[str, str]
    certain: bool
    held: tuple[tuple[float, int], ...]


class _Count(NamedTuple):
    """What was counted; see `Window` for the fields, and ``changes`` are times with the units that come or go."""

    first: float
    last: float
    units: int
    fault: bool
    says: tuple[str, str]
    certain: bool
    changes: Iterable[tuple[float, int]]


def worst(history: History, at: Record | None) -> Window | None:
    """Return the window that ends with ``at``, or without one the fullest; None where that request had no answer."""
    at = at or _fullest(history)
    if at is None or at.allowed is None:
        return None
    mine = sorted((record for record in history.records if record.key == at.key), key=attrgetter("end"))
    count = _certainly_allowed(history, mine, at) if at.allowed else _at_most_allowed(history, mine, at)
    earliest, latest = at.end - _BEFORE * history.window, at.end + _AFTER * history.window
    drawn = tuple(record for record in mine if record.end >= earliest and record.start <= latest)
    # No wider than what there is to see: of a burst within a minute's first millisecond nothing else would be seen.
    begin = min(count.first, max(earliest, min(record.start for record in drawn)))
    end = max(count.last, min(latest, max(record.end for record in drawn)))
    margin = max((end - begin) * _MARGIN, 1e-6)
    return Window(
        key=at.key,
        limit=history.limit,
        window=history.window,
        begin=begin - margin,
        end=end + margin,
        records=drawn,
        left_out=len(mine) - len(drawn),
        first=count.first,
        last=count.last,
        units=count.units,
        fault=count.fault,
        says=count.says,
        certain=count.certain,
        held=_held(count.changes, begin - margin, end + margin),
    )


def _fullest(history: History) -> Record | None:
    """Return the last request of the span that holds the most; where nothing was allowed, the last of all."""
    allowed = [record for record in history.records if record.allowed]
    span = max(spans(allowed, history.window), key=attrgetter("units"), default=None)
    if span is None:
        return max(history.records, key=attrgetter("end"), default=None)
    inside = (r for r in allowed if r.key == span.key and r.start >= span.start and r.end - span.start < history.window)
    return max(inside, key=attrgetter("end"))


def _certainly_allowed(history: History, mine: Sequence[Record], at: Record) -> _Count:
    window, limit = history.window, history.limit
    counted = [r for r in mine if r.allowed and r.end <= at.end and at.end - r.start < window] or [at]
    units, first = sum(record.cost for record in counted), min(record.start for record in counted)
    says = (
        f"{shorter(at.end - first, window)}, less than the window of {seconds(window)}:",
        f"{number(units)} allowed, limit {number(limit)}",
    )
    # Where an answer took a whole window, it left before it came: it is certain in no window.
    certain = [record for record in mine if record.allowed and record.end - record.start < window]
    changes = [(r.end, r.cost) for r in certain] + [(r.start + window, -r.cost) for r in certain]
    return _Count(first, at.end, units, units > limit, says, True, changes)


def _at_most_allowed(history: History, mine: Sequence[Record], at: Record) -> _Count:
    window, limit = history.window, history.limit
    before = at.start - window
    asked = [record for record in mine if record.allowed is not False]
    units = sum(record.cost for record in asked if record is not at and record.start <= at.end and record.end > before)
    room = units + at.cost <= limit
    what = "denied" if at.cost == 1 else f"a cost of {number(at.cost)} denied"
    says = (
        f"{what}{', though' if room else ';'} in the {seconds(window)} before",
        f"at most {number(units)} {'was' if units == 1 else 'were'} allowed, limit {number(limit)}",
    )
    changes = [(r.start, r.cost) for r in asked] + [(r.end + window, -r.cost) for r in asked]
    return _Count(before, at.start, units, room, says, False, changes)


def _held(changes: Iterable[tuple[float, int]], begin: float, end: float) -> tuple[tuple[float, int], ...]:
    ordered = sorted(changes)
    totals = accumulate(change for _, change in ordered)
    # Of several changes at one time the last total holds: what leaves and what comes then were never there together.
    at_times = dict(zip(map(itemgetter(0), ordered), totals, strict=True))
    before = [total for time, total in at_times.items() if time <= begin]
    within = ((time, total) for time, total in at_times.items() if begin < time <= end)
    return ((begin, before[-1] if before else 0), *within)
