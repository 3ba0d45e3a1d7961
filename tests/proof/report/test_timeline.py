"""The layout of the time line."""

from __future__ import annotations

from itertools import pairwise

import demo_report
import pytest

from sluicegate.proof.history import History, Record
from sluicegate.proof.report.timeline import NARROW, WIDE, Timeline, draw
from sluicegate.proof.report.window import worst

FINDINGS = {
    "edge": demo_report.edge(),
    "denial": demo_report.denial(),
    "race": demo_report.race(),
    "outage": demo_report.outage(),
    "many": demo_report.many(),
    "costs": demo_report.costs(),
}
ALL = pytest.mark.parametrize("name", FINDINGS)
WIDTHS = pytest.mark.parametrize("width", [WIDE, NARROW])


def line(name: str, width: int = WIDE) -> Timeline:
    finding = FINDINGS[name]
    assert finding.history
    window = worst(finding.history, finding.at)
    assert window
    return draw(window, width)


def single(records: list[Record], limit: int = 2) -> Timeline:
    window = worst(History(limit, 1.0, records), records[-1])
    assert window
    return draw(window)


@ALL
@WIDTHS
def test_every_mark_is_inside_the_drawing(name: str, width: int):
    it = line(name, width)
    ticks = [tick for row in it.rows for tick in row.ticks]
    boxes = [it.span, it.plot, *it.over, *(tick.box for tick in ticks), *(tick.hair for tick in ticks if tick.hair)]
    assert all(box.left >= 0 and box.left + box.width <= it.width for box in boxes)
    assert all(box.top >= 0 and box.top + box.height <= it.height for box in boxes)
    assert all(box.width > 0 and box.height > 0 for box in boxes)
    assert all(it.plot.left <= x <= it.plot.left + it.plot.width and 0 <= y <= it.floor for x, y in it.steps)


@ALL
@WIDTHS
def test_ticks_of_a_row_do_not_touch_and_count_every_request(name: str, width: int):
    for row in line(name, width).rows:
        assert all(a.box.left + a.box.width <= b.box.left + 1e-9 for a, b in pairwise(row.ticks))
        assert len(row.ticks) <= width / 6


@ALL
@WIDTHS
def test_no_number_overlaps_a_tick(name: str, width: int):
    for row in line(name, width).rows:
        for label in filter(None, (tick.label for tick in row.ticks)):
            left, right = label.ends
            under = [tick.box for tick in row.ticks if tick.box.left < right and tick.box.left + tick.box.width > left]
            assert label.y < min(box.top for box in under)


def test_the_span_is_as_wide_as_its_part_of_the_time():
    it, window = line("edge"), worst(FINDINGS["edge"].history, FINDINGS["edge"].at)
    assert it.span.width / it.plot.width == pytest.approx((window.last - window.first) / (window.end - window.begin))


def test_a_span_too_short_to_see_is_still_drawn():
    assert (
        single(
            [Record(0.0, 0.0, "a", 1, True), Record(0.9, 0.9, "a", 1, False), Record(0.9, 0.9, "a", 9, True)]
        ).span.width
        >= 3
    )


def test_the_part_over_the_limit_lies_between_the_limit_and_the_steps():
    it = line("edge")
    assert it.over
    assert all(box.top + box.height == pytest.approx(it.limit) for box in it.over)
    assert min(box.top for box in it.over) == min(y for _, y in it.steps)


def test_only_units_that_were_certainly_over_the_limit_are_drawn_as_such():
    it = line("outage")
    assert min(y for _, y in it.steps) < it.limit
    assert not it.over


def test_requests_on_one_pixel_are_one_tick_with_their_units():
    (allowed, _) = single(
        [Record(1.0 + n * 1e-4, 1.0 + n * 1e-4, "a", 2, True) for n in range(3)] + [Record(1.9, 1.9, "a", 1, True)]
    ).rows
    first, last = allowed.ticks
    assert first.label and first.label.text == "6"
    assert last.label is None
    assert first.box.height > last.box.height


def test_a_slow_answer_has_a_hair_from_the_time_its_request_was_sent():
    fast, slow = single([Record(0.0, 0.0, "a", 1, True), Record(0.2, 0.6, "a", 1, True)]).rows[0].ticks
    assert fast.hair is None
    assert slow.hair and slow.hair.left + slow.hair.width == pytest.approx(slow.box.left + slow.box.width / 2)


def test_the_row_for_unanswered_requests_is_there_only_if_there_are_any():
    assert [row.kind for row in line("outage").rows] == ["allowed", "denied", "unknown"]
    assert [row.kind for row in line("edge").rows] == ["allowed", "denied"]


def test_no_peak_is_lost_if_several_steps_fall_on_one_pixel():
    short = Record(0.0, 0.9995, "a", 7, True)  # certainly in the window for half a millisecond
    it = single([Record(0.5, 0.5, "a", 1, True), short, Record(1.2, 1.2, "a", 1, True)])
    assert min(y for _, y in it.steps) == pytest.approx(it.floor - 4 * (it.floor - it.limit))
    assert any(box.width == 1.5 for box in it.over)


def test_ticks_that_have_left_the_span_are_drawn_apart_from_those_that_count():
    # The first two have left: they ended by the time the window before the denial began, the second exactly then.
    times = (0.998, 1.0, 1.001, 1.002)
    (allowed, _) = single([*(Record(at, at, "a", 1, True) for at in times), Record(2.0, 2.0, "a", 1, False)]).rows
    assert [(tick.gone, tick.says.split(", ")[-1]) for tick in allowed.ticks] == [(True, "2 units"), (False, "2 units")]
    assert allowed.ticks[0].box.left + allowed.ticks[0].box.width <= allowed.ticks[1].box.left


def test_there_are_no_more_steps_than_pixels():
    records = [Record(n * 1e-4, n * 1e-4, "a", 1, True) for n in range(5000)]
    assert len(single(records).steps) <= 4 * WIDE


@ALL
@WIDTHS
def test_times_are_labelled_in_even_round_steps_of_one_unit(name: str, width: int):
    zero, *labels = line(name, width).times
    values = [float(label.text.split()[0]) for label in labels]
    assert zero.text == "0"
    assert f"{values[0]:e}"[0] in "125"
    assert values == pytest.approx([values[0] * n for n in range(1, len(values) + 1)])
    assert len({label.text.split()[1] for label in labels}) == 1


def test_the_drawing_is_described_in_words():
    assert line("edge").describes == (
        "15 requests in 1.19 s: 10 allowed, 5 denied. 0.96 s, less than the window of 1 s: 10 allowed, limit 5. "
        "Units certainly allowed in the last 1 s: up to 10."
    )
