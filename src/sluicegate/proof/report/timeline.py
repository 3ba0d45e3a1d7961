"""Lay out a time line: a pure function from a `Window` to the positions that a template draws.

At the top is a row for each kind of answer. A tick marks the time of an answer and is as high as its units; a hair
leads to it from the time that the request was sent. Below, on the same axis, stand the units counted in the window that
ends there. Numbers are pixels from the upper left corner. Ticks that would touch become one, labelled with its units:
so there are never more ticks than fit side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple

from sluicegate.proof.history import Record
from sluicegate.proof.report.marks import LETTER, Axis, Box, Label, round_up, without_overlaps
from sluicegate.proof.report.window import Window
from sluicegate.proof.text import counted, number, seconds

WIDE, NARROW = 680, 330
_GUTTER, _MARGIN = 70, 14  # left and right of the plot: names of the rows, and half a label of the axis
_HEAD, _ROW, _GAP, _STEPS, _FOOT = 46, 42, 30, 84, 26  # heights from top to bottom
_TICK, _APART = 3.0, 6.0  # the width of a tick; and that of several in one, the least distance of two ticks
_LOWEST, _HIGHEST = 9.0, 24.0  # a tick's height


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick for one or several answers.

    Attributes:
        box: The tick itself.
        hair: A line from when the first request was sent to the last answer; None if the tick hides it.
        label: The number of units, if it is more than one and the label fits.
        says: A description in one line.
        gone: Whether its units had left the span before a denial, so that they are not counted there.
    """

    box: Box
    hair: Box | None
    label: Label | None
    says: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Row:
    """The answers of one kind.

    Attributes:
        kind: ``allowed``, ``denied`` or ``unknown``: a class in the style sheet.
        name: The name for people.
        base: The height on which its ticks stand.
        ticks: The ticks from left to right.
    """

    kind: str
    name: str
    base: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The positions of everything in the drawing, in pixels.

    Attributes:
        width: The width of the drawing.
        height: The height of the drawing.
        plot: The area with the time axis: rows and steps together.
        rows: One for each kind of answer.
        span: The highlighted span, as high as the plot.
        says: The two lines of text above the span.
        fault: Whether the span shows a fault.
        counts: The label of the steps; ``x`` is its left end.
        steps: The corners of the line of units, from left to right.
        floor: The height of 0 units.
        limit: The height of the limit.
        over: The parts of the steps that were certainly over the limit.
        units: The labels left of the steps; ``x`` is their right end.
        times: The labels below the axis.
        describes: The drawing in words, for screen readers.
    """

    width: float
    height: float
    plot: Box
    rows: tuple[Row, ...]
    span: Box
    says: tuple[Label, ...]
    fault: bool
    counts: Label
    steps: tuple[tuple[float, float], ...]
    floor: float
    limit: float
    over: tuple[Box, ...]
    units: tuple[Label, ...]
    times: tuple[Label, ...]
    describes: str


def draw(window: Window, width: int = WIDE) -> Timeline:
    """Return the layout of a drawing of that width, which must be 300 px or more."""
    left, right = float(_GUTTER), float(width - _MARGIN)
    x = Axis(window.begin, left, (right - left) / (window.end - window.begin), (left, right))
    rows = tuple(_rows(window, x))
    top = float(_HEAD + _ROW * len(rows) + _GAP)
    floor = top + _STEPS
    most = max(window.limit, *(units for _, units in window.held))
    y = Axis(0.0, floor, -_STEPS / most, (top, floor))
    runs = list(_runs([(x(time), units) for time, units in window.held], right))
    span_left, span_right = x(window.first), x(window.last)
    span = Box(min(span_left, right - _TICK), _HEAD - 6.0, max(span_right - span_left, _TICK), floor - _HEAD + 6.0)
    return Timeline(
        width=width,
        height=floor + _FOOT,
        plot=Box(left, float(_HEAD), right - left, floor - _HEAD),
        rows=rows,
        span=span,
        says=tuple(_says(window.says, span, width)),
        fault=window.fault,
        counts=_beside(span, Label(left + 4, top - 9.0, _counts(window)), right),
        steps=tuple((end, y(run.units)) for run in runs for end in (run.left, run.right)),
        floor=floor,
        limit=y(window.limit),
        over=tuple(_over(run, y, window.limit) for run in runs if window.certain and run.units > window.limit),
        units=tuple(_unit_labels(y, window.limit, most, left - 6.0)),
        times=tuple(_time_labels(window.end - window.begin, left, right, floor + 17)),
        describes=_describes(window),
    )


def _rows(window: Window, x: Axis) -> Iterator[Row]:
    """Yield the rows. The row "no answer" is there only if some request had none."""
    kinds: dict[bool | None, tuple[str, str]] = {True: ("allowed", "allowed"), False: ("denied", "denied")}
    if any(record.allowed is None for record in window.records):
        kinds[None] = ("unknown", "no answer")
    groups = {answer: list(_groups(window, answer, x)) for answer in kinds}
    most = max((_units(group) for found in groups.values() for group in found), default=1)
    for number_, (answer, (kind, name)) in enumerate(kinds.items(), 1):
        base = float(_HEAD + _ROW * number_)
        bare: list[Tick] = []
        for group in groups[answer]:
            before = bare[-1].box.left + bare[-1].box.width if bare else 0.0
            bare.append(_tick(group, window, x, base, most, before=before))
        yield Row(kind, name, base, tuple(_labelled(bare, groups[answer])))


def _groups(window: Window, answer: bool | None, x: Axis) -> Iterator[list[Record]]:
    """Yield the records with that answer, grouped where their ticks would touch; no group crosses the span's start."""
    group: list[Record] = []
    for record in sorted((r for r in window.records if r.allowed is answer), key=_at):
        if group and (x(_at(record)) - x(_at(group[0])) >= _APART or _gone(record, window) != _gone(group[0], window)):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _at(record: Record) -> float:
    """Return the time of its tick: when the answer arrived or, without one, when the request was sent."""
    return record.start if record.allowed is None else record.end


