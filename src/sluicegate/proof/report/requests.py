"""The last requests before the one that shows a finding best, as the rows of a table."""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from sluicegate.proof.report.window import shown_record
from sluicegate.proof.text import number, seconds
from sluicegate.proof.verdict import Finding

_ANSWERS = {True: "allowed", False: "denied", None: "no answer"}


class Row(NamedTuple):
    """One request, in words.

    Attributes:
        sent: When it was sent, before the shown request was.
        took: How long its answer took.
        cost: Its units.
        answer: ``allowed``, ``denied`` or ``no answer``.
        shown: Whether it is the shown request itself.
    """

    sent: str
    took: str
    cost: str
    answer: str
    shown: bool


def last_requests(finding: Finding, count: int = 6) -> list[Row]:
    """Return the shown request and those of its key that were sent before it, in order; none without a history."""
    shown = shown_record(finding.history, finding.at) if finding.history else None
    if finding.history is None or shown is None:
        return []
    mine = sorted((r for r in finding.history.records if r.key == shown.key), key=attrgetter("start", "end"))
    at = next(place for place, record in enumerate(mine) if record is shown or record == shown)
    rows = mine[max(0, at + 1 - count) : at + 1]
    return [
        Row(
            f"{seconds(shown.start - record.start)} before" if record is not mine[at] else "last",
            seconds(record.end - record.start),
            number(record.cost),
            _ANSWERS[record.allowed],
            record is mine[at],
        )
        for record in rows
    ]
