"""Histories: saving and loading, and errors that name the invalid line of a file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.proof.history import History, InvalidHistory, Record

HEAD = '{"sluicegate-history": 1, "limit": 5, "window": 1.0}'
LINE = '{"start": 1.0, "end": 1.5, "key": "a", "allowed": true}'

_SECONDS = st.floats(-1e9, 1e9, allow_nan=False)
_RECORDS = st.builds(
    lambda start, took, key, cost, allowed, wait, remaining: Record(
        start, start + took, key, cost, allowed, wait, remaining
    ),
    _SECONDS,
    st.floats(0, 1e6),
    st.text(st.characters(exclude_categories=())),
    st.integers(1, 10**11),
    st.sampled_from([True, False, None]),
    st.none() | st.floats(0, 1e9) | st.just(math.inf),
    st.none() | st.integers(0, 10**11),
)


@given(
    records=st.lists(_RECORDS, max_size=20),
    limit=st.integers(1, 10**11),
    window=st.floats(1e-6, 1e8),
    remote=st.booleans(),
)
def test_a_saved_history_is_loaded_unchanged(tmp_path_factory, records, limit: int, window: float, *, remote: bool):
    path = tmp_path_factory.mktemp("history") / "a.jsonl"
    history = History(limit, window, records, {"target": "a\nb", "case": "\ud800"}, remote)
    history.save(path)
    assert History.load(path) == history


def load(tmp_path: Path, *lines: str) -> History:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    return History.load(path)


def test_optional_fields_have_defaults_and_blank_lines_are_ignored(tmp_path: Path):
    assert load(tmp_path, HEAD, "", LINE, "  ").records == [Record(1.0, 1.5, "a", 1, True)]
    assert load(tmp_path, HEAD, LINE.replace("true", "null")).records[0].allowed is None


@pytest.mark.parametrize(("field", "remote"), [("", False), ("true", True), ("false", False), ("1", False)])
def test_answers_count_as_those_of_a_store_only_if_the_first_line_says_so(tmp_path: Path, field: str, *, remote: bool):
    head = HEAD.replace("}", f', "remote": {field}}}') if field else HEAD
    assert load(tmp_path, head, LINE).remote is remote


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no json", "a JSON object"),
        ("[1, 2]", "a JSON object"),
        (f"{LINE}, {LINE}", "a JSON object"),
        ("[" * 100_000, "at most 65536"),
        ("[" * 50_000, "a JSON object"),
        ("x" * 70_000, "at most 65536"),
        (LINE.replace("1.0", '"1"'), '"start", seconds'),
        (LINE.replace("1.0", "true"), '"start", seconds'),
        (LINE.replace("1.0", "NaN"), '"start", seconds'),
        (LINE.replace("1.5", "Infinity"), '"end", seconds'),
        (LINE.replace("1.5", "0.5"), 'not before "start"'),
        (LINE.replace('"a"', "7"), '"key", a string'),
        (LINE.replace("true", "1"), "true, false or null"),
        (LINE.replace("}", ', "cost": 0}'), '"cost", a whole number'),
        (LINE.replace("}", ', "cost": true}'), '"cost", a whole number'),
        (LINE.replace("}", ', "cost": 1.0}'), '"cost", a whole number'),
        (LINE.replace("}", ', "retry_after": "soon"}'), '"retry_after", seconds or "inf"'),
        (LINE.replace("}", ', "remaining": 0.5}'), '"remaining", a whole number'),
    ],
)
def test_an_invalid_line_is_reported_with_its_value_and_the_expected_one(tmp_path: Path, line: str, expected: str):
    with pytest.raises(InvalidHistory) as caught:
        load(tmp_path, HEAD, LINE, line, LINE)
    assert caught.value.line == 3
    assert f"line 3: expected {expected}" in str(caught.value) or expected in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (LINE, "sluicegate-history"),
        (HEAD.replace('history": 1', 'history": 2'), "sluicegate-history"),
        (HEAD.replace("5", "0"), '"limit", a whole number'),
        (HEAD.replace("5", "true"), '"limit", a whole number'),
        (HEAD.replace("1.0", "0"), '"window", seconds above 0'),
        (HEAD.replace("1.0", "Infinity"), '"window", seconds above 0'),
    ],
)
def test_a_file_with_an_invalid_first_line_is_rejected(tmp_path: Path, head: str, expected: str):
    with pytest.raises(InvalidHistory, match="line 1") as caught:
        load(tmp_path, head, LINE)
    assert expected in str(caught.value)


def test_bytes_that_are_not_text_are_rejected(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"{HEAD}\n".encode() + b"\xff\xfe\x00")
    with pytest.raises(InvalidHistory):
        History.load(path)


@pytest.mark.slow
def test_a_million_answers_are_read_and_judged_in_seconds(tmp_path: Path):
    from sluicegate.proof.judge import judge

    path = tmp_path / "million.jsonl"
    with path.open("w") as file:
        print(HEAD.replace("5", "1000"), file=file)
        for n in range(1_000_000):
            start = n / 100_000
            fields = {"start": start, "end": start + 0.002, "key": str(n % 20), "cost": 1, "allowed": n % 50 == 0}
            print(json.dumps(fields), file=file)
    began = time.process_time()
    judge(History.load(path))
    # The time of this process alone, as the machine may be busy. It takes about 8 s; quadratic would take days.
    assert time.process_time() - began < 60
