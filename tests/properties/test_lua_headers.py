"""The header of each Lua file against its body: keys, arguments, what stands before it, and what it gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluicegate import _algorithms as algorithms
from sluicegate._stores.redis import script

GLOBALS = ("CHARGING", "repaired", "now", "open", "redis")
FILES = [name for name, _ in script.sources()]
SHARED = [name for name in FILES if name not in algorithms.BY_NAME]


def _parts(source: str) -> tuple[str, str]:
    """Return what the header says, and the body without its comments."""
    lines = source.splitlines()
    above = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    comment = "\n".join(line.removeprefix("--").strip() for line in lines[:above])
    return comment, "\n".join(line.split("--")[0] for line in lines[above:])


def _section(comment: str, name: str) -> str:
    """Return one section of a header, which ends where another one begins or a line is empty."""
    return re.search(rf"^{name} +(.*(?:\n(?!\w+ {{2,}}|KEYS|ARGV|\n).*)*)", comment, re.MULTILINE)[1]


def _read(text: str) -> set[str]:
    return set(re.findall(r"(?:KEYS|ARGV)\[\w+(?: ?\+ ?\d)?\]", text.replace(" + ", "+")))


def _used(body: str) -> set[str]:
    return {name for name in GLOBALS if re.search(rf"(?<![\w.']){name}(?!\w)", body)}


def _given_back(body: str) -> set[str]:
    table = re.search(r"return \{(.*)\}\s*\Z", body)
    return set(re.findall(r"(\w+) =", table[1])) if table else set()


@pytest.mark.parametrize("name", algorithms.BY_NAME)
def test_the_header_of_an_algorithm_lists_the_arguments_that_its_body_reads_and_counts_them(name: str):
    comment, body = _parts(algorithms.lua(name))
    listed, read = ({each for each in _read(text) if "ARGV" in each} for text in (comment, body))
    assert listed == read
    assert set(re.findall(r"^ *(?:return .+|end), (\d+)$", body, re.MULTILINE)) == {str(len(listed))}


def test_there_is_no_lua_file_that_no_script_has():
    lying = {path.stem.replace("_", "-") for path in Path(algorithms.__file__).parent.rglob("*.lua")}
    assert lying == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_header_of_a_file_says_what_must_stand_before_it_and_what_it_is_given(name: str):
    comment, body = _parts(algorithms.lua(name))
    said = _section(comment, "Given")
    assert _used(body) == _used(said)
    given = re.search(r"^local ([\w, ]+) = \.\.\.$", body, re.MULTILINE)
    for each in given[1].split(", ") if given else ():
        assert re.search(rf"\b{each}\b", said.partition("script; ")[2]), each


@pytest.mark.parametrize("name", algorithms.BY_NAME)
def test_the_header_of_an_algorithm_says_what_it_gives(name: str):
    said = _section(_parts(algorithms.lua(name))[0], "Returns")
    assert "how many arguments there are" in said
    assert {"look", "block"} <= set(re.findall(r"\w+", said)) or "what count.lua does" in said


@pytest.mark.parametrize("name", SHARED)
def test_the_header_of_a_file_that_algorithms_share_says_what_it_gives_and_how_a_value_is_laid_out(name: str):
    source = algorithms.lua(name)
    comment, body = _parts(source)
    given_back = _given_back(body)
    assert _section(comment, "Layout")
    assert ("functions" in _section(comment, "Returns")) == bool(given_back)
    for function in given_back:  # each says for itself what it does
        assert re.search(rf"^-- .*\nlocal function {function}\(", source, re.MULTILINE), function


@pytest.mark.parametrize("verb", ["decide", "block"])
def test_the_header_of_a_verb_lists_its_keys_and_arguments_and_what_it_is_given(verb: str):
    comment, body = _parts(script._file(f"{verb}.lua"))
    before = re.search(r"^Written into the script before this file: (.*(?:\n.+)*)", comment, re.MULTILINE)[1]
    assert _read(comment) == _read(body)
    # The algorithms heed CHARGING and go by now, and the body need not.
    assert _used(before) - {"CHARGING", "now"} == _used(body) - {"now"}
