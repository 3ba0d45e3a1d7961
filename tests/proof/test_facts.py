"""The counts of a target's file and its tests; the file may be hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluicegate.proof.facts import Facts, facts

CODE = '''
"""A limiter."""

# Why it is so.
class Limiter:
    def __init__(self, limit: int) -> None:
        """Take the limit."""
        self.limit = limit  # units

    def allow(self, key, *, cost: int = 1) -> bool:
        text = """
        # no comment
        """
        return bool(text)

async def loose(a: int, *more):
    return a
'''

TESTS = """
import time
from time import sleep

def test_waits():
    time.sleep(1)

class TestMore:
    async def test_naps(self):
        sleep(1)

    def test_quick(self):
        assert True

def helper():
    time.sleep(1)
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def counted(tmp_path: Path, text: str) -> Facts | None:
    return facts(write(tmp_path / "limiter.py", text))


def test_lines_functions_types_and_docstrings_are_counted(tmp_path: Path):
    found = counted(tmp_path, CODE)
    assert found
    assert (found.lines, found.comments) == (13, 1)
    assert (found.functions, found.longest, found.longest_lines) == (3, "allow", 5)
    assert found.annotated == 1  # __init__; allow() lacks the type of key, loose() that of more and its return type
    assert (found.documented, found.definitions) == (1, 4)


@pytest.mark.parametrize("place", ["app/test_it.py", "app/it_test.py", "app/tests/test_it.py", "tests/test_it.py"])
def test_tests_beside_the_file_are_found(tmp_path: Path, place: str):
    write(tmp_path / place, TESTS)
    found = facts(write(tmp_path / "app" / "limiter.py", CODE))
    assert found
    assert sorted(found.tests) == ["test_naps", "test_quick", "test_waits"]
    assert found.sleeping_tests == 2


def test_a_file_among_the_tests_finds_them_once(tmp_path: Path):
    write(tmp_path / "tests" / "test_it.py", TESTS)
    found = facts(write(tmp_path / "tests" / "limiter.py", CODE))
    assert found and len(found.tests) == 3


def test_nothing_of_the_file_is_run(tmp_path: Path):
    mark = tmp_path / "mark"
    assert counted(tmp_path, f"# coding: rot13\nopen({str(mark)!r}, 'w')\n")
    assert not mark.exists()


HOSTILE = {
    "syntax": "def (",
    "null": "a = 1\0",
    "large": "#" * 1_000_001,
    "brackets": "(" * 50_000,
    "signs": "-" * 200_000 + "1",
    "nots": "not " * 100_000 + "x",
    "attributes": "a" + ".a" * 200_000,
    "sums": "1" + "+1" * 200_000,
    "lambdas": "lambda:" * 60_000 + "1",
    "calls": "f" + "()" * 200_000,
    "elifs": "if a:\n pass\n" + "elif a:\n pass\n" * 30_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_cannot_be_parsed_has_no_facts(tmp_path: Path, name: str):
    assert counted(tmp_path, HOSTILE[name]) is None


@pytest.mark.slow
def test_long_strings_and_many_functions_do_not_take_long(tmp_path: Path):
    found = counted(tmp_path, 'f"""' + "{a}\n" * 100_000 + '"""\n' + "def f():\n  pass\n" * 20_000)
    assert found and found.functions == 20_000


def test_a_path_that_is_not_a_file_has_no_facts(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.py")
    assert facts(tmp_path / "pipe.py") is None
    assert facts(tmp_path) is None
    assert facts(tmp_path / "none.py") is None


def test_warnings_about_the_file_are_suppressed(tmp_path: Path):
    assert counted(tmp_path, 'a = "\\d"\nassert (a, 1)\n')
