"""The command ``sluicegate``, run as a process: its output, its files and its exit codes."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from proof import targets
from sluicegate.proof.cases import cases

FIXED = f"{targets.SEEDED / 'fixed_window.py'}:FixedWindow"
EXACT = f"{targets.SEEDED / 'correct_memory.py'}:SlidingWindow"

pytestmark = pytest.mark.slow  # each runs the command once or twice


def sluicegate(*arguments: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sluicegate", *map(str, arguments)]
    variables = {**os.environ, "COLUMNS": "100", **environment}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=variables)


def test_exit_code_0_if_every_case_passed():
    done = sluicegate("grade", EXACT, "--case", "correctness/limit")
    assert done.returncode == 0, done.stderr
    assert "correctness  3 passed" in done.stdout
    assert done.stdout.rstrip().endswith("passed: 3 of 3 cases")


def test_exit_code_1_and_the_evidence_if_a_case_failed():
    done = sluicegate("grade", FIXED, "--case", "correctness/edge/at", "--case", "correctness/limit/one")
    assert done.returncode == 1
    assert "it should be denied" in " ".join(done.stdout.split())
    assert done.stdout.rstrip().endswith("failed: 1 of 2 cases")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one target"),
        ((EXACT, "--http", "http://127.0.0.1:1/?id={key}"), "name one target"),
        (("limiter",), "target must be file.py:Name"),
        (("missing.py:Limiter",), "the file missing.py does not exist"),
        (("no.such.module:limiter",), "No module named 'no'"),
        ((f"{targets.SEEDED / 'hostile_syntax.py'}:Limiter",), "SyntaxError"),
        ((f"{targets.SEEDED / 'hostile_import_raises.py'}:Limiter",), "cannot be graded: the target raised"),
        (("--http", "ftp://127.0.0.1/{key}", "--limit", "5", "--window", "1"), "--http must be a URL"),
        (("--http", "http://127.0.0.1:1/{key}", "--limit", "5"), "--limit and --window"),
        (("--http", "http://127.0.0.1:1/{key}", "--limit", "5", "--window", "1"), "ConnectionRefusedError"),
        ((EXACT, "--case", "correctness/nothing"), "got 'correctness/nothing'"),
        ((EXACT, "--json", "no/such/folder.json"), "no/such/folder.json cannot be written: No such file"),
        ((EXACT, "--save", "/dev/null/folder"), "/dev/null/folder is not a folder that can be written"),
        ((EXACT, "--limit", "0"), "0 is not in the range"),
        ((EXACT, "--window", "nan"), "nan is not a finite number of seconds"),
    ],
)
def test_exit_code_2_and_a_line_that_says_why_it_could_not_run(arguments: tuple[str, ...], says: str):
    done = sluicegate("grade", *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_exit_code_3_if_none_failed_but_one_stayed_undecided(tmp_path: Path):
    # Each answer takes so long that no verdict is certain.
    slow = targets.written(
        tmp_path,
        """
        import time

        class Limiter:
            def __init__(self, limit, window_seconds):
                self.window = window_seconds

            def allow(self, user_id):
                time.sleep(self.window * 1.5)
                return True
        """,
    )
    done = sluicegate("grade", slow.name, "--case", "correctness/edge/before", "--window", "0.1")
    assert done.returncode == 3, done.stdout
    assert "undecided" in done.stdout


def test_exit_code_3_if_nothing_could_be_tried():
    done = sluicegate("grade", EXACT, "--case", "resilience/ttl")
    assert done.returncode == 3
    assert "nothing could be tried; skipped: " in done.stdout


def test_exit_code_2_and_one_line_after_an_unforeseen_error(tmp_path: Path):
    full = sluicegate("grade", EXACT, "--case", "correctness/limit/one", "--json", "/dev/full")
    assert full.returncode == 2
    assert full.stderr.strip() == "sluicegate: OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_exit_code_2_after_a_signal_and_nothing_is_left_running(tmp_path: Path, number: signal.Signals):
    target = targets.written(
        tmp_path,
        """
        import os, pathlib, time

        class Limiter:
            def __init__(self, limit, window_seconds):
                pathlib.Path(__file__).with_name(f"{os.getpid()}.pid").touch()

            def allow(self, user_id):
                time.sleep(0.05)
                return True
        """,
    )
    command = [sys.executable, "-m", "sluicegate", "grade", target.name, "--window", "1"]
    # A shell that runs this suite in the background ignores interrupts, and child processes inherit that.
    heeded = functools.partial(signal.signal, number, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeded,  # noqa: PLW1509 - there are no threads here
    ) as running:
        try:
            end = time.monotonic() + 60
            while not list(tmp_path.glob("*.pid")) and time.monotonic() < end:
                time.sleep(0.05)
            running.send_signal(number)
            _, said = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 2
    assert "stopped before the end" in said
    workers = [int(file.stem) for file in tmp_path.glob("*.pid")]
    assert workers and not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_the_report_is_written_in_every_format_and_the_histories_can_be_judged_again(tmp_path: Path):
    made = {form: tmp_path / f"report.{form}" for form in ("json", "html", "junit")}
    options = [part for form, path in made.items() for part in (f"--{form}", path)]
    done = sluicegate("grade", FIXED, "--case", "correctness/window/any-phase", "--save", tmp_path / "kept", *options)
    assert done.returncode == 1, done.stderr

    data = json.loads(made["json"].read_text())
    assert data["exit_code"] == 1
    assert [result["verdict"] for result in data["results"]] == ["failed"]
    assert "<svg" in made["html"].read_text()
    suite = ET.fromstring(made["junit"].read_text())
    assert suite.get("failures") == "1"
    assert suite.find("testcase/failure") is not None

    (kept,) = (tmp_path / "kept").iterdir()
    again = sluicegate("judge", kept)
    assert again.returncode == 1
    assert sluicegate("judge", "-", stdin=kept.read_text()).stdout == again.stdout
    assert "failed     never over" in again.stdout
    assert "failed     never under" in sluicegate("judge", kept, "--limit", 100).stdout
    found = json.loads(sluicegate("judge", kept, "--json").stdout)
    assert found["never_over"]["verdict"] == "failed"
    assert found["never_under"]["verdict"] == "passed"


def test_exit_code_2_and_the_invalid_line_of_a_history(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"sluicegate-history": 1, "limit": 5, "window": 1}\n{"start": "now"}\n')
    done = sluicegate("judge", path)
    assert done.returncode == 2
    assert 'line 2: expected "start", seconds' in done.stderr
    piped = sluicegate("judge", "-", stdin="no history")
    assert piped.returncode == 2
    assert "standard input is not a valid history: line 1" in piped.stderr


def test_the_cases_are_listed_without_being_run():
    listed = sluicegate("cases").stdout
    for case in cases():
        assert case.id in listed
        assert case.sentence in listed
    assert len(json.loads(sluicegate("cases", "--json").stdout)) == len(cases())


def test_recommendations_run_only_with_strict_or_by_their_id():
    normal = sluicegate("grade", EXACT, "--case", "resilience/clock", "--json", "/dev/null")
    assert "resilience/clock/wall" not in normal.stdout
    assert "2 recommendations not run: --strict" in normal.stdout
    strict = sluicegate("grade", EXACT, "--case", "resilience/clock", "--strict", "-v")
    assert "resilience/clock/wall" in strict.stdout
    assert "not run" not in strict.stdout.rpartition("skipped")[2]
    named = sluicegate("grade", EXACT, "--case", "resilience/clock/wall", "--verbose")
    assert "resilience/clock/wall" in named.stdout


@pytest.mark.parametrize("verb", ["grade", "judge"])
def test_help_keeps_its_lines_and_lists_the_exit_codes(verb: str):
    said = sluicegate(verb, "--help").stdout
    assert "\\b" not in said and "\b" not in said
    assert "Exit codes: 0 passed, 1 failed, 2 could not run, 3 undecided" in said
    assert {"grade": "    sluicegate grade --http ", "judge": '    {"sluicegate-history": 1, '}[verb] in said


def test_the_report_has_questions_and_the_path_as_it_was_given():
    done = sluicegate("grade", os.path.relpath(FIXED), "--case", "correctness/limit/one", "--questions")
    assert "questions to ask" in done.stdout
    assert f"\n{os.path.relpath(targets.SEEDED / 'fixed_window.py')}" in done.stdout


def test_help_says_that_the_kit_is_not_a_sandbox():
    assert "not a sandbox" in " ".join(sluicegate("grade", "--help").stdout.split())


def test_output_in_another_encoding_is_escaped():
    done = sluicegate("grade", FIXED, "--case", "correctness/limit/one", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
