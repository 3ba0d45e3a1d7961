"""Numbers and hostile text as a person reads them, and the report in a line."""

from __future__ import annotations

import math
from dataclasses import replace

import demo_report
import pytest

from sluicegate.proof.report.summary import in_a_line, summaries
from sluicegate.proof.report.text import last_lines, number, plain, seconds, shorter
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.41999, "0.42"),
        (99.97, "100"),
        (1234.5, "1234"),
        (1e5, "100 000"),
        (-0.05, "-0.05"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_three_digits_and_never_lose_a_whole_one(value: float, text: str):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (0.42, "0.42 s"), (0.0031, "3.1 ms"), (0.000042, "42 µs"), (3600, "3600 s"), (-0.2, "-0.2 s")],
)
def test_spans_have_their_unit(value: float, text: str):
    assert seconds(value) == text


def test_a_shorter_span_reads_shorter():
    assert shorter(0.99996, 1.0) == "0.99996 s"
    assert shorter(0.42, 1.0) == "0.42 s"


def test_nothing_that_moves_a_terminal_or_turns_the_text_is_left():
    assert plain("a\x1b[2J\u202eb\ud800\r\n") == "a\\x1b[2J\\u202eb\\ud800\\r\\n"
    assert plain("שלום, ünïcode") == "שלום, ünïcode"
    assert plain("x" * 50, 5) == "xxxxx..."


def test_the_last_lines_are_those_with_something_in_them():
    assert last_lines("a\n\n b\x07\r\nc\n\n", 2) == [" b\\x07", "c"]


def test_a_report_is_told_in_a_line():
    report = demo_report.demo()
    assert in_a_line(report) == "failed: 4 of 10 cases; undecided: 1; skipped: 6"
    without = tuple(r for r in report.results if r.finding.verdict in {Verdict.PASSED, Verdict.SKIPPED})
    assert in_a_line(replace(report, results=without)) == "passed: 5 of 5 cases; skipped: 6"
    assert in_a_line(replace(report, results=without[-1:])) == "nothing could be tried; skipped: 1"
    assert in_a_line(replace(report, results=())) == "no case was run"


def test_a_report_in_which_nothing_passed_is_no_success():
    report = demo_report.demo()
    passed = tuple(r for r in report.results if r.finding.verdict is Verdict.PASSED)
    skipped = tuple(r for r in report.results if r.finding.verdict is Verdict.SKIPPED)
    assert replace(report, results=passed + skipped).exit_code == 0
    assert replace(report, results=skipped).exit_code == 3
    assert replace(report, results=()).exit_code == 3


def test_a_line_of_the_rubric_has_the_gravest_verdict_of_its_cases():
    found = {summary.line: summary for summary in summaries(demo_report.demo())}
    assert found[Line.CORRECTNESS].verdict is Verdict.FAILED
    assert found[Line.RESILIENCE].verdict is Verdict.UNDECIDED
    assert found[Line.QUALITY].verdict is None
    assert found[Line.QUALITY].says == "for a person to judge"
