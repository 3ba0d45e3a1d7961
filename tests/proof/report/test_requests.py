"""The last requests before the one that shows a finding."""

from __future__ import annotations

from sluicegate.proof.history import History, Record
from sluicegate.proof.report.requests import last_requests
from sluicegate.proof.verdict import CaseVerdict, Finding


def finding(records: list[Record], at: Record | None) -> Finding:
    return Finding(CaseVerdict.FAILED, "", History(5, 1.0, records), at)


def test_the_requests_of_the_key_up_to_the_shown_one_are_listed_in_order():
    records = [Record(0.25 * n, 0.25 * n + 0.002, "a", n + 1, n % 2 == 0) for n in range(10)]
    records.insert(3, Record(1.1, 1.11, "b", 1, True))
    rows = last_requests(finding(records, records[6]), 3)
    assert [tuple(row) for row in rows] == [
        ("0.5 s before", "2 ms", "4", "denied", False),
        ("0.25 s before", "2 ms", "5", "allowed", False),
        ("last", "2 ms", "6", "denied", True),
    ]


def test_without_a_shown_request_it_is_the_last_of_the_fullest_window():
    records = [Record(0.0, 0.0, "a", 1, True), Record(5.0, 5.0, "a", 1, True), Record(5.25, 5.25, "a", 1, True)]
    assert [row.sent for row in last_requests(finding(records, None))] == ["5.25 s before", "0.25 s before", "last"]


def test_a_request_that_got_no_answer_is_listed_as_one():
    silent = Record(1.0, 11.0, "a", 1, None)
    assert [tuple(row) for row in last_requests(finding([silent], silent))] == [
        ("last", "10 s", "1", "no answer", True)
    ]


def test_a_finding_without_requests_has_none():
    assert last_requests(Finding(CaseVerdict.FAILED, "")) == []
    assert last_requests(finding([], None)) == []
