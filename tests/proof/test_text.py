"""Numbers and hostile text written for people, and the summary of a report in one line."""

from __future__ import annotations

import math
from dataclasses import replace

import demo_report
import pytest

from sluicegate.proof.report.summary import one_line_summary, summaries
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.text import last_lines, number, plain, seconds, shorter
from sluicegate.proof.verdict import CaseVerdict


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
def test_numbers_have_three_digits_but_never_lose_a_digit_of_the_whole_part(value: float, text: str):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (0.42, "0.42 s"), (0.0031, "3.1 ms"), (0.000042, "42 µs"), (3600, "3600 s"), (-0.2, "-0.2 s")],
)
def test_spans_have_their_unit(value: float, text: str):
    assert seconds(value) == text


def test_a_shorter_span_is_written_with_enough_digits_to_differ():
    assert shorter(0.99996, 1.0) == "0.99996 s"
    assert shorter(0.42, 1.0) == "0.42 s"


def test_characters_that_move_the_cursor_or_reverse_the_text_are_escaped():
    assert plain("a\x1b[2J\u202eb\ud800\r\n") == "a\\x1b[2J\\u202eb\\ud800\\r\\n"
    assert plain("שלום, ünïcode") == "שלום, ünïcode"
    assert plain("x" * 50, 5) == "xxxxx..."


def test_the_last_lines_leave_out_blank_ones():
    assert last_lines("a\n\n b\x07\r\nc\n\n", 2) == [" b\\x07", "c"]


def test_a_report_is_summarised_in_one_line():
    report = demo_report.demo()
    assert one_line_summary(report) == "failed: 4 of 10 cases; undecided: 1; skipped: 6"
    without = tuple(r for r in report.results if r.finding.verdict in {CaseVerdict.PASSED, CaseVerdict.SKIPPED})
    assert one_line_summary(replace(report, results=without)) == "passed: 5 of 5 cases; skipped: 6"
    assert one_line_summary(replace(report, results=without[-1:])) == "nothing could be tried; skipped: 1"
    assert one_line_summary(replace(report, results=())) == "no case was run"


def test_a_report_in_which_nothing_passed_is_not_a_success():
    report = demo_report.demo()
    passed = tuple(r for r in report.results if r.finding.verdict is CaseVerdict.PASSED)
    skipped = tuple(r for r in report.results if r.finding.verdict is CaseVerdict.SKIPPED)
    assert replace(report, results=passed + skipped).exit_code == 0
    assert replace(report, results=skipped).exit_code == 3
    assert replace(report, results=()).exit_code == 3


def test_a_line_of_the_rubric_has_the_worst_verdict_of_its_cases():
    found = {summary.line: summary for summary in summaries(demo_report.demo())}
    assert found[RubricLine.CORRECTNESS].verdict is CaseVerdict.FAILED
    assert found[RubricLine.RESILIENCE].verdict is CaseVerdict.UNDECIDED
    assert found[RubricLine.QUALITY].verdict is None
    assert found[RubricLine.QUALITY].says == "for a person to judge"
