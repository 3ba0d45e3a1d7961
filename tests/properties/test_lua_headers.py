"""Each Lua file's header against its body: keys, arguments, the names that it uses, and what it returns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluicegate import _algorithms as algorithms
from sluicegate._stores.redis import script

GLOBALS = ("COMMIT", "RESERVE", "repaired", "entered", "holder", "numbered", "now", "open", "redis")
FILES = [name for name, _ in script.sources() if name != "announce"]
SHARED = [name for name in FILES if name not in algorithms.BY_NAME]


def _parts(source: str) -> tuple[str, str]:
    """Return the text of the header, and the body without its comments."""
    lines = source.splitlines()
    above = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    comment = "\n".join(line.removeprefix("--").strip() for line in lines[:above])
    return comment, "\n".join(line.split("--")[0] for line in lines[above:])


def _section(comment: str, name: str) -> str:
    """Return one section of a header, which ends at the next section or an empty line."""
    return re.search(rf"^{name} +(.*(?:\n(?!\w+ {{2,}}|KEYS|ARGV|\n).*)*)", comment, re.MULTILINE)[1]


def _read(text: str) -> set[str]:
    return set(re.findall(r"(?:KEYS|ARGV)\[\w+(?: ?\+ ?\d)?\]", text.replace(" + ", "+")))


def _used(body: str) -> set[str]:
    return {name for name in GLOBALS if re.search(rf"(?<![\w.']){name}(?!\w)", body)}


def _exported(body: str) -> set[str]:
    table = re.search(r"return \{(.*)\}\s*\Z", body)
    return set(re.findall(r"(\w+) =", table[1])) if table else set()


@pytest.mark.parametrize("name", algorithms.BY_NAME)
def test_the_argv_section_of_an_algorithm_lists_the_arguments_that_its_body_reads_and_counts(name: str):
    comment, body = _parts(algorithms.lua(name))
    listed, read = ({each for each in _read(text) if "ARGV" in each} for text in (comment, body))
    assert listed == read
    assert set(re.findall(r"^ *(?:return .+|end), (\d+)$", body, re.MULTILINE)) == {str(len(listed))}


def test_every_lua_file_is_part_of_a_script():
    present = {path.stem.replace("_", "-") for path in Path(algorithms.__file__).parent.rglob("*.lua")}
    assert present == set(FILES)


@pytest.mark.parametrize("name", [*FILES, "announce"])
def test_the_given_section_lists_the_globals_and_arguments_that_the_body_uses(name: str):
    comment, body = _parts(script._file("announce.lua") if name == "announce" else algorithms.lua(name))
    said = _section(comment, "Given")
    assert _used(body) == _used(said)
    given = re.search(r"^local ([\w, ]+) = \.\.\.$", body, re.MULTILINE)
    for each in given[1].split(", ") if given else ():
        assert re.search(rf"\b{each}\b", said.partition("script; ")[2]), each


@pytest.mark.parametrize("name", algorithms.BY_NAME)
def test_the_returns_section_of_an_algorithm_lists_what_it_returns(name: str):
    said = _section(_parts(algorithms.lua(name))[0], "Returns")
    assert "how many arguments there are" in said
    assert {"check", "block", "settle"} <= set(re.findall(r"\w+", said)) or "what count.lua does" in said


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_file_documents_its_layout_and_each_function_that_it_returns(name: str):
    source = algorithms.lua(name)
    comment, body = _parts(source)
    exported = _exported(body)
    assert _section(comment, "Layout")
    assert ("functions" in _section(comment, "Returns")) == bool(exported)
    for function in exported:  # each has a comment of its own
        assert re.search(rf"^-- .*\nlocal function {function}\(", source, re.MULTILINE), function


@pytest.mark.parametrize("verb", ["decide", "settle", "block"])
def test_the_header_of_a_verb_lists_its_keys_arguments_and_globals(verb: str):
    comment, body = _parts(script._file(f"{verb}.lua"))
    before = re.search(r"^Written into the script before this file: (.*(?:\n.+)*)", comment, re.MULTILINE)[1]
    assert _read(comment) == _read(body)
    # The algorithms use these; the body of a verb need not.
    of_algorithms = {"COMMIT", "now", "numbered"}
    assert _used(before) - of_algorithms == _used(body) - of_algorithms
