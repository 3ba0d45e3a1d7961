"""The pictures of the algorithms are what their tool draws now, and what they show is what the policies promise."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from sluicegate import CalendarWindow, FixedWindow, SlidingWindow, TokenBucket
from tools import algorithms_picture as tool

SVG = "{http://www.w3.org/2000/svg}"

RUNS = {type(run.policy): run for run in tool.runs()}
WORST_WINDOW_RUNS = {type(run.policy): run for run in tool.worst_window_runs()}


@pytest.mark.parametrize("name", tool.pictures())
def test_the_picture_is_what_the_tool_draws_now(name):
    stored = (tool.FOLDER / name).read_text(encoding="utf-8")
    assert stored == tool.pictures()[name], "run: python tools/algorithms_picture.py"


@pytest.mark.parametrize("run", [*RUNS.values(), *WORST_WINDOW_RUNS.values()], ids=lambda run: run.policy.name)
def test_no_row_of_a_picture_is_above_the_worst_case_of_its_policy(run):
    assert run.peak[1] <= run.policy.worst_case
    assert run.peak[1] == max(in_an_hour_up_to(at, run) for at in run.arrivals)


def test_the_picture_shows_each_algorithm_at_its_worst_but_for_a_calendar_with_short_windows():
    peaks = {kind: run.peak[1] for kind, run in RUNS.items()}
    limit = tool.LIMIT
    assert peaks == {
        SlidingWindow: limit,
        TokenBucket: 2 * limit - 1,
        FixedWindow: 2 * limit,
        CalendarWindow: 2 * limit,
    }


def test_the_sentences_in_the_picture_are_true():
    assert (allowed(RUNS[FixedWindow], "09:57"), allowed(RUNS[FixedWindow], "10:03")) == (5, 5)
    assert (allowed(RUNS[CalendarWindow], "12:27"), allowed(RUNS[CalendarWindow], "12:33")) == (5, 5)
    day = (8 * tool.HOUR, 13 * tool.HOUR)
    assert tool._at("12:30") in RUNS[CalendarWindow].edges(*day)
    assert tool._at("10:00") in RUNS[FixedWindow].edges(*day)
    assert allowed(RUNS[TokenBucket], "09:57") == 5
    bucket = RUNS[TokenBucket]
    flow = [at for at, yes in zip(tool.ARRIVALS, bucket.answers, strict=True) if yes and at > tool._at("09:57")]
    assert flow[:4] == [tool._at("09:57") + 12 * n for n in (1, 2, 3, 4)]


def test_the_sentences_in_the_picture_of_the_worst_window_are_true():
    fixed, sliding = WORST_WINDOW_RUNS[FixedWindow], WORST_WINDOW_RUNS[SlidingWindow]
    assert [allowed(fixed, at) for at in ("09:57", "10:03", "10:57")] == [5, 5, 0]
    assert [allowed(sliding, at) for at in ("09:57", "10:03", "10:57")] == [5, 0, 5]
    assert (fixed.peak[1], sliding.peak[1]) == (10, 5)


def test_a_picture_has_a_mark_for_each_answer_and_each_peak_as_a_number():
    for text, runs in ((tool.picture(), RUNS), (tool.worst_window(dark=False), WORST_WINDOW_RUNS)):
        rows = ET.fromstring(text).findall(f"{SVG}g")[1:]
        assert len(rows) == len(runs)
        for row, run in zip(rows, runs.values(), strict=True):
            marks = [mark.get("class") for mark in row.findall(f"{SVG}circle")]
            assert [mark == "allowed" for mark in marks] == list(run.answers)
            assert [text.text for text in row.findall(f"{SVG}text")][-1] == str(run.peak[1])
            assert f"peak {run.peak[1]}, worst case {run.policy.worst_case}" in "".join(row.itertext())


def allowed(run, clock):
    return sum(yes for at, yes in zip(run.arrivals, run.answers, strict=True) if at == tool._at(clock))


def in_an_hour_up_to(at, run):
    asked = zip(run.arrivals, run.answers, strict=True)
    return sum(yes for then, yes in asked if at - 60 < then <= at)
