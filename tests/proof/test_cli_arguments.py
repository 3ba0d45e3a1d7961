"""What ``sluicegate grade`` says about its arguments, before anything is graded."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from proof import targets
from sluicegate._cli import grade
from sluicegate.proof.grading import choose
from sluicegate.proof.report import CaseResult
from sluicegate.proof.verdict import CaseVerdict, Finding

ESCAPES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
SERVICE = ("--http", "http://127.0.0.1:1/{key}", "--limit", "5", "--window", "1")
EXACT = f"{targets.SEEDED / 'correct_memory.py'}:SlidingWindow"


def refused(*arguments: str) -> str:
    """Run the command and return its line of error, without line breaks."""
    done = CliRunner().invoke(grade.main, arguments)
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((EXACT, "--header", "A: 1"), "--method, --header, --body and --serve need --http"),
        ((EXACT, "--serve", "app {port}"), "--method, --header, --body and --serve need --http"),
        ((*SERVICE, "--header", "Authorization hunter2"), "--header number 1 must be 'Name: value'"),
        ((*SERVICE, "--method", "G T"), "--method must be a method of HTTP"),
        ((*SERVICE, "--body", "{"), "--body must be JSON"),
        ((*SERVICE, "--serve", "app {port}"), "the URL of --http must both contain {port}"),
        (
            ("--http", "http://127.0.0.1:{port}/{key}", "--serve", "app {port} {limit}"),
            "--http needs --limit and --window",
        ),
        (
            ("--http", "http://127.0.0.1:{port}/{key}", "--serve", "echo oops; exit 4 {port} {limit} {window}"),
            "the service of --serve ended with exit code 4 before it listened",
        ),
    ],
)
def test_an_option_of_a_service_that_is_wrong_is_named(arguments: tuple[str, ...], says: str):
    said = refused(*arguments)
    assert says in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("edge", "did you mean correctness/edge? sluicegate cases"),
        ("correctnes/edge/at", "did you mean correctness/edge/at?"),
        ("correctness/edg", "did you mean correctness/edge"),
        ("Concurrency", "did you mean concurrency?"),
        ("correctness/edge/nearly", "got 'correctness/edge/nearly'"),
        ("xyzzy", "got 'xyzzy'; sluicegate cases lists them"),
    ],
)
def test_an_unknown_case_is_answered_with_what_was_probably_meant(name: str, says: str):
    assert says in refused(EXACT, "--case", name)


def test_a_file_with_several_limiters_is_answered_with_the_commands_to_type():
    path = targets.SEEDED / "hostile_calls.py"
    said = refused(str(path))
    assert "limiters; name one of them: sluicegate grade" in said
    assert f"sluicegate grade {path}:Hangs sluicegate grade {path}:Spins" in said


def test_a_file_without_a_limiter_is_answered_with_what_is_one(tmp_path: Path):
    (tmp_path / "empty.py").touch()
    (tmp_path / "broken.py").write_text("def")
    assert "empty.py has no class with allow(user_id)" in refused(str(tmp_path / "empty.py"))
    assert "broken.py cannot be read: SyntaxError" in refused(str(tmp_path / "broken.py"))


def test_the_only_limiter_in_a_file_is_graded():
    done = CliRunner().invoke(grade.main, [str(targets.SEEDED / "correct_memory.py"), "--case", "correctness/nothing"])
    assert "correct_memory.py:SlidingWindow, the only limiter in the file" in done.output


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_one_line_on_a_terminal_and_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch, terminal: bool):
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=80)
    monkeypatch.setattr(grade, "Console", lambda **_: console)
    case, failed, passed = choose(["correctness/edge/at"])[0], CaseVerdict.FAILED, CaseVerdict.PASSED
    with grade._progress(40) as (on_result, on_start):
        on_result(CaseResult(case, Finding(failed, "over"), 0.1))
        on_result(CaseResult(case, Finding(passed, ""), 0.1))
        on_start(case)
    *_, last = [line for line in ESCAPES.sub("", written.getvalue()).split("\r") if line.strip()] or [""]
    assert [word in last for word in ("2/40", "1 failed", "correctness/edge/at")] == [terminal] * 3
    assert bool(written.getvalue()) is terminal
