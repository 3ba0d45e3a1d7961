"""`judge`: decide from recorded answers whether a limiter kept its limit, giving it the benefit of every delay.

A caller does not see when its request is decided, only that it was between sending the request and reading the answer.
So a record is an interval, and the limiter fails only if the records show a fault wherever in their intervals the
decisions fell. It passes only if the records would have shown a fault. Anything else is `CaseVerdict.UNDECIDED`.
Windows are half-open, (t - window, t]. ``docs/explanation/verdicts.md`` has the proofs.

Every function takes O(n log n) for n records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from sluicegate.proof.history import History, Record
from sluicegate.proof.stalls import excused, quick, times
from sluicegate.proof.verdict import CaseVerdict, Finding


class Span(NamedTuple):
    """The units that were certainly allowed to ``key`` in less than a window from ``start`` on."""

    key: str
    start: float
    units: int


def over(records: Iterable[Record], limit: int, window: float) -> list[Span]:
    """Return the spans shorter than the window in which more than the limit was certainly allowed."""
    return [span for span in spans(records, window) if span.units > limit]


def spans(records: Iterable[Record], window: float) -> list[Span]:
    """Return the units certainly allowed in less than a window from the start of each allowed request.

    A request counts if its whole interval lies in the span. No other span holds more than the fullest of these.
    """
    found = []
    for key, mine in _by_key(record for record in records if record.allowed).items():
        by_start = sorted((r for r in mine if r.end - r.start < window), key=attrgetter("start"))
        by_end = sorted(by_start, key=attrgetter("end"))
        units = ended = left = 0
        for first in by_start:
            # A request is added by the time the span begins at its own start, and removed once the span begins later.
            while ended < len(by_end) and by_end[ended].end - first.start < window:
                units += by_end[ended].cost
                ended += 1
            while by_start[left].start < first.start:
                units -= by_start[left].cost
                left += 1
            found.append(Span(key, first.start, units))
    return found


class Owed(NamedTuple):
    """The answer that an exact limiter owed to one request.

    Attributes:
        record: The request, with the answer it really got.
        at_least: The fewest units its window can have held when it was decided.
        at_most: The most units its window can have held.
        answer: True or False if only that answer is right; None if the delays leave it open.
    """

    record: Record
    at_least: int
    at_most: int
    answer: bool | None


def owed(records: Iterable[Record], limit: int, window: float) -> list[Owed]:
    """Return the answer that an exact limiter owed to each request, in the order of their starts."""
    found = [each for mine in _by_key(records).values() for each in _owed(mine, mine, limit, window)]
    return sorted(found, key=lambda each: each.record.start)


def _owed(to: Iterable[Record], mine: Sequence[Record], limit: int, window: float) -> Iterator[Owed]:
    """Yield the answers owed to some requests of one key; ``mine`` are all requests of that key."""
    certain = _UnitsInWindow(r for r in mine if r.allowed)
    possible = _UnitsInWindow(r for r in mine if r.allowed is not False)
    for record in to:
        at_least = certain.certain(record.start, record.end, window)
        itself = record.cost if record.allowed is not False else 0
        at_most = possible.possible(record.start, record.end, window) - itself
        answer = True if at_most + record.cost <= limit else False if at_least + record.cost > limit else None
        yield Owed(record, at_least, at_most, answer)


def _owed_to_denials(records: Iterable[Record], limit: int, window: float) -> list[Owed]:
    return [
        each
        for mine in _by_key(records).values()
        for each in _owed((record for record in mine if record.allowed is False), mine, limit, window)
    ]


def unjustified(records: Iterable[Record], limit: int, window: float) -> list[Record]:
    """Return the denials for which there was room, even counting every request that may have been in the window.

    Those are the allowed and the unanswered requests whose interval meets (start - window, end] of the denial.
    """
    return [each.record for each in _owed_to_denials(records, limit, window) if each.answer]


class Judgement(NamedTuple):
    """The judgement on a history: whether the limiter was ever over its limit, and whether it denied without need."""

    never_over: Finding
    never_under: Finding

    @property
    def worst(self) -> Finding:
        """The finding that is worse for the limiter."""
        order = (CaseVerdict.FAILED, CaseVerdict.UNDECIDED, CaseVerdict.PASSED)
        return min(self, key=lambda finding: order.index(finding.verdict))


def judge(history: History) -> Judgement:
    """Judge a history: look for a window with more than the limit, and for a denial although there was room."""
    return Judgement(never_over(history), never_under(history))


def never_over(history: History) -> Finding:
    """Find out whether more than the limit was allowed in any window.

    It passes only if some window was certainly full: one more unit in it would have been seen. It fails only if some
    window held too much, and still does without the answers that a stall of the store explains.
    """
    over = _never_over(history, history.records)
    if over.verdict is not CaseVerdict.FAILED or not history.remote:
        return over
    certain = _never_over(history, quick(history.records))
    if certain.verdict is CaseVerdict.FAILED:
        return certain
    says = f"{over.says}. But {times(history.records).stall_of_any}"
    return replace(over, verdict=CaseVerdict.UNDECIDED, says=says)


def _never_over(history: History, records: Sequence[Record]) -> Finding:
    limit, window = history.limit, history.window
    found = spans(records, window)
    if not found:
        return Finding(CaseVerdict.UNDECIDED, "no request was allowed, so the limit was never reached", history)
    fullest = max(found, key=lambda span: span.units)
    last = _last_of(records, fullest, window)
    if fullest.units > limit:
        took = last.end - fullest.start
        says = (
            f"{fullest.units} units were allowed to {_shown(fullest.key)} within {_seconds(took, window)} s, less than "
            f"the window of {window:g} s; the limit is {limit}"
        )
        return Finding(CaseVerdict.FAILED, says, history, last)
    if fullest.units == limit:
        says = f"never more than {limit} units in less than a window, and exactly {limit} in the fullest one"
        return Finding(CaseVerdict.PASSED, says, history, last)
    says = (
        f"no window was certainly full: the fullest held {fullest.units} of {limit} units, as there were too few "
        f"requests or the answers took too long"
    )
    return Finding(CaseVerdict.UNDECIDED, says, history, last)


def never_over_in_spans(history: History, most: int) -> Finding:
    """Do the same for spans of up to ``most`` windows: k windows hold at most k times the limit.

    For answers that came late, as those to callers that wait: a unit may have been taken long before its caller was
    told, so that less than a window shows little, and several of them show more.
    """
    first = never_over(history)
    for windows in range(2, most + 1):
        if first.verdict is CaseVerdict.FAILED:
            break
        longer = never_over(replace(history, limit=windows * history.limit, window=windows * history.window))
        if longer.verdict is CaseVerdict.FAILED:
            return replace(longer, history=history)
    return first


def never_under(history: History) -> Finding:
    """Find out whether a request was denied although there was room for it.

    It passes only if some denial was certainly right. It fails only if some denial was wrong that no stall explains.
    """
    limit, window = history.limit, history.window
    denials = _owed_to_denials(history.records, limit, window)
    if not denials:
        return Finding(CaseVerdict.UNDECIDED, "no request was denied, so no denial could be checked", history)
    wrong = [each for each in denials if each.answer]
    if wrong:
        certain = [
            each
            for each in _owed_to_denials(excused(history.records, remote=history.remote), limit, window)
            if each.answer
        ]
        shown = certain or wrong
        worst = min(shown, key=lambda each: each.at_most)
        says = (
            f"{_shown(worst.record.key)} was denied {_cost(worst.record)}though its window held at most "
            f"{worst.at_most} of {limit} units; the answer took {_short(worst.record.end - worst.record.start)}. "
            f"{len(shown)} of {len(denials)} denials were unjustified"
        )
        if certain:
            return Finding(CaseVerdict.FAILED, says, history, worst.record)
        stalled = times(history.records)
        says = f"{says}. But {stalled.stall_of_any if history.remote else stalled.stall}"
        return Finding(CaseVerdict.UNDECIDED, says, history, worst.record)
    right = sum(each.answer is False for each in denials)
    says = f"{right} of {len(denials)} denials were certainly justified, and none certainly unjustified"
    return Finding(
        CaseVerdict.PASSED if right else CaseVerdict.UNDECIDED,
        says,
        history,
        max(denials, key=lambda each: each.record.end).record,
    )


def _short(took: float) -> str:
    return f"{took * 1000:.1f} ms" if took < 1 else f"{took:.2f} s"


def _cost(record: Record) -> str:
    return f"a cost of {record.cost} " if record.cost > 1 else ""


def _last_of(records: Sequence[Record], span: Span, window: float) -> Record:
    return max(
        (
            record
            for record in records
            if record.allowed and record.key == span.key and record.start >= span.start
            if record.end - span.start < window
        ),
        key=attrgetter("end"),
    )


def _seconds(took: float, window: float) -> str:
    """Write a span with as many digits as it takes to read as shorter than the window."""
    return next(text for digits in range(3, 18) if float(text := f"{took:.{digits}g}") < window)


def _shown(key: str) -> str:
    return repr(key if len(key) <= 40 else f"{key[:37]}...")


class _UnitsInWindow:
    """Counts the units of some records in a window, by prefix sums over their starts and over their ends."""

    def __init__(self, records: Iterable[Record]) -> None:
        mine = list(records)
        self._starts, self._begun = _totals((record.start, record.cost) for record in mine)
        self._ends, self._gone = _totals((record.end, record.cost) for record in mine)

    def possible(self, start: float, end: float, window: float) -> int:
        """Return the units that may be in (t - window, t] for some t in [start, end]: every interval that meets it."""
        return self._begun[bisect_right(self._starts, end)] - self._gone[bisect_right(self._ends, start - window)]

    def certain(self, start: float, end: float, window: float) -> int:
        """Return a lower bound of the units in (t - window, t] that holds for every t in [start, end].

        It is the cost of the requests that ended before ``start``, less that of those that began by ``end - window``.
        A request that took nearly a window may be in the second sum only: then the bound is too low, never too high.
        """
        ended, begun = bisect_left(self._ends, start), bisect_right(self._starts, end - window)
        return max(0, self._gone[ended] - self._begun[begun])


def _by_key(records: Iterable[Record]) -> dict[str, list[Record]]:
    found = defaultdict(list)
    for record in records:
        found[record.key].append(record)
    return found


def _totals(costs: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Return the times in order, and the total of the first n costs for each n from 0 on."""
    ordered = sorted(costs)
    return [time for time, _ in ordered], [0, *accumulate(cost for _, cost in ordered)]
