"""What one lane was answered: kept by itself, so that no two threads write to the same place."""

import math
from collections import Counter
from typing import TypeVar

from . import MOST
from .answers import Told
from .words import Raised, raised, shown

_Kind = TypeVar("_Kind")
_KINDS = 10  # of errors and of odd answers that are told apart

Record = tuple[float, float, str, int, bool | None, float | str | None, int | None]


class Notes:
    """The records of one lane, those of peeks apart, what was raised, and what was no bool.

    Args:
        keep: False to keep no records.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self.records: list[Record] = []
        self.peeks: list[Record] = []
        self.errors: Counter[Raised] = Counter()
        self.odd_answers: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        return len(self.records) + len(self.peeks) >= MOST

    def record(self, start: float, end: float, verb: str, key: str, cost: int, *, told: Told | None) -> None:
        """Note one answer; None where none came."""
        if not self._keep:
            return
        records = self.peeks if verb == "peek" else self.records
        if told is None:
            records.append((start, end, key, cost, None, None, None))
            return
        wait = "inf" if told.retry_after == math.inf else told.retry_after  # JSON has no infinity
        records.append((start, end, key, cost, told.allowed, wait, told.remaining))

    def failed(self, error: BaseException) -> None:
        """Note what a call raised."""
        _count(self.errors, raised(error))

    def odd(self, answer: object) -> None:
        """Note an answer that is no bool where one is due."""
        _count(self.odd_answers, shown(answer))


def reply(lanes: list[Notes]) -> dict[str, object]:
    """Put the notes of all lanes together."""
    errors, odd = Counter[Raised](), Counter[str]()
    for notes in lanes:
        errors.update(notes.errors)
        odd.update(notes.odd_answers)
    return {
        "records": [record for notes in lanes for record in notes.records],
        "peeks": [record for notes in lanes for record in notes.peeks],
        "errors": [{**error._asdict(), "times": times} for error, times in errors.most_common(_KINDS)],
        "odd": dict(odd.most_common(_KINDS)),
    }


def _count(counter: Counter[_Kind], kind: _Kind) -> None:
    if kind in counter or len(counter) < _KINDS:
        counter[kind] += 1
