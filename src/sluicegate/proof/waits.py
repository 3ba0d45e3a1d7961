"""`Wait`: a wait that a denial reported, and what the calls that followed without a pause show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.proof.history import Record

_ROUNDING = 1e-6  # seconds


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that a denial reported.

    Attributes:
        record: The denial.
        seconds: The wait that it reported.
        retries: The calls for its key after it, up to the first that was allowed or had no answer: until then no one
            took a unit.
        longest: The seconds that the longest call for its key took until then, the denial included. A limiter may
            answer from memory what an earlier call found out, and cannot know when during that call it was decided.
    """

    record: Record
    seconds: float
    retries: Sequence[Record]
    longest: float

    @property
    def allowed(self) -> Record | None:
        """The first call that was allowed; the true wait had ended by then."""
        return self.retries[-1] if self.retries and self.retries[-1].allowed else None

    @property
    def broken(self) -> Record | None:
        """A call that was denied although the wait had certainly ended."""
        ends_by = self.record.end + self.seconds + _ROUNDING
        return next((each for each in self.retries if each.allowed is False and each.start >= ends_by), None)

    def too_long(self, resolution: float) -> bool:
        """Tell whether a call was allowed before the wait had ended, by more than its resolution and `longest`."""
        end = self.allowed
        return end is not None and self.seconds > end.end - self.record.start + self.longest + resolution


def waits(records: Sequence[Record], number: int) -> list[Wait]:
    """Return the wait that a denial of each key reported: the one that comes after ``number`` records of its key.

    Args:
        records: The records, in the order of their starts.
        number: Records of a key before the denial. If that record is not a denial with a wait, the key is left out.
    """
    found = []
    for key in dict.fromkeys(record.key for record in records):
        mine = [record for record in records if record.key == key]
        if len(mine) <= number:
            continue
        denied, later = mine[number], mine[number + 1 :]
        if denied.allowed is False and denied.retry_after is not None:
            until = next((n for n, record in enumerate(later, 1) if record.allowed is not False), len(later))
            longest = max(record.end - record.start for record in mine[: number + 1])
            found.append(Wait(denied, denied.retry_after, later[:until], longest))
    return found
