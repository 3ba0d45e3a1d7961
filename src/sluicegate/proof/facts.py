"""`facts`: counts of a target's source file and its tests. They are not a score, and no code is run to get them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

_LARGEST = 1_000_000  # bytes; no candidate writes a larger file
_MOST_ENTRIES = 1000  # entries that are read of a folder
_MOST_FILES = 50  # files of tests that are read in a folder

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts of a target's file and of the tests beside it.

    Attributes:
        path: The file.
        lines: Its lines that are not blank.
        comments: Its lines that hold only a comment.
        functions: Its functions and methods.
        longest: The name of the longest of them; empty if there are none.
        longest_lines: The number of lines of that function.
        annotated: Functions with a type for every argument and for the return value.
        documented: Functions and classes with a docstring.
        definitions: Functions and classes.
        tests: The names of the test functions in ``test_*.py`` and ``*_test.py``, beside the file or in a folder
            ``tests`` there or one level up.
        sleeping_tests: The number of them that call something named ``sleep``.
    """

    path: str
    lines: int
    comments: int
    functions: int
    longest: str
    longest_lines: int
    annotated: int
    documented: int
    definitions: int
    tests: tuple[str, ...]
    sleeping_tests: int


def facts(path: Path) -> Facts | None:
    """Measure a file and the tests beside it. None if it cannot be read or parsed, or is larger than a megabyte."""
    source = _parsed(path)
    if source is None:
        return None
    text, tree = source
    lines = [line.strip() for line in text.split("\n")]
    functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
    definitions = [node for node in ast.walk(tree) if isinstance(node, _Function | ast.ClassDef)]
    longest = max(functions, key=_length, default=None)
    tests = [node for file in _test_files(path) for node in _tests(file)]
    quoted = _quoted(tree)
    return Facts(
        path=str(path),
        lines=sum(map(bool, lines)),
        comments=sum(line.startswith("#") and number not in quoted for number, line in enumerate(lines, 1)),
        functions=len(functions),
        longest=longest.name if longest else "",
        longest_lines=_length(longest) if longest else 0,
        annotated=sum(map(_annotated, functions)),
        documented=sum(ast.get_docstring(node, clean=False) is not None for node in definitions),
        definitions=len(definitions),
        tests=tuple(test.name for test in tests),
        sleeping_tests=sum(map(_sleeps, tests)),
    )


def _parsed(path: Path) -> tuple[str, ast.Module] | None:
    try:
        if not path.is_file():  # reading a pipe would block
            return None
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            return None
        # Ignore the encoding that the file declares: a codec is code, and a hostile file would choose which one runs.
        text = data.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
        with warnings.catch_warnings(action="ignore"):
            return text, ast.parse(text)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last two if it is nested too deeply
        return None


def _test_files(path: Path) -> Iterator[Path]:
    here = path.resolve().parent
    for folder in dict.fromkeys((here, here / "tests", here.parent / "tests")):
        try:
            entries = sorted(islice(folder.iterdir(), _MOST_ENTRIES))
        except OSError:
            continue
        names = (entry for entry in entries if entry.match("test_*.py") or entry.match("*_test.py"))
        yield from islice(names, _MOST_FILES)


def _tests(path: Path) -> list[_Function]:
    source = _parsed(path)
    nodes = ast.walk(source[1]) if source else ()
    return [node for node in nodes if isinstance(node, _Function) and node.name.startswith("test")]


def _length(function: _Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _annotated(function: _Function) -> bool:
    named = [*function.args.posonlyargs, *function.args.args]
    if named and named[0].arg in {"self", "cls"}:
        named = named[1:]
    rest = [extra for extra in (function.args.vararg, function.args.kwarg) if extra]
    given = (*named, *function.args.kwonlyargs, *rest)
    return function.returns is not None and all(argument.annotation for argument in given)


def _sleeps(function: _Function) -> bool:
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(getattr(called, "attr", getattr(called, "id", None)) == "sleep" for called in calls)


def _quoted(tree: ast.Module) -> set[int]:
    """Return the lines inside multi-line strings: one that begins with ``#`` there is not a comment."""
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr))
    # A set, as all parts of a long f-string report the same lines.
    spans = {(node.lineno, node.end_lineno or node.lineno) for node in strings}
    return {line for first, last in spans for line in range(first + 1, last + 1)}
