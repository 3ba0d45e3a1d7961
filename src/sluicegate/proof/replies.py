"""Parse and validate the replies of a worker. The target runs in the worker's process and may have written them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluicegate.proof.history import Record
from sluicegate.proof.stalls import Times, times


class InvalidReply(ValueError):
    """A worker's reply is invalid."""


@dataclass(frozen=True, slots=True)
class CallError:
    """An exception that calls of the target raised.

    Attributes:
        type, message, where: Its type, its message, and the place in the code.
        times: How many calls raised it.
    """

    type: str
    message: str
    where: str
    times: int

    @property
    def what(self) -> str:
        """The type, the message and the place, in one line."""
        message = f": {self.message}" if self.message else ""
        where = f" at {self.where}" if self.where else ""
        return one_line(f"{self.type}{message}{where}")

    def __str__(self) -> str:
        return f"{self.what} ({self.times} {'call' if self.times == 1 else 'calls'})"


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The answers to a scenario.

    Attributes:
        records: Every answer except those of ``peek`` and ``retry_after``, in order for each client. ``allowed`` is
            None if the call raised, or if ``wait`` did not say whether it took a unit.
        peeks: The answers of ``peek`` and of ``retry_after``.
        errors: The exceptions that calls raised; the records of those calls have no answer.
        unexpected: Answers of ``allow`` that were not a bool and numbers that ``wait`` returned, with their counts.
        discarded: How long the calls took whose records were discarded.
        loop_blocked: The longest time in seconds that the event loop was blocked, if there is one.
        paused: The longest time in seconds for which the worker did not run although nothing kept it.
        cut: Whether the target was so slow that some calls were not made.
        asynchronous: Whether its methods turned out to be awaitable, whatever they look like.
    """

    records: list[Record] = field(default_factory=list)
    errors: list[CallError] = field(default_factory=list)
    unexpected: dict[str, int] = field(default_factory=dict)
    loop_blocked: float = 0.0
    peeks: list[Record] = field(default_factory=list)
    cut: bool = False
    asynchronous: bool = False
    discarded: Times = field(default=Times((), ()))
    paused: float = 0.0

    @property
    def times(self) -> Times:
        """How long the calls took, whether their records were kept or not."""
        kept = times([*self.records, *self.peeks])
        return Times([*kept.allowed, *self.discarded.allowed], [*kept.others, *self.discarded.others])


@dataclass(frozen=True, slots=True)
class Abilities:
    """The methods a target has beside ``allow``, and how to construct it.

    Attributes:
        takes_redis: Whether its third argument is a Redis URL.
        asynchronous: Whether its methods must be awaited.
        cost: Whether ``allow`` takes a cost; ``take_cost``: whether ``take`` does.
            ``peek_cost``: whether ``peek`` does.
        timeout: Whether ``wait`` takes a timeout.
        acquire: Whether it has that method and no ``allow``: it lends permits.
        take, peek, wait, retry_after, reserve: Whether it has the method.
    """

    takes_redis: bool
    asynchronous: bool
    acquire: bool
    take: bool
    peek: bool
    wait: bool
    retry_after: bool
    reserve: bool
    cost: bool
    take_cost: bool
    peek_cost: bool
    timeout: bool


def one_line(text: str) -> str:
    """Escape the characters that would break a line or move a cursor: the target may have chosen the text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def reply(line: bytes, number: int) -> Mapping[str, Any]:
    """Parse a line.

    Args:
        line: The line that was received.
        number: The number of the command that it should answer.

    Raises:
        InvalidReply: It is not a reply, or answers another command. The functions below raise it, too.
    """
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidReply from None
    if not isinstance(read, dict) or read.get("n") != number:
        raise InvalidReply
    return read


def greeting(fields: Mapping[str, Any]) -> str:
    """Return the version of the interpreter."""
    return _text(fields, "python")


def unusable(fields: Mapping[str, Any]) -> str | None:
    """Return why the target cannot be graded; None if it can."""
    return _text(fields, "unusable") if "unusable" in fields else None


def error(fields: Mapping[str, Any]) -> CallError | None:
    """Return the exception that was raised; None if none was."""
    return _call_error({**_mapping(fields, "raised"), "times": 1}) if "raised" in fields else None


def abilities(fields: Mapping[str, Any]) -> Abilities:
    flags = _mapping(fields, "abilities")
    if any(type(flags.get(name)) is not bool for name in Abilities.__slots__):
        raise InvalidReply
    return Abilities(**{name: flags[name] for name in Abilities.__slots__})


def scenario_result(fields: Mapping[str, Any]) -> ScenarioResult:
    unexpected = _mapping(fields, "unexpected")
    if any(type(times) is not int for times in unexpected.values()):
        raise InvalidReply
    return ScenarioResult(
        [_record(each) for each in _list(fields, "records")],
        [_call_error(each) for each in _list(fields, "errors")],
        dict(unexpected),
        _span(fields.get("loop_blocked")),
        [_record(each) for each in _list(fields, "peeks")],
        _flag(fields, "cut"),
        _flag(fields, "asynchronous"),
        Times(*([_span(took) for took in _list(_mapping(fields, "discarded"), name)] for name in Times._fields)),
        _span(fields.get("paused")),
    )


def rounds(fields: Mapping[str, Any], number: int) -> list[float]:
    """Return the mean of each round in seconds: at least one, at most ``number``."""
    means = [_span(mean) for mean in _list(fields, "rounds")]
    if not 1 <= len(means) <= number:
        raise InvalidReply
    return means


def each(fields: Mapping[str, Any], number: int) -> list[float]:
    """Return the seconds of each call: at least one, at most ``number``."""
    found = [_span(took) for took in _list(fields, "seconds")]
    if not 1 <= len(found) <= number:
        raise InvalidReply
    return found


def count(fields: Mapping[str, Any], of: str) -> int:
    """Return a count: ``bytes`` or ``threads``."""
    if type(fields.get(of)) is not int:
        raise InvalidReply
    return int(fields[of])


def _record(fields: Sequence[Any]) -> Record:
    if type(fields) is not list or len(fields) != 7:
        raise InvalidReply
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
    raise InvalidReply


def _call_error(fields: Any) -> CallError:
    if not isinstance(fields, dict) or type(fields.get("times")) is not int:
        raise InvalidReply
    return CallError(_text(fields, "type"), _text(fields, "message"), _text(fields, "where"), fields["times"])


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    if not isinstance(fields.get(name), bool):
        raise InvalidReply
    return bool(fields[name])


def _text(fields: Mapping[str, Any], name: str) -> str:
    if not isinstance(fields.get(name), str):
        raise InvalidReply
    return str(fields[name])


def _mapping(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(fields.get(name), dict):
        raise InvalidReply
    return dict(fields[name])


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(fields.get(name), list):
        raise InvalidReply
    return list(fields[name])


def _span(value: object) -> float:
    if not isinstance(value, float) or not 0.0 <= value < math.inf:
        raise InvalidReply
    return value
