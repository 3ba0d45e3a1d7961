"""Stalls: answers that took far longer than the target usually takes, and the verdicts that they leave open.

A limiter that gets no answer from its store denies, allows or raises when its time is up: it fails closed, or open.
That was not decided by the limit, and the store may still count the request when it runs again. So an answer proves
nothing against a limiter if it is slow: it took longer than 30 ms, and three times as long as the quickest tenth of the
answers that were allowed, which show how long a decision takes while all is well. What that leaves open differs:

- An answer that is not "allowed" proves nothing, either, if it was given within a second of such a slow one: a circuit
  breaker may have been open.
- An answer that is "allowed" proves nothing only if it was slow itself, and only if the target asks a store. In one
  process nothing but the limiter decides, and a thread that was held up for long is where a race shows.

The comparison with the target's own answers is there so that nothing is excused by being slow all the time. It is with
the quickest of them, as a stall may delay most. If fewer than ten were allowed, a stall may have delayed all of them:
there is nothing to compare with, and 30 ms counts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from sluicegate.proof.history import Record

_LEAST = 0.03  # seconds: a machine with other work to do delays any answer for so long
_TIMES = 3
_ENOUGH = 10  # answers
_BREAKER = 1.0  # seconds for which a circuit breaker may stay open


class Times(NamedTuple):
    """The seconds that each answer took: those that were allowed, and all others, those of calls that raised included.

    Each in any order.
    """

    allowed: Sequence[float]
    others: Sequence[float]

    @property
    def slow_from(self) -> float:
        """The seconds from which an answer is slow."""
        if len(self.allowed) < _ENOUGH:
            return _LEAST
        return max(_LEAST, _TIMES * sorted(self.allowed)[len(self.allowed) // 10])

    @property
    def stall(self) -> str:
        """One line with what was seen, if any answer that was not "allowed" was slow; else empty."""
        return self._stall if any(took > self.slow_from for took in self.others) else ""

    @property
    def stall_of_any(self) -> str:
        """The same, if any answer was slow."""
        return self._stall if any(took > self.slow_from for took in (*self.allowed, *self.others)) else ""

    @property
    def _stall(self) -> str:
        slow_from = self.slow_from
        slow = [took for took in (*self.allowed, *self.others) if took > slow_from]
        answers = "1 answer" if len(slow) == 1 else f"{len(slow)} answers"
        return (
            f"{answers} took longer than {slow_from * 1000:.0f} ms, the slowest {max(slow):.2f} s: the target or its "
            f"store was stalled"
        )


def times(records: Iterable[Record]) -> Times:
    """Return how long the answers took."""
    allowed: list[float] = []
    others: list[float] = []
    for record in records:
        (allowed if record.allowed else others).append(record.end - record.start)
    return Times(allowed, others)


def excused(records: Sequence[Record], *, remote: bool = False) -> list[Record]:
    """Return the records with every answer that a stall may explain made unknown; if ``remote``, of any kind.

    Such a request may have been counted or not, and at any time from its start on: it may wait at the store for longer
    than its caller did.
    """
    slow_from = times(records).slow_from
    slow = sorted((r.start, r.end + _BREAKER) for r in records if not r.allowed and r.end - r.start > slow_from)
    starts, until = [start for start, _ in slow], [-math.inf, *accumulate((end for _, end in slow), max)]

    def stalled(record: Record) -> bool:
        if record.allowed:
            return remote and record.end - record.start > slow_from
        return record.start <= until[bisect_right(starts, record.start)]

    return [record._replace(allowed=None, end=math.inf) if stalled(record) else record for record in records]


def quick(records: Sequence[Record]) -> list[Record]:
    """Return the records without those that were slow to be allowed, for which a store may not have been asked."""
    slow_from = times(records).slow_from
    return [record for record in records if not record.allowed or record.end - record.start <= slow_from]
