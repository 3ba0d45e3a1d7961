"""The report on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import demo_report
import pytest
from rich.console import Console

from sluicegate.proof.report import Report
from sluicegate.proof.report.terminal import render

ESCAPES = re.compile(r"\x1b\[[\d;]*m")  # the colours of the renderer


def rendered(
    width: int = 80,
    color: str | None = None,
    encoding: str = "utf-8",
    *,
    questions: bool = False,
    verbose: bool = False,
) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="")
    console = Console(file=file, width=width, color_system=color, force_terminal=color is not None)
    render(replace(demo_report.demo(), questions=questions), console, verbose=verbose)
    file.seek(0)
    return file.read()


def test_the_last_line_summarises_the_report():
    assert rendered().splitlines()[-1].strip() == "failed: 4 of 10 cases; undecided: 1; skipped: 6"


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int):
    assert max(map(len, rendered(width, questions=True, verbose=True).splitlines())) <= width


def test_what_passed_is_a_number_in_the_line_of_its_section():
    text = rendered()
    assert "correctness  2 failed, 3 passed, 3 skipped" in text
    assert "correctness/limit/one" not in text and "correctness/cost/too-large" not in text
    verbose = rendered(verbose=True)
    assert "correctness/limit/one" in verbose and "correctness/cost/too-large" in verbose


def test_what_failed_is_repeated_in_one_line_each_right_above_the_rubric():
    lines = rendered(100).splitlines()
    begin, end = lines.index("what failed"), lines.index("the rubric")
    failed = [line.split()[:2] for line in lines[begin + 1 : end - 1]]
    assert failed == [["✗", id_] for id_ in demo_report.demo().failed]
    assert lines[begin + 1].endswith("10 units were allowed to one key within 0.96 s, less than the window o…")
    assert "what failed" not in io_of(replace(demo_report.demo(), results=demo_report.demo().results[:1]))


def io_of(report: Report) -> str:
    console = Console(file=io.StringIO(), width=80)
    render(report, console)
    return console.file.getvalue()


def test_a_finding_shows_the_last_requests_of_its_key_and_how_long_each_took():
    text = rendered(100)
    rows = text[text.index("resilience/outage/frozen") :].split("its last requests")[1].splitlines()[1:7]
    assert [row.split() for row in rows] == [
        ["1.1", "s", "before", "0.2", "ms", "1", "allowed"],
        ["0.9", "s", "before", "0.2", "ms", "1", "allowed"],
        ["0.8", "s", "before", "0.5", "s", "1", "no", "answer"],
        ["0.4", "s", "before", "0.3", "s", "3", "no", "answer"],
        ["0.15", "s", "before", "2", "ms", "1", "allowed"],
        ["last", "2", "ms", "1", "denied"],
    ]


def test_questions_about_what_failed_come_first():
    text = rendered(200, questions=True)
    asked = text[text.index("questions to ask") : text.rindex("what failed")]
    first, others = re.split(r"\ncorrectness *\n", asked)
    assert "Doesn't the GIL make this safe?  concurrency/threads/together" in first
    assert "What would you delete?" in others and "GIL" not in others


def test_without_colour_the_verdicts_are_words():
    text = rendered(verbose=True)
    assert "\x1b" not in text
    assert "✗ failed" in text and "? undecided" in text and "✓ passed" in text


def test_a_terminal_without_unicode_gets_ascii_symbols():
    text = rendered(encoding="ascii", verbose=True)
    assert "x failed" in text and "+ passed" in text and "\\u2713" not in text


def test_colour_is_the_only_escape_that_reaches_the_terminal():
    text = ESCAPES.sub("", rendered(color="truecolor"))
    assert "\\x1b]0;owned\\x07" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_questions_are_shown_only_with_the_option():
    assert "What would you delete?" not in rendered()
    assert "What would you delete?" in rendered(questions=True)


def test_a_case_that_measures_time_is_marked():
    assert "performance/time/limit (timed)" in rendered()


def test_markup_in_hostile_text_stays_text():
    assert "[/bold][link=evil]x" in rendered(200)


def test_skipped_cases_are_grouped_by_their_reason():
    text = rendered(200)
    assert "skipped 2 cases: the target does not report how long to wait" in text
    assert text.count("the target does not report how long to wait") == 1


def test_a_failed_case_shows_its_evidence_and_the_output_of_the_target():
    text = rendered(200)
    assert "25 of 100 requests that were sent at once were allowed" in text
    assert "> Traceback (most recent call last):" in text
    assert text.count("> redis.exceptions.TimeoutError") == 8
