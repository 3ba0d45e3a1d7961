"""The report on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import demo_report
import pytest
from rich.console import Console

from sluicegate.proof.report.terminal import render

ESCAPES = re.compile(r"\x1b\[[\d;]*m")  # the colours of the renderer


def rendered(width: int = 80, color: str | None = None, encoding: str = "utf-8", *, questions: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="")
    console = Console(file=file, width=width, color_system=color, force_terminal=color is not None)
    render(replace(demo_report.demo(), questions=questions), console)
    file.seek(0)
    return file.read()


def test_the_last_line_summarises_the_report():
    assert rendered().splitlines()[-1].strip() == "failed: 4 of 10 cases; undecided: 1; skipped: 6"


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int):
    assert max(map(len, rendered(width).splitlines())) <= width


def test_without_colour_the_verdicts_are_words():
    text = rendered()
    assert "\x1b" not in text
    assert "✗ failed" in text and "? undecided" in text and "✓ passed" in text


def test_a_terminal_without_unicode_gets_ascii_symbols():
    text = rendered(encoding="ascii")
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
