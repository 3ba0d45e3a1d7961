"""Lay out a growth chart: a pure function from a `Growth` to the positions that a template draws.

Both axes are logarithmic, so that every cost in proportion to the size has the slope of the dashed line. A cost of 0
has no logarithm: then the axis of the costs is linear, and there is no dashed line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.proof.growth import Growth
from sluicegate.proof.report.marks import Axis, Label, without_overlaps
from sluicegate.proof.text import number

_LEFT, _RIGHT, _TOP, _FLOOR, _FOOT = 34.0, 40.0, 30.0, 150.0, 26.0
_ROOM = 12.0  # between a point and the axis of the sizes
_DECADE = math.log(10)  # the axis of the costs spans at least this, so that a cost that hardly grows looks flat


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
    floor: float
    describes: str


def draw(growth: Growth, width: int) -> Curve:
    """Return the layout of a chart of that width, which must be 300 px or more."""
    sizes, logarithmic = [math.log(size) for size in growth.sizes], all(cost > 0 for cost in growth.costs)
    costs = [math.log(cost) for cost in growth.costs] if logarithmic else list(growth.costs)
    x = Axis(sizes[0], _LEFT, (width - _LEFT - _RIGHT) / (sizes[-1] - sizes[0]), (_LEFT, width - _RIGHT))
    low, spread = min(costs), max(max(costs) - min(costs), _DECADE if logarithmic else 1e-9)
    y = Axis(low, _FLOOR - _ROOM, -(_FLOOR - _ROOM - _TOP) / spread, (_TOP, _FLOOR))
    points = tuple((x(size), y(cost)) for size, cost in zip(sizes, costs, strict=True))
    run = min(sizes[-1] - sizes[0], low + spread - costs[0])  # in proportion, both logarithms grow equally
    steady = (points[0], (x(sizes[0] + run), y(costs[0] + run)))
    return Curve(
        width=width,
        height=_FLOOR + _FOOT,
        linear=growth.linear,
        points=points,
        steady=steady if logarithmic else (),
        costs=_labels([(px, py - 10) for px, py in points], growth.costs),
        sizes=_labels([(px, _FLOOR + 17) for px, _ in points], growth.sizes),
        floor=_FLOOR,
        describes=f"{growth.of}, by {growth.by}: {growth.factors}.",
    )


def _labels(places: list[tuple[float, float]], values: Sequence[float]) -> tuple[Label, ...]:
    labels = [Label(x, y, number(value)) for (x, y), value in zip(places, values, strict=True)]
    # If not all fit, the last value matters most, then the first.
    return tuple(without_overlaps([labels[-1], *labels[:-1]]))
