"""`Recorder`: the answers that one client got. Each client has its own, so that no two threads write to one list."""

import math
from array import array
from collections import Counter
from typing import TypeVar

from . import MOST
from .answers import Answer
from .descriptions import ErrorDescription, describe_error, describe_value
from .loaded_target import ENDS

_Kind = TypeVar("_Kind")
_KINDS = 10  # different errors, and different unexpected answers, that are counted apart

RecordFields = tuple[float, float, str, int, bool | None, float | str | None, int | None]
"""A record as the protocol sends it."""


class Recorder:
    """The records of one client, those that took nothing apart, and the errors and unexpected answers that it got.

    Args:
        keep: False to discard the records, and keep only how long each call took.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self.records: list[RecordFields] = []
        self.peeks: list[RecordFields] = []
        # As plain numbers, for objects would be seen when the memory of the target is measured.
        self.allowed_took, self.others_took = array("d"), array("d")
        self.errors: Counter[ErrorDescription] = Counter()
        self.unexpected_answers: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        return len(self.records) + len(self.peeks) >= MOST

    def record(self, start: float, end: float, verb: str, key: str, cost: int, *, answer: Answer | None) -> None:
        """Record one answer; None if the call raised. What ends a reservation answers nothing."""
        if verb in ENDS:
            self.others_took.append(end - start)
            return
        if not self._keep:
            (self.allowed_took if answer is not None and answer.allowed else self.others_took).append(end - start)
            return
        records = self.peeks if verb in ("peek", "retry_after") else self.records
        if answer is None:
            records.append((start, end, key, cost, None, None, None))
            return
        wait = "inf" if answer.retry_after == math.inf else answer.retry_after  # JSON has no infinity
        records.append((start, end, key, cost, answer.allowed, wait, answer.remaining))

    def failed(self, error: BaseException) -> None:
        """Count an error that a call raised."""
        _count(self.errors, describe_error(error))

    def unexpected(self, answer: object) -> None:
        """Count an answer that is not a bool where one is expected."""
        _count(self.unexpected_answers, describe_value(answer))


def reply(recorders: list[Recorder]) -> dict[str, object]:
    """Merge the records of all clients into the fields of a reply."""
    errors, unexpected = Counter[ErrorDescription](), Counter[str]()
    for recorder in recorders:
        errors.update(recorder.errors)
        unexpected.update(recorder.unexpected_answers)
    return {
        "records": [record for recorder in recorders for record in recorder.records],
        "peeks": [record for recorder in recorders for record in recorder.peeks],
        "errors": [{**error._asdict(), "times": times} for error, times in errors.most_common(_KINDS)],
        "discarded": {
            "allowed": [took for recorder in recorders for took in recorder.allowed_took],
            "others": [took for recorder in recorders for took in recorder.others_took],
        },
        "unexpected": dict(unexpected.most_common(_KINDS)),
    }


def _count(counter: Counter[_Kind], kind: _Kind) -> None:
    if kind in counter or len(counter) < _KINDS:
        counter[kind] += 1
