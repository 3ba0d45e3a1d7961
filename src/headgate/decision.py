"""The answer to one request, and the raw numbers it is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

NEVER = -1
"""A ``retry_after_us`` that says: this cost can never fit under this limit."""

Source = Literal["store", "denial-cache", "fallback"]


class Verdict(NamedTuple):
    """What an algorithm says of one charge, in whole numbers: the form in which stores pass it on."""

    allowed: bool
    remaining: int
    retry_after_us: int
    reset_after_us: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The immutable answer to one request, all of it from the same atomic step. True exactly when allowed.

    Attributes:
        allowed: Whether the request may go on. With several policies: whether all of them allow it.
        policy: The name of the policy that decides. Denied: the one with the longest wait. Allowed: the one with the
            fewest units remaining.
        limit: That policy's limit, units per window.
        remaining: Units that could still be taken from it now, never negative.
        retry_after: Seconds until the same request could be allowed: 0.0 when it was, ``math.inf`` when it never can
            be (its cost is above the limit). Exact: denied a microsecond before it ends, allowed when it ends, if
            nobody else took the unit and the clock did not step.
        reset_after: Seconds until the key is idle and the whole limit is back; 0.0 when it is.
        source: Where the answer came from: ``store``; in versions to come ``denial-cache`` or ``fallback``, too.
        decisions: One decision for each policy, in the limiter's order. In a denied request, a policy that had room
            says so here, and was not charged.
    """

    allowed: bool
    policy: str
    limit: int
    remaining: int
    retry_after: float
    reset_after: float
    source: Source = "store"
    _parts: tuple[Decision, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._parts or (self,)


def decision_of(names: Sequence[str], limits: Sequence[int], verdicts: Sequence[Verdict]) -> Decision:
    """Make the decision on a request from the verdict on each of its charges, all in the same order."""
    parts = tuple(
        Decision(
            allowed,
            name,
            limit,
            remaining,
            math.inf if retry_after_us == NEVER else retry_after_us / 1_000_000,
            reset_after_us / 1_000_000,
        )
        for name, limit, (allowed, remaining, retry_after_us, reset_after_us) in zip(
            names, limits, verdicts, strict=True
        )
    )
    if len(parts) == 1:
        return parts[0]
    if all(part.allowed for part in parts):
        decides = min(parts, key=lambda part: part.remaining)
    else:
        decides = max((part for part in parts if not part.allowed), key=lambda part: part.retry_after)
    return Decision(
        decides.allowed,
        decides.policy,
        decides.limit,
        decides.remaining,
        decides.retry_after,
        decides.reset_after,
        decides.source,
        parts,
    )
