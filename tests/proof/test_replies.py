"""Parsing the replies of a worker: valid ones are read, and anything else in any field is rejected."""

from __future__ import annotations

import pytest

from sluicegate.proof import replies
from sluicegate.proof.history import Record
from sluicegate.proof.stalls import Times
from sluicegate.proof.workers import ScenarioResult

_RECORD = [1.0, 2.0, "a", 1, True, None, None]


def _reply(*record: object) -> dict[str, object]:
    flags = {"loop_blocked": 0.0, "paused": 0.0, "cut": False, "asynchronous": False}
    took = {"allowed": [0.5], "others": []}
    return {"records": [list(record)], "peeks": [], "errors": [], "unexpected": {}, "discarded": took, **flags}


def test_a_record_is_read():
    read = replies.scenario_result(_reply(*_RECORD))
    assert read == ScenarioResult([Record(1.0, 2.0, "a", 1, True)], discarded=Times([0.5], []))
    assert read.times == Times([1.0, 0.5], [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, float("-inf")),
        (0, float("nan")),
        (0, 3.0),
        (0, "1"),
        (0, None),
        (1, float("inf")),
        (1, True),
        (2, 7),
        (2, None),
        (3, 1.0),
        (3, True),
        (4, 1),
        (4, "yes"),
        (5, float("inf")),
        (5, float("nan")),
        (5, "never"),
        (5, False),
        (5, []),
        (6, 1.5),
        (6, False),
    ],
)
def test_a_record_with_an_invalid_field_is_rejected(field: int, value: object):
    record = list(_RECORD)
    record[field] = value
    with pytest.raises(replies.InvalidReply):
        replies.scenario_result(_reply(*record))


@pytest.mark.parametrize(
    "change",
    [
        {"records": [_RECORD[:6]]},
        {"records": [[*_RECORD, 1]]},
        {"records": ["abcdefg"]},
        {"records": None},
        {"errors": [{"type": "E", "message": "m", "where": 1, "times": 1}]},
        {"errors": [{"type": "E", "message": "m", "where": "", "times": "1"}]},
        {"errors": ["E"]},
        {"unexpected": []},
        {"unexpected": {"str": 1.5}},
        {"peeks": [_RECORD[:6]]},
        {"peeks": None},
        {"cut": None},
        {"cut": 1},
        {"asynchronous": "yes"},
        {"discarded": None},
        {"discarded": {"allowed": []}},
        {"discarded": {"allowed": [], "others": [None]}},
        {"paused": None},
        {"loop_blocked": None},
        {"loop_blocked": -1.0},
        {"loop_blocked": float("nan")},
    ],
    ids=str,
)
def test_a_reply_with_an_invalid_field_is_rejected(change: dict[str, object]):
    with pytest.raises(replies.InvalidReply):
        replies.scenario_result({**_reply(*_RECORD), **change})


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff", b"null", b"[]", b'{"n": 1}', b'{"n": "2"}', b"[" * 100_000, b'{"n": 2, "x": ' + b"9" * 5000 + b"}"],
    ids=lambda line: line[:12].decode(errors="replace"),
)
def test_a_line_that_does_not_answer_the_command_is_rejected(line: bytes):
    with pytest.raises(replies.InvalidReply):
        replies.reply(line, 2)


def test_the_seconds_of_each_call_are_read_as_far_as_calls_were_made():
    assert replies.each({"seconds": [0.5, 0.0]}, 3) == [0.5, 0.0]


@pytest.mark.parametrize(
    "seconds", [None, [], [0.5] * 4, [-0.5], [float("nan")], [float("inf")], [1], ["0.5"]], ids=str
)
def test_seconds_that_no_calls_can_have_taken_are_rejected(seconds: object):
    with pytest.raises(replies.InvalidReply):
        replies.each({"seconds": seconds}, 3)


_ABILITIES = dict.fromkeys(replies.Abilities.__slots__, False)


def test_abilities_are_read_by_their_names():
    found = replies.abilities({"abilities": {**_ABILITIES, "acquire": True, "timeout": True, "reserve": True}})
    assert found.acquire and found.timeout and found.reserve
    assert not found.peek_cost


@pytest.mark.parametrize("name", replies.Abilities.__slots__)
def test_abilities_that_do_not_say_yes_or_no_are_rejected(name: str):
    for flags in ({**_ABILITIES, name: 1}, {key: value for key, value in _ABILITIES.items() if key != name}):
        with pytest.raises(replies.InvalidReply):
            replies.abilities({"abilities": flags})
