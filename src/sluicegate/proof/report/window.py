"""`Window`: the part of a history that a report draws, the window that shows a finding best, with its units counted.

As in `sluicegate.proof.judge`, the limiter gets the benefit of the doubt: before an allowed request only units count
that were certainly allowed in the window, before a denial all units that may have been.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import spans
from sluicegate.proof.text import number, seconds, shorter

_CONTEXT = 0.15  # the part of the highlighted span that is drawn before it and after it
_MARGIN = 0.04  # the part of the drawing that stays free on either side


@dataclass(frozen=True, slots=True)
class Window:
    """The requests of one key to draw. Times are seconds on the clock of the records.

    Attributes:
        key: The key.
        limit: Units per window.
        window: Seconds.
        begin: The start of the drawing.
        end: The end of the drawing, later than ``begin``.
        records: The requests of the key in that time, by their end.
        left_out: The number of its requests before and after.
        first: The start of the highlighted span: less than a window, or a whole window before a denial.
        last: The end of the highlighted span.
        units: The units counted in that span.
        fault: Whether that is more than the limit, or leaves room for the denied request.
        says: The span and its count, in two lines.
        certain: Whether ``units`` and ``held`` count units that were certainly allowed; else those that may have been.
        held: The times, rising and beginning with ``begin``, at which the units in the window that ends there change,
            each with the new number.
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


class _Change(NamedTuple):
    """Units that come or go: when they are counted to, and when they may have done so as well."""

    time: float
    units: int
    other: float


class _Count(NamedTuple):
    """The counted units. `Window` describes the fields; ``changes`` are the units that come or go."""

    first: float
    last: float
    units: int
    fault: bool
    says: tuple[str, str]
    certain: bool
    changes: Sequence[_Change]


def worst(history: History, at: Record | None) -> Window | None:
    """Return the window that ends with ``at``, or the fullest one without it; None if that request had no answer."""
    at = shown_record(history, at)
    if at is None or at.allowed is None:
        return None
    mine = sorted((record for record in history.records if record.key == at.key), key=attrgetter("end"))
    count = _certainly_allowed(history, mine, at) if at.allowed else _at_most_allowed(history, mine, at)
    context = _CONTEXT * (count.last - count.first or history.window)
    earliest, latest = count.first - context, count.last + context
    drawn = tuple(record for record in mine if record.end >= earliest and record.start <= latest)
    # No wider than the requests: a burst in the first millisecond of a minute would otherwise be a single mark.
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
        held=_held(_at_one_moment(count), begin - margin, end + margin),
    )


def shown_record(history: History, at: Record | None) -> Record | None:
    """Return ``at``, or the last request of the fullest window without it; None if there are no requests."""
    return at or _fullest(history)


def _fullest(history: History) -> Record | None:
    """Return the last request of the fullest span; if nothing was allowed, the last request of all."""
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
    # A request that took a whole window is not certainly in any window.
    certain = [record for record in mine if record.allowed and record.end - record.start < window]
    changes = [_Change(r.end, r.cost, r.start) for r in certain]
    changes += [_Change(r.start + window, -r.cost, r.end + window) for r in certain]
    return _Count(first, at.end, units, units > limit, says, True, changes)


def _at_most_allowed(history: History, mine: Sequence[Record], at: Record) -> _Count:
    window, limit = history.window, history.limit
    before = at.start - window
    possible = [record for record in mine if record.allowed is not False]
    units = sum(r.cost for r in possible if r is not at and r.start <= at.end and r.end > before)
    room = units + at.cost <= limit
    what = "denied" if at.cost == 1 else f"a cost of {number(at.cost)} denied"
    says = (
        f"{what}{', though' if room else ';'} in the {seconds(window)} before",
        f"at most {number(units)} {'was' if units == 1 else 'were'} allowed, limit {number(limit)}",
    )
    changes = [_Change(r.start, r.cost, r.end) for r in possible]
    changes += [_Change(r.end + window, -r.cost, r.start + window) for r in possible]
    return _Count(before, at.start, units, room, says, False, changes)


def _at_one_moment(count: _Count) -> list[_Change]:
    """Return the changes, with units that leave as others come at the moment of the later of the two.

    Taken as they are, the coming ones may seem to meet the leaving ones, or to leave a gap, for about as long as an
    answer took. Both may have happened at one moment if their intervals overlap.
    """
    ordered = sorted(count.changes)
    moved, waiting = list(ordered), deque[int]()
    for at, change in enumerate(ordered):
        if (change.units < 0) is count.certain:  # what is counted first where the intervals overlap
            waiting.append(at)
            continue
        while waiting and not _may_be_together(ordered[waiting[0]], change):
            waiting.popleft()
        if waiting and (ordered[waiting[0]].time > count.last or change.time <= count.last):
            first = waiting.popleft()
            moved[first] = ordered[first]._replace(time=change.time)
    return moved


def _may_be_together(first: _Change, second: _Change) -> bool:
    coming = first if first.units > 0 else second
    # A unit that came slowly may leave long after it is counted to: nothing is drawn for so long that was not so.
    return second.other <= first.other and second.time - first.time <= 2 * abs(coming.other - coming.time)


def _held(changes: Iterable[_Change], begin: float, end: float) -> tuple[tuple[float, int], ...]:
    ordered = sorted(changes)
    totals = accumulate(change.units for change in ordered)
    # Of several changes at one time only the last total counts: units that leave then never met those that come.
    at_times = dict(zip(map(attrgetter("time"), ordered), totals, strict=True))
    before = [total for time, total in at_times.items() if time <= begin]
    within = ((time, total) for time, total in at_times.items() if begin < time <= end)
    return ((begin, before[-1] if before else 0), *within)
