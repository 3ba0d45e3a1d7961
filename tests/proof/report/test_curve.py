"""The layout of the growth chart."""

from __future__ import annotations

import pytest

from sluicegate.proof.growth import Growth
from sluicegate.proof.report.curve import draw

SIZES = (100, 1000, 10_000, 100_000)


def growth(*costs: float) -> Growth:
    return Growth("time of a decision, µs", "limit", SIZES, costs)


def test_a_cost_in_proportion_to_the_size_lies_on_the_dashed_line():
    it = draw(growth(1, 10, 100, 1000), 680)
    assert it.linear
    assert it.steady[0] == it.points[0]
    assert it.steady[1] == pytest.approx(it.points[-1])


@pytest.mark.parametrize("costs", [(1.3, 1.2, 1.4, 1.3), (3, 22, 214, 2190), (1, 10, 1000, 99_999)])
def test_the_dashed_line_is_drawn_whole_from_the_smallest_size_to_the_largest(costs: tuple[float, ...]):
    it = draw(growth(*costs), 680)
    (first, last), top = it.steady, min(label.y for label in it.ticks)
    assert first == it.points[0]
    assert last[0] == it.points[-1][0]
    decade = (first[1] - last[1]) / 3  # the sizes span three decades, and so does a cost in proportion to them
    steps = {round(low.y - high.y, 6) for low, high in zip(it.ticks, it.ticks[1:], strict=False)}
    assert steps == {round(decade, 6)}
    assert it.height / 8 < top < it.floor


def test_the_axes_have_ticks_and_names_and_a_unit():
    it = draw(growth(3.1, 22.4, 214, 2190), 680)
    assert [label.text for label in it.ticks] == ["1", "10", "100", "1000"]
    assert [label.text for label in it.sizes] == ["100 000", "100", "1000", "10 000"]
    assert (it.unit.text, it.by.text) == ("µs", "limit")
    linear = draw(growth(0, 0, 51_200, 512_000), 680)
    assert [label.text for label in linear.ticks] == ["0", "200 000", "400 000"]


@pytest.mark.parametrize("low", [1e-7, 0.02, 1, 3e6])
def test_ticks_stay_apart_however_many_decades_there_are(low: float):
    it = draw(growth(low, low * 10, low * 1e9, low * 1e12), 330)
    assert len(it.ticks) >= 3
    assert all(above.y + 18 <= below.y for below, above in zip(it.ticks, it.ticks[1:], strict=False))
    assert all(label.x - len(label.text) * 7.4 >= 0 for label in it.ticks)


def test_a_cost_that_hardly_changes_is_drawn_flat():
    it = draw(growth(1.3, 1.2, 1.4, 1.3), 680)
    heights = [y for _, y in it.points]
    assert not it.linear
    assert max(heights) - min(heights) < 0.1 * it.height


def test_a_cost_of_zero_is_drawn_without_a_logarithm():
    it = draw(growth(0, 0, 5, 10), 330)
    assert not it.steady
    first, second, third, last = (y for _, y in it.points)
    assert first == second
    assert second > third > last


@pytest.mark.parametrize("costs", [(1, 10, 100, 1000), (0, 0, 0, 0), (1, 1e-6, 1e6, 1)])
@pytest.mark.parametrize("width", [330, 680])
def test_every_point_and_label_is_inside_the_drawing(costs: tuple[float, ...], width: int):
    it = draw(growth(*costs), width)
    assert all(0 <= x <= width and 0 <= y <= it.floor for x, y in (*it.points, *it.steady))
    ends = [end for label in (*it.costs, *it.sizes) for end in label.ends]
    assert all(0 <= end <= width for end in ends)


def test_the_last_value_is_always_labelled():
    it = draw(growth(1, 10, 100, 1_234_567), 330)
    assert "1 234 567" in [label.text for label in it.costs]
