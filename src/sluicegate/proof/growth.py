"""`Growth`: a cost measured at several sizes, and whether it grows in proportion to the size.

Two curves are fitted by least squares, each with a constant part: ``a + b log n``, which fits a bounded cost and a
search, and ``a + b n``. The cost is linear if all of these hold: the straight line fits better; by that line the
growing part outweighs the constant part at the largest size; between the two largest sizes the cost grew by at least a
third of what the size did; and at no size did it fall by a quarter or more. Each condition is needed: noise may fit a
line by chance, but goes both ways; a cache that overflows has a small slope; and one jump is not a slope.
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
        of: The measured quantity with its unit: ``time of a decision, µs``.
        by: The quantity that was varied: ``limit``.
        sizes: The sizes it was set to: three or more, rising, each above 0.
        costs: The cost measured at each size.
    """

    of: str
    by: str
    sizes: Sequence[float]
    costs: Sequence[float]

    @property
    def factor(self) -> float:
        """The cost at the largest size divided by the cost at the smallest."""
        return self.costs[-1] / self.costs[0] if self.costs[0] > 0 else math.inf

    @property
    def linear(self) -> bool:
        """Whether the cost grows in proportion to the size, by the conditions above."""
        constant, slope, misfit = _line(self.sizes, self.costs)
        _, _, bounded = _line([math.log(size) for size in self.sizes], self.costs)
        rise = (self.costs[-1] / max(self.costs[-2], 1e-12) - 1) / (self.sizes[-1] / self.sizes[-2] - 1)
        falls = any(late < 0.75 * early for early, late in pairwise(self.costs))
        return not falls and misfit < bounded and slope * self.sizes[-1] > max(constant, 0.0) and rise >= _STEEP

    @property
    def factors(self) -> str:
        """One line with the cost at each size: ``1.3 at 10, 22 at 100``."""
        return ", ".join(f"{_short(cost)} at {size:g}" for size, cost in zip(self.sizes, self.costs, strict=True))


def _short(cost: float) -> str:
    return f"{cost:.3g}" if cost < 1000 else f"{cost:,.0f}".replace(",", " ")


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``a + b x`` by ordinary least squares; return a, b and the sum of the squared residuals."""
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread = math.fsum((x - mean_x) ** 2 for x in xs)
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    constant = mean_y - slope * mean_x
    misfit = math.fsum((y - constant - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return constant, slope, misfit
