"""`History`: recorded answers, the limit to judge them by, and its file in JSON Lines, which any language can write.

The first line holds the limit and the window; each further line is one request and its answer:

    {"sluicegate-history": 1, "limit": 5, "window": 1.0, "about": {"target": "limiter.py:SlidingWindow"}}
    {"start": 12.0101, "end": 12.0103, "key": "alice", "cost": 1, "allowed": true}
    {"start": 12.0104, "end": 12.0106, "key": "alice", "cost": 1, "allowed": false, "retry_after": 0.9995}

``start`` and ``end`` are seconds on one clock that never steps, the same for all lines, read just before the request
was sent and just after its answer arrived. ``allowed`` is null if no answer arrived: the request may have been counted
or not. ``cost`` (default 1), ``retry_after`` and ``remaining`` (default null) may be left out. The lines may be in any
order. The first line may have ``"remote": true`` if the answers came from a store or a service, which may stall: a
request that was slow to be allowed is then no evidence of too many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO, TypeGuard

VERSION = 1
_LONGEST_LINE = 65536
_QUOTED = 60
_AT_ONCE = 1000
_LARGEST = 1 << 63


class InvalidHistory(ValueError):
    """A file is not a valid history.

    Attributes:
        line: The number of the invalid line, counted from 1.
    """

    def __init__(self, line: int, expected: str, got: object) -> None:
        shown = repr(got)
        super().__init__(
            f"line {line}: expected {expected}, got {shown if len(shown) <= _QUOTED else shown[:_QUOTED] + '...'}"
        )
        self.line = line


class Record(NamedTuple):
    """One request and its answer, as the caller saw it.

    Attributes:
        start: Seconds, read before the request was sent.
        end: Seconds on the same clock, read after the answer arrived; ``start`` or later.
        key: The key that the request counts for.
        cost: Units requested, 1 or more.
        allowed: The answer; None if none arrived, so that the request may have been counted or not.
        retry_after: Seconds to wait, if a denial reported them; ``math.inf``: for ever.
        remaining: Units left, if the answer reported them.
    """

    start: float
    end: float
    key: str
    cost: int
    allowed: bool | None
    retry_after: float | None = None
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Recorded answers, and the limit and window to judge them by.

    Attributes:
        limit: Units per window, 1 or more.
        window: Seconds, above 0.
        records: The answers, in any order.
        about: Further information: the target, the case.
        remote: Whether the answers came from a store or a service, which may stall; ``stalls`` says what that excuses.
    """

    limit: int
    window: float
    records: list[Record]
    about: Mapping[str, str] = field(default_factory=dict)
    remote: bool = False

    def save(self, path: Path) -> None:
        """Write the history to a file, replacing an existing one."""
        with path.open("w", encoding="utf-8") as file:
            head = {
                "sluicegate-history": VERSION,
                "limit": self.limit,
                "window": self.window,
                "about": dict(self.about),
                "remote": self.remote,
            }
            print(json.dumps(head), file=file)
            file.writelines(_line(record) for record in self.records)

    @classmethod
    def load(cls, path: Path) -> History:
        """Read a history from a file.

        Raises:
            InvalidHistory: A line is invalid. The message says which, what was expected and what it holds.
            OSError: The file cannot be read.
        """
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            return cls.read(file)

    @classmethod
    def read(cls, file: TextIO) -> History:
        """Read a history from an open file, as `load` does."""
        lines = _objects(file)
        number, head = next(lines, (1, {}))
        if head.get("sluicegate-history") != VERSION:
            raise InvalidHistory(number, f'a first line with "sluicegate-history": {VERSION}', head)
        limit, window = head.get("limit"), head.get("window")
        if not _is_int(limit) or limit < 1:
            raise InvalidHistory(number, '"limit", a whole number of 1 or more', limit)
        if not _is_number(window) or window <= 0:
            raise InvalidHistory(number, '"window", seconds above 0', window)
        about = head.get("about")
        texts = {str(name): str(text) for name, text in about.items()} if isinstance(about, dict) else {}
        return cls(
            limit, window, [_record(number, fields) for number, fields in lines], texts, head.get("remote") is True
        )


def _line(record: Record) -> str:
    fields: dict[str, object] = {
        "start": record.start,
        "end": record.end,
        "key": record.key,
        "cost": record.cost,
        "allowed": record.allowed,
    }
    if record.retry_after is not None:
        fields["retry_after"] = (
            record.retry_after if math.isfinite(record.retry_after) else "inf"
        )  # JSON has no infinity
    if record.remaining is not None:
        fields["remaining"] = record.remaining
    return json.dumps(fields) + "\n"


def _objects(file: TextIO) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the object of each line that is not blank, with its line number."""
    number = 0
    while lines := list(islice(iter(lambda: file.readline(_LONGEST_LINE + 1), ""), _AT_ONCE)):
        yield from _together(number, lines) or _one_by_one(number, lines)
        number += len(lines)


def _together(before: int, lines: list[str]) -> list[tuple[int, dict[str, object]]]:
    # Parsing many lines in one call is three times as fast. If any line is invalid, `_one_by_one` says which and why.
    try:
        objects = json.loads(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        return []
    whole = all(line.lstrip().startswith("{") and len(line) <= _LONGEST_LINE for line in lines)
    if not whole or len(objects) != len(lines) or not all(type(each) is dict for each in objects):
        return []
    return list(enumerate(objects, before + 1))


def _one_by_one(before: int, lines: list[str]) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(lines, before + 1):
        if len(line) > _LONGEST_LINE:
            raise InvalidHistory(number, f"a line of at most {_LONGEST_LINE} characters", line)
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidHistory(number, "a JSON object", line) from None
        if not isinstance(fields, dict):
            raise InvalidHistory(number, "a JSON object", fields)
        yield number, fields


def _record(number: int, fields: dict[str, object]) -> Record:
    start, end, key = fields.get("start"), fields.get("end"), fields.get("key")
    cost, allowed = fields.get("cost", 1), fields.get("allowed")
    wait, remaining = fields.get("retry_after"), fields.get("remaining")
    if not _is_number(start):
        raise InvalidHistory(number, '"start", seconds', start)
    if not _is_number(end) or end < start:
        raise InvalidHistory(number, f'"end", seconds, not before "start" ({start})', end)
    if not isinstance(key, str):
        raise InvalidHistory(number, '"key", a string', key)
    if not _is_int(cost) or cost < 1:
        raise InvalidHistory(number, '"cost", a whole number of 1 or more', cost)
    if allowed is not None and not isinstance(allowed, bool):
        raise InvalidHistory(number, '"allowed", true, false or null', allowed)
    if wait == "inf":
        wait = math.inf
    elif wait is not None and not _is_number(wait):
        raise InvalidHistory(number, '"retry_after", seconds or "inf"', wait)
    if remaining is not None and not _is_int(remaining):
        raise InvalidHistory(number, '"remaining", a whole number', remaining)
    return Record(start, end, key, cost, allowed, wait, remaining)


def _is_int(value: object) -> TypeGuard[int]:
    return type(value) is int and abs(value) < _LARGEST


def _is_number(value: object) -> TypeGuard[float]:
    return _is_int(value) or (type(value) is float and math.isfinite(value))
