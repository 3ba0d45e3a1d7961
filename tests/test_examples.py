"""The programs in `examples` run, by themselves and on a server, and do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import servers

EXAMPLES = Path(__file__).parents[1] / "examples"

PATIENT = os.pathsep.join(filter(None, [str(Path(__file__).parent / "patient"), os.environ.get("PYTHONPATH")]))
"""Let a program wait long for its server, on a machine that may be busy. Its worker processes, too."""

ENDS_WITH = {
    "background_jobs": r"24 jobs wrote 120 rows, with at most [1-4] jobs at once\n(?:.*\n.*killed worker.*: True\n)?",
    "failed_logins": (
        r"50 guesses at once: 3 were tried\nthe right password now: try again in [1-9]\d* s\nsession of alice\n"
    ),
    "llm_budget": r"48 calls, \d+ refused by the provider\n",
    "outgoing_calls": r"(?:.* s  order \d+\n){40}.*\n",
}


@pytest.mark.parametrize("example", ENDS_WITH)
def test_an_example_runs_by_itself(example: str):
    run(example)


@pytest.mark.slow
@pytest.mark.mostly_waits
@pytest.mark.parametrize("example", ENDS_WITH)
def test_an_example_runs_on_a_server(server: servers.Server, example: str):
    run(example, server.url, PYTHONPATH=PATIENT)


@pytest.mark.parametrize("example", ENDS_WITH)
def test_an_example_prints_its_usage(example: str):
    helped = start(example, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "How-to: docs/how-to/" in helped.stdout
    refused = start(example, "memory://", "extra")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"usage: {example}.py")


@pytest.mark.parametrize("example", ["background_jobs", "failed_logins"])
def test_an_example_that_cannot_go_on_without_its_server_says_so(example: str):
    done = start(example, "redis://localhost:1/0")
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Redis is down: ")
    assert "Traceback" not in done.stderr


def start(example: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{example}.py", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
        check=False,
    )


def run(example: str, *arguments: str, **environment: str) -> None:
    done = start(example, *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"(?:.*\n)*?{ENDS_WITH[example]}", done.stdout), done.stdout


def test_every_example_is_run_and_has_a_page_that_shows_it():
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    assert found == set(ENDS_WITH)
    for name in found:
        page = re.search(r"docs/how-to/[\w-]+\.md", (EXAMPLES / f"{name}.py").read_text())
        assert page, name
        assert f"](../../examples/{name}.py)" in EXAMPLES.parent.joinpath(page.group()).read_text()
