"""The building blocks of drawings: axes, boxes and labels, in pixels from the upper left corner."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

LETTER = 7.4  # a generous width of a letter at 12 px, as the reader's font is not known


class Axis(NamedTuple):
    """Maps values to pixels: ``start`` to ``at``, then ``scale`` pixels a unit, never beyond the two ends."""

    start: float
    at: float
    scale: float
    ends: tuple[float, float]

    def __call__(self, value: float) -> float:
        low, high = self.ends
        return min(max(self.at + (value - self.start) * self.scale, low), high)


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    width: float
    height: float


class Label(NamedTuple):
    """A text and its position: ``x`` is its middle unless its user says otherwise, ``y`` its base line."""

    x: float
    y: float
    text: str

    @property
    def ends(self) -> tuple[float, float]:
        """The positions that it may reach on the left and on the right."""
        half = len(self.text) * LETTER / 2
        return self.x - half, self.x + half


def without_overlaps(labels: Iterable[Label]) -> list[Label]:
    """Return the labels of one line that do not touch an earlier one. Give the most important ones first."""
    kept: list[Label] = []
    for label in labels:
        left, right = label.ends
        if all(right + 2 < other.ends[0] or left - 2 > other.ends[1] for other in kept):
            kept.append(label)
    return kept


def round_up(value: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))
