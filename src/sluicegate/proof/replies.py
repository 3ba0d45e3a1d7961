"""What a worker replies, read and checked in one place: the target runs in its process, and may have written it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluicegate.proof.history import Record


class Rubbish(ValueError):
    """What came is no reply."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that a call of the target raised: its type, its text, where, and how many calls raised it."""

    type: str
    message: str
    where: str
    times: int

    @property
    def what(self) -> str:
        """All but how often, in one line."""
        message = f": {self.message}" if self.message else ""
        where = f" at {self.where}" if self.where else ""
        return one_line(f"{self.type}{message}{where}")

    def __str__(self) -> str:
        return f"{self.what} ({self.times} {'call' if self.times == 1 else 'calls'})"


@dataclass(frozen=True, slots=True)
class Played:
    """What a play brought.

    Attributes:
        records: All answers but those to a peek, in the order in which each lane had them. None is one that nobody can
            tell: nothing came, or a wait that did not say.
        peeks: The answers to a peek.
        errors: What was raised; its records have no answer.
        odd: Answers of ``allow`` that were no bool, and numbers that ``wait`` answered; how many of each.
        stalled: Seconds that the event loop was held up at the most, where there is one.
        cut: It took too long, so that not everything was asked that should have been.
        asynchronous: Its verbs were found to be awaited, whatever they look like.
    """

    records: list[Record] = field(default_factory=list)
    errors: list[Raised] = field(default_factory=list)
    odd: dict[str, int] = field(default_factory=dict)
    stalled: float = 0.0
    peeks: list[Record] = field(default_factory=list)
    cut: bool = False
    asynchronous: bool = False


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a target has beside ``allow``, and how it is made.

    Attributes:
        takes_redis: Its third argument is the URL of a Redis.
        asynchronous: Its verbs are to be awaited.
        cost: ``allow`` takes a cost; ``take_cost``: so does ``take``.
        take, peek, wait, retry_after: It has the verb.
    """

    takes_redis: bool
    asynchronous: bool
    take: bool
    peek: bool
    wait: bool
    retry_after: bool
    cost: bool
    take_cost: bool


def one_line(text: str) -> str:
    """Escape what would break a line or move a cursor: what the target raised is its own text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def reply(line: bytes, number: int) -> Mapping[str, Any]:
    """Read a line.

    Args:
        line: What came.
        number: The command that it is the reply to.

    Raises:
        Rubbish: It is none, or that to another command. The same holds for the functions below.
    """
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        raise Rubbish from None
    if not isinstance(read, dict) or read.get("n") != number:
        raise Rubbish
    return read


def greeting(said: Mapping[str, Any]) -> str:
    """Return the version of the interpreter."""
    return _text(said, "python")


def unusable(said: Mapping[str, Any]) -> str | None:
    """Say why the target cannot be graded, where that is so."""
    return _text(said, "unusable") if "unusable" in said else None


def raised(said: Mapping[str, Any]) -> Raised | None:
    """Return what was raised, where something was."""
    return _raised({**_mapping(said, "raised"), "times": 1}) if "raised" in said else None


def abilities(said: Mapping[str, Any]) -> Abilities:
    told = _mapping(said, "abilities")
    if any(type(told.get(name)) is not bool for name in Abilities.__slots__):
        raise Rubbish
    return Abilities(**{name: told[name] for name in Abilities.__slots__})


def played(said: Mapping[str, Any]) -> Played:
    odd = _mapping(said, "odd")
    if any(type(times) is not int for times in odd.values()):
        raise Rubbish
    return Played(
        [_record(fields) for fields in _list(said, "records")],
        [_raised(fields) for fields in _list(said, "errors")],
        dict(odd),
        _span(said.get("stalled")),
        [_record(fields) for fields in _list(said, "peeks")],
        _flag(said, "cut"),
        _flag(said, "asynchronous"),
    )


def rounds(said: Mapping[str, Any], number: int) -> list[float]:
    """Return the means, seconds: one at least, so many at the most."""
    means = [_span(mean) for mean in _list(said, "rounds")]
    if not 1 <= len(means) <= number:
        raise Rubbish
    return means


def count(said: Mapping[str, Any], of: str) -> int:
    """Return a number of something: bytes, threads."""
    if type(said.get(of)) is not int:
        raise Rubbish
    return int(said[of])


def _record(fields: Sequence[Any]) -> Record:
    if type(fields) is not list or len(fields) != 7:
        raise Rubbish
    start, end, key, cost, allowed, wait, remaining = fields
    if (
        type(start) is float is type(end)
        and -math.inf < start <= end < math.inf
        and type(key) is str
        and type(cost) is int
        and (allowed is None or type(allowed) is bool)
        and (wait is None or wait == "inf" or (type(wait) is float and math.isfinite(wait)))
        and (remaining is None or type(remaining) is int)
    ):
        return Record(start, end, key, cost, allowed, math.inf if wait == "inf" else wait, remaining)
    raise Rubbish


def _raised(fields: Any) -> Raised:
    if not isinstance(fields, dict) or type(fields.get("times")) is not int:
        raise Rubbish
    return Raised(_text(fields, "type"), _text(fields, "message"), _text(fields, "where"), fields["times"])


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    if not isinstance(fields.get(name), bool):
        raise Rubbish
    return bool(fields[name])


def _text(fields: Mapping[str, Any], name: str) -> str:
    if not isinstance(fields.get(name), str):
        raise Rubbish
    return str(fields[name])


def _mapping(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(fields.get(name), dict):
        raise Rubbish
    return dict(fields[name])


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(fields.get(name), list):
        raise Rubbish
    return list(fields[name])


def _span(value: object) -> float:
    if not isinstance(value, float) or not 0.0 <= value < math.inf:
        raise Rubbish
    return value
