"""Lay out a growth chart: a pure function from a `Growth` to the positions that a template draws.

Both axes are logarithmic, so that every cost in proportion to the size has the slope of the dashed line; the axis of
the costs is long enough for all of that line. A cost of 0 has no logarithm: then the axis of the costs is linear, and
there is no dashed line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sluicegate.proof.growth import Growth
from sluicegate.proof.report.marks import LETTER, Axis, Label, round_up, without_overlaps
from sluicegate.proof.text import number

_LEFT, _RIGHT, _TOP, _FLOOR, _FOOT = 14.0, 34.0, 44.0, 196.0, 44.0
_ROOM = 10.0  # between the points and the edges of the plot
_LEAST = 18.0  # the least distance of two ticks of the costs


@dataclass(frozen=True, slots=True)
class Curve:
    """The positions of everything in the chart, in pixels.

    Attributes:
        width: The width of the drawing.
        height: The height of the drawing.
        linear: Whether the cost grows in proportion to the size.
        points: One point for each size.
        steady: The two ends of a line in proportion to the size; empty if a cost has no logarithm.
        costs: Labels above the points, as many as fit.
        sizes: Labels below the axis, as many as fit.
        ticks: Labels of the axis of the costs; ``x`` is their right end, and ``y`` is 4 px below the height they name.
        unit: The label above that axis; ``x`` is its left end.
        by: The label below the axis of sizes; ``x`` is its right end.
        left: The left end of the plot.
        right: The right end of the plot.
        floor: The height of the axis of sizes.
        describes: The drawing in words, for screen readers.
    """

    width: float
    height: float
    linear: bool
    points: tuple[tuple[float, float], ...]
    steady: tuple[tuple[float, float], ...]
    costs: tuple[Label, ...]
    sizes: tuple[Label, ...]
    ticks: tuple[Label, ...]
    unit: Label
    by: Label
    left: float
    right: float
    floor: float
    describes: str


def draw(growth: Growth, width: int) -> Curve:
    """Return the layout of a chart of that width, which must be 300 px or more."""
    logarithmic = all(cost > 0 for cost in growth.costs)
    ratio = growth.sizes[-1] / growth.sizes[0]
    in_proportion = (growth.costs[0], growth.costs[0] * ratio) if logarithmic else ()
    low, high = min((*growth.costs, *in_proportion)), max((*growth.costs, *in_proportion))
    ticks = _decades(low, high) if logarithmic else _even_steps(high)
    left = _LEFT + max(len(number(tick)) for tick in ticks) * LETTER
    right = width - _RIGHT
    x = _axis(growth.sizes, (left + _ROOM, right), logarithmic=True)
    y = _axis((min(low, ticks[0]), high), (_FLOOR - _ROOM, _TOP), logarithmic=logarithmic)
    points = tuple((x(size), y(cost)) for size, cost in zip(growth.sizes, growth.costs, strict=True))
    _, _, unit = growth.of.rpartition(", ")
    return Curve(
        width=width,
        height=_FLOOR + _FOOT,
        linear=growth.linear,
        points=points,
        steady=(points[0], (points[-1][0], y(in_proportion[1]))) if in_proportion else (),
        costs=_labels([(px, py - 10) for px, py in points], growth.costs),
        sizes=_labels([(px, _FLOOR + 17) for px, _ in points], growth.sizes),
        ticks=tuple(_apart(Label(left - 6, y(tick) + 4, number(tick)) for tick in ticks)),
        unit=Label(0.0, _TOP - 24, unit),
        by=Label(right, _FLOOR + 36, growth.by),
        left=left,
        right=right,
        floor=_FLOOR,
        describes=f"{growth.of}, by {growth.by}: {growth.factors}.",
    )


def _axis(values: Sequence[float], ends: tuple[float, float], *, logarithmic: bool) -> Callable[[float], float]:
    scaled = math.log if logarithmic else float
    first, last = scaled(values[0]), scaled(values[-1])
    axis = Axis(first, ends[0], (ends[1] - ends[0]) / (last - first or 1.0), (min(ends), max(ends)))
    return lambda value: axis(scaled(value))


def _decades(low: float, high: float) -> list[float]:
    """Return the powers of ten from just below the lowest cost on, up to the highest."""
    first = math.floor(math.log10(low))
    return [10.0**power for power in range(first, math.floor(math.log10(high)) + 1)]


def _even_steps(high: float) -> list[float]:
    """Return 0 and up to four round steps, up to the highest cost."""
    if high <= 0:
        return [0.0]
    step = round_up(high / 4)
    return [step * number_ for number_ in range(int(high / step) + 1)]


def _apart(labels: Iterable[Label]) -> Iterator[Label]:
    """Yield the labels, from the lowest on, that are not too close to the one before."""
    last = math.inf
    for label in labels:
        if last - label.y >= _LEAST:
            last = label.y
            yield label


def _labels(places: list[tuple[float, float]], values: Sequence[float]) -> tuple[Label, ...]:
    labels = [Label(x, y, number(value)) for (x, y), value in zip(places, values, strict=True)]
    # If not all fit, the last value matters most, then the first.
    return tuple(without_overlaps([labels[-1], *labels[:-1]]))
