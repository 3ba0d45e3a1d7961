"""The picture of the algorithms is what its tool draws now, and what is drawn is what they promise."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from sluicegate import CalendarWindow, FixedWindow, SlidingWindow, TokenBucket
from tools import algorithms_picture as tool

SVG = "{http://www.w3.org/2000/svg}"

RUNS = {type(run.policy): run for run in tool.runs()}


def test_the_picture_is_what_the_tool_draws_now():
    assert tool.PICTURE.read_text(encoding="utf-8") == tool.picture(), "run: python tools/algorithms_picture.py"


@pytest.mark.parametrize("run", RUNS.values(), ids=lambda run: run.policy.name)
def test_no_row_of_the_picture_is_above_the_worst_case_of_its_policy(run):
    assert run.peak[1] <= run.policy.worst_case
    assert run.peak[1] == max(in_an_hour_up_to(at, run) for at in tool.ARRIVALS)


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
    def allowed(kind, clock):
        return sum(RUNS[kind].answers[n] for n, at in enumerate(tool.ARRIVALS) if at == tool._at(clock))

    assert (allowed(FixedWindow, "09:57"), allowed(FixedWindow, "10:03")) == (5, 5)
    assert (allowed(CalendarWindow, "12:27"), allowed(CalendarWindow, "12:33")) == (5, 5)
    assert tool._at("12:30") in RUNS[CalendarWindow].edges and tool._at("10:00") in RUNS[FixedWindow].edges
    assert allowed(TokenBucket, "09:57") == 5
    bucket = RUNS[TokenBucket]
    flow = [at for at, yes in zip(tool.ARRIVALS, bucket.answers, strict=True) if yes and at > tool._at("09:57")]
    assert flow[:4] == [tool._at("09:57") + 12 * n for n in (1, 2, 3, 4)]


def test_the_picture_has_a_mark_for_each_answer_and_each_peak_as_a_number():
    rows = ET.fromstring(tool.picture()).findall(f"{SVG}g")[1:]
    assert len(rows) == len(RUNS)
    for row, run in zip(rows, RUNS.values(), strict=True):
        marks = [mark.get("class") for mark in row.findall(f"{SVG}circle")]
        assert [mark == "allowed" for mark in marks] == list(run.answers)
        assert [text.text for text in row.findall(f"{SVG}text")][-1] == str(run.peak[1])
        assert f"peak {run.peak[1]}, worst case {run.policy.worst_case}" in "".join(row.itertext())


def in_an_hour_up_to(at, run):
    asked = zip(tool.ARRIVALS, run.answers, strict=True)
    return sum(allowed for then, allowed in asked if at - 60 < then <= at)