def _gone(record: Record, window: Window) -> bool:
    """Tell whether its units had left the window before a denial. Windows are half-open: at the edge they have left."""
    return not window.certain and record.allowed is not False and record.end <= window.first


def _units(group: Sequence[Record]) -> int:
    return sum(record.cost for record in group)


def _tick(group: Sequence[Record], window: Window, x: Axis, base: float, most: int, *, before: float) -> Tick:
    units = _units(group)
    height = _HIGHEST if most == 1 else _LOWEST + (_HIGHEST - _LOWEST) * units / most
    first, last = x(_at(group[0])), x(_at(group[-1]))
    left = max(first - _TICK / 2, before)
    right = max(min(last + _TICK / 2, first - _TICK / 2 + _APART), left + _TICK)
    hair_left, hair_right = x(min(record.start for record in group)), x(max(record.end for record in group))
    hair = Box(hair_left, base - 5, hair_right - hair_left, 1.5)
    hidden = hair_left >= left - 1 and hair_right <= right + 1
    at = seconds(max(_at(group[0]) - window.begin, 0.0))
    says = f"{at}: {counted(len(group), 'request')}, {counted(units, 'unit')}"
    gone = _gone(group[0], window)
    return Tick(Box(left, base - height, right - left, height), None if hidden else hair, None, says, gone)


def _labelled(ticks: Sequence[Tick], groups: Sequence[Sequence[Record]]) -> Iterator[Tick]:
    """Yield the ticks with the labels that fit; larger numbers go first."""
    wanted = []
    for tick, units in zip(ticks, map(_units, groups), strict=True):
        label = Label(tick.box.left + tick.box.width / 2, tick.box.top - 4, number(units))
        if units > 1 and not any(_covers(other.box, label) for other in ticks):
            wanted.append((units, label))
    kept = {label.x: label for label in without_overlaps(label for _, label in sorted(wanted, reverse=True))}
    for tick in ticks:
        yield replace(tick, label=kept.get(tick.box.left + tick.box.width / 2))


