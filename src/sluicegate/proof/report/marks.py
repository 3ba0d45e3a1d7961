"""What drawings are made of, in pixels from their upper left corner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

LETTER = 7.4  # a generous width of a letter at 12 px, for what font will be there is not known


class Axis(NamedTuple):
    """Where values stand: ``start`` at the pixel ``at``, each unit ``scale`` pixels on, none beyond the two ends."""

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
    """A text, and where it stands: ``x`` is its middle unless told otherwise, ``y`` its base line."""

    x: float
    y: float
    text: str

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where it may reach."""
        half = len(self.text) * LETTER / 2
        return self.x - half, self.x + half


def apart(labels: Iterable[Label]) -> list[Label]:
    """Return the labels of one line that do not touch one before them: the most telling come first."""
    kept: list[Label] = []
    for label in labels:
        left, right = label.ends
        if all(right + 2 < other.ends[0] or left - 2 > other.ends[1] for other in kept):
            kept.append(label)
    return kept
