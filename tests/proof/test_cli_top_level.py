"""The top level of the command ``sluicegate``: it works without extras, and a subcommand loads only what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proof.targets import SEEDED
from sluicegate import __version__
from sluicegate._cli.main import SUBCOMMANDS
from sluicegate.proof.history import History, Record

EXTRA = ["click", "hiredis", "jinja2", "markupsafe", "redis", "rich"]
"""The packages that the extra ``proof`` installs."""

RUN = "from sluicegate._cli.main import main\nmain()"
BLOCKED = f"import sys\nsys.modules.update(dict.fromkeys({EXTRA}))\n{RUN}"
"""Runs the command as if the extra were not installed: importing a module that is None raises ModuleNotFoundError."""

LOADED = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
{RUN}
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def loaded(*arguments: object) -> set[str]:
    """Return the modules that a run of the command has imported, those of the extra by the name of the package."""
    done = run(LOADED, *arguments)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stderr.splitlines()[-1])
    return {name for name in names if name in EXTRA or name.startswith("sluicegate.")}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    History(1, 1.0, [Record(0.0, 0.0, "a", 1, True), Record(0.1, 0.1, "a", 1, True)]).save(path)
    return path


# Without the extra


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_works_without_the_extra_and_lists_every_subcommand(option: str):
    done = run(BLOCKED, option)
    assert (done.returncode, done.stderr) == (0, "")
    for name, subcommand in SUBCOMMANDS.items():
        assert f"  {name} " in done.stdout
        assert subcommand.summary in done.stdout


def test_the_version_works_without_the_extra():
    done = run(BLOCKED, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sluicegate, version {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [("grade", "limiter.py:Limiter"), ("judge", "-"), ("cases",), ("grade", "--help")]
)
def test_a_subcommand_without_its_extra_is_one_line_that_names_the_extra_and_exit_code_2(arguments: tuple[str, ...]):
    done = run(BLOCKED, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sluicegate: the command {arguments[0]} needs more packages:")
    assert "pip install 'sluicegate[proof]'" in line


# What is loaded


def test_the_top_level_loads_nothing_of_the_proof_kit_or_of_the_extra():
    names = loaded("--help")
    assert not names & set(EXTRA)
    assert not {name for name in names if name.startswith("sluicegate.proof")}


def test_cases_loads_neither_the_driver_nor_the_libraries_for_reports():
    assert loaded("cases") & set(EXTRA) == {"click"}


def test_judge_loads_only_the_judge(history: Path):
    names = loaded("judge", history, "--limit", 2, "--help")
    assert names & set(EXTRA) == {"click"}
    kit = {name.removeprefix("sluicegate.proof.") for name in names if name.startswith("sluicegate.proof.")}
    assert kit == {"growth", "history", "judge", "stalls", "text", "verdict"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_does_not_load_another_one(name: str):
    names = loaded(name, "--help")
    assert {other for other in SUBCOMMANDS if f"sluicegate._cli.{other}" in names} == {name}


# Arguments


def test_no_subcommand_prints_the_help_to_stderr_and_is_exit_code_2():
    done = run(RUN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "commands:" in done.stderr


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("nothing", "command must be one of bans, cases, grade, judge, routes, got 'nothing'"),
        ("--nothing", "unrecognized arguments: --nothing"),
    ],
)
def test_an_unknown_subcommand_or_option_is_exit_code_2(argument: str, says: str):
    done = run(RUN, argument, "--json")
    assert done.returncode == 2
    assert says in done.stderr


# Output to a pipe


def closed_pipe(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run the command with an output that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        command = [sys.executable, "-m", "sluicegate", *map(str, arguments)]
        return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False, timeout=60)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_cases_ends_quietly_if_the_reader_of_its_output_is_gone(options: tuple[str, ...]):
    done = closed_pipe("cases", *options)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_grade_keeps_its_exit_code_and_writes_its_files_if_the_reader_of_its_output_is_gone(tmp_path: Path):
    written = tmp_path / "report.json"
    for name, code in (("correct_minimal.py:SlidingWindow", 0), ("one_too_many.py:OneTooMany", 1)):
        done = closed_pipe("grade", SEEDED / name, "--case", "correctness/limit/one", "--json", written)
        assert (done.returncode, done.stderr.strip()) == (code, b"")
        assert json.loads(written.read_text())["target"].endswith(name)


def test_judge_keeps_its_exit_code_if_the_reader_of_its_output_is_gone(history: Path):
    done = closed_pipe("judge", history)
    assert (done.returncode, done.stderr) == (1, b"")
    done = closed_pipe("judge", history, "--limit", 2)
    assert (done.returncode, done.stderr) == (3, b"")