def _covers(box: Box, label: Label) -> bool:
    left, right = label.ends
    return box.top < label.y and box.left < right and box.left + box.width > left


class _Run(NamedTuple):
    """A stretch of the steps at one height."""

    left: float
    right: float
    units: int


def _runs(changes: Sequence[tuple[float, int]], right: float) -> Iterator[_Run]:
    """Yield the steps. Of those on one pixel keep the highest, so that no peak is lost, and the last."""
    kept = []
    for _, same in groupby(changes, key=lambda change: round(change[0])):
        group = list(same)
        highest = max(units for _, units in group)
        kept += [(group[0][0], highest), group[-1]] if highest != group[-1][1] else [(group[0][0], highest)]
    for (left, units), (end, _) in pairwise([*kept, (right, 0)]):
        yield _Run(left, end, units)


def _beside(span: Box, label: Label, right: float) -> Label:
    """Move a label that begins at ``x`` to a place where no edge of the span crosses it, if there is one."""
    edges, width = (span.left, span.left + span.width), len(label.text) * LETTER
    for x in (label.x, *(edge + 6 for edge in edges)):
        if x + width <= right and not any(x - 2 < edge < x + width for edge in edges):
            return label._replace(x=x)
    return label


def _over(run: _Run, y: Axis, limit: int) -> Box:
    return Box(run.left, y(run.units), max(run.right - run.left, 1.5), y(limit) - y(run.units))


def _says(lines: tuple[str, str], span: Box, width: float) -> Iterator[Label]:
    half = max(len(line) for line in lines) * LETTER / 2
    middle = min(max(span.left + span.width / 2, half), width - half)
    for line, text in enumerate(lines):
        yield Label(middle, 14.0 + 17 * line, text)


def _unit_labels(y: Axis, limit: int, most: int, x: float) -> Iterator[Label]:
    """Yield the labels of the limit, the most and 0, without those that would touch an earlier one."""
    limit_text = f"limit {number(limit)}"
    taken: list[float] = []
    for units, text in (
        (limit, limit_text if len(limit_text) * LETTER < x else number(limit)),
        (most, number(most)),
        (0, "0"),
    ):
        if all(abs(y(units) - other) > 14 for other in taken):
            taken.append(y(units))
            yield Label(x, y(units) + 4, text)


def _time_labels(span: float, left: float, right: float, y: float) -> Iterator[Label]:
    """Yield labels at round times, each with a unit."""
    scale, unit = (1.0, "s") if span >= 0.5 else (1e3, "ms") if span >= 5e-4 else (1e6, "µs")
    step = round_up(span * scale * 64 / (right - left))
    for index in range(int(span * scale / step) + 1):
        text = f"{number(index * step, 6)} {unit}" if index else "0"
        x = left + index * step / (span * scale) * (right - left)
        if x + len(text) * LETTER / 2 <= right + _MARGIN:
            yield Label(x, y, text)


def _describes(window: Window) -> str:
    answers = Counter(record.allowed for record in window.records)
    unknown = f", {number(answers[None])} without an answer" if answers[None] else ""
    most = max(units for _, units in window.held)
    return (
        f"{counted(len(window.records), 'request')} in {seconds(window.end - window.begin)}: "
        f"{number(answers[True])} allowed, {number(answers[False])} denied{unknown}. {' '.join(window.says)}. "
        f"Units {_counts(window)}: up to {number(most)}."
    )


def _counts(window: Window) -> str:
    return f"{'certainly' if window.certain else 'at most'} allowed in the last {seconds(window.window)}"
