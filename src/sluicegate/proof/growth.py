"""How a cost grows: fit what was measured at several sizes, and say whether it grows with the size itself.

Two shapes are fitted by least squares, each with the constant part that every call has: ``a + b log n``, which a
bounded cost and a search both keep to, and ``a + b n``. A cost is called linear where all of these hold: the straight
line fits better; by that line the part that grows outweighs the constant part at the largest size; between the two
largest sizes the cost grew by at least a third of what the size did; and at no size did it fall by a quarter or more.
Each is needed: noise fits a line by chance and goes both ways, a small slope is a cache that overflows, and a jump at
one size is neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_STEEP = 1 / 3


@dataclass(frozen=True, slots=True)
class Growth:
    """A cost measured at several sizes.

    Attributes:
        of: What was measured, with its unit: ``time of a decision, µs``.
        by: What grew: ``limit``.
        sizes: Rising, three or more, each above 0.
        costs: What was measured at each.
    """

    of: str
    by: str
    sizes: Sequence[float]
    costs: Sequence[float]

    @property
    def factor(self) -> float:
        """How many times the cost at the smallest size the one at the largest is."""
        return self.costs[-1] / self.costs[0] if self.costs[0] > 0 else math.inf

    @property
    def linear(self) -> bool:
        """Whether the cost grows with the size itself; see the module for what that takes."""
        constant, slope, misfit = _line(self.sizes, self.costs)
        _, _, bounded = _line([math.log(size) for size in self.sizes], self.costs)
        rise = (self.costs[-1] / max(self.costs[-2], 1e-12) - 1) / (self.sizes[-1] / self.sizes[-2] - 1)
        falls = any(late < 0.75 * early for early, late in pairwise(self.costs))
        return not falls and misfit < bounded and slope * self.sizes[-1] > max(constant, 0.0) and rise >= _STEEP

    @property
    def factors(self) -> str:
        """Say it in a line: each size with its cost."""
        return ", ".join(f"{_short(cost)} at {size:g}" for size, cost in zip(self.sizes, self.costs, strict=True))


def _short(cost: float) -> str:
    return f"{cost:.3g}" if cost < 1000 else f"{cost:,.0f}".replace(",", " ")


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``a + b x`` and return a, b and the sum of the squares that it misses by. Source: ordinary least squares."""
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread = math.fsum((x - mean_x) ** 2 for x in xs)
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    constant = mean_y - slope * mean_x
    misfit = math.fsum((y - constant - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return constant, slope, misfit
