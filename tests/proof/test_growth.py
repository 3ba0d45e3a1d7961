"""When a cost counts as linear: proportional costs do, bounded costs and noise do not."""

from __future__ import annotations

import math
from random import Random

import pytest

from sluicegate.proof.growth import Growth

SIZES = (10, 100, 1000, 8000)


def growth(costs) -> Growth:
    return Growth("time, µs", "limit", SIZES, list(costs))


@pytest.mark.parametrize("constant", [0.3, 1, 80])
@pytest.mark.parametrize("slope", [0.024, 0.1, 3])
def test_a_cost_in_proportion_to_the_size_is_linear(constant: float, slope: float):
    if slope * SIZES[-1] > 5 * constant:
        assert growth(constant + slope * size for size in SIZES).linear


@pytest.mark.parametrize(
    "costs",
    [
        (1, 1, 1, 1),
        (1, 2, 3, 3.9),  # a search
        (0.4, 0.41, 0.45, 0.9),  # a cache that overflows
        (80, 180, 75, 90),  # noise
        (80, 75, 180, 78),
        (200, 80, 80, 80),
        (229, 82.2, 94, 459),  # a busy machine, twice
        (90, 91, 82, 189),  # one bad measurement, at the largest size
    ],
)
def test_a_bounded_cost_or_noise_is_not_linear(costs: tuple[float, ...]):
    assert not growth(costs).linear


def test_noise_is_hardly_ever_called_linear_and_a_linear_cost_nearly_always():
    random = Random(1)

    def noise() -> float:
        return math.exp(random.gauss(0, 0.3))

    flat = sum(growth(50 * noise() for _ in SIZES).linear for _ in range(2000))
    steep = sum(growth((1 + 0.02 * size) * noise() for size in SIZES).linear for _ in range(2000))
    assert flat < 40  # and a case measures twice
    assert steep > 1800


def test_factors_list_the_cost_at_each_size():
    assert growth((1, 2, 3, 4)).factors == "1 at 10, 2 at 100, 3 at 1000, 4 at 8000"
    assert growth((1, 2, 3, 4)).factor == 4
