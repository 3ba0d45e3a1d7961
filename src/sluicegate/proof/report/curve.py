"""Where each mark of a growth chart stands: a pure function from a `Growth` to numbers, which a template places.

Both axes are logarithmic, so that a cost in step with the size is a line of one slope: the dashed one. Where a cost is
0 it has no logarithm, and the axis of the costs is a plain one, without the dashed line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.proof.growth import Growth
from sluicegate.proof.report.marks import Axis, Label, apart
from sluicegate.proof.report.text import number

_LEFT, _RIGHT, _TOP, _FLOOR, _FOOT = 34.0, 40.0, 30.0, 150.0, 26.0
_ROOM = 12.0  # between a point and the axis of the sizes
_DECADE = math.log(10)  # the least that the axis of the costs spans: what hardly grows should look flat


@dataclass(frozen=True, slots=True)
class Curve:
    """All that is drawn.

    Attributes:
        width: Of the drawing.
        height: Of the drawing.
        linear: Whether the cost grows with the size.
        points: One for each size.
        steady: The two ends of a line in step with the size; empty where the costs have no logarithm.
        costs: Labels above the points, as far as there is place.
        sizes: Labels below the axis, the same.
        floor: Where the axis of sizes stands.
        describes: The drawing in words, for who does not see it.
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
    """Return where everything of a growth stands in a drawing of that width, 300 px or more."""
    sizes, logarithmic = [math.log(size) for size in growth.sizes], all(cost > 0 for cost in growth.costs)
    costs = [math.log(cost) for cost in growth.costs] if logarithmic else list(growth.costs)
    x = Axis(sizes[0], _LEFT, (width - _LEFT - _RIGHT) / (sizes[-1] - sizes[0]), (_LEFT, width - _RIGHT))
    low, spread = min(costs), max(max(costs) - min(costs), _DECADE if logarithmic else 1e-9)
    y = Axis(low, _FLOOR - _ROOM, -(_FLOOR - _ROOM - _TOP) / spread, (_TOP, _FLOOR))
    points = tuple((x(size), y(cost)) for size, cost in zip(sizes, costs, strict=True))
    run = min(sizes[-1] - sizes[0], low + spread - costs[0])  # in step, both axes go on by the same
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
    # The last counts most, then the first.
    return tuple(apart([labels[-1], *labels[:-1]]))
