"""What all oracles share: how a level that falls until something is charged becomes a verdict, and blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from fractions import Fraction
from math import floor
from typing import Any

from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.policy import Policy

Level = int | Fraction


class Oracle(ABC):
    """One counter. Whole microseconds since 1970; a stepped clock is repaired when something is charged (G8)."""

    blocked_until = 0

    @abstractmethod
    def level(self, policy: Policy, at: int) -> Level:
        """Return the units that are held at an instant, if nothing is charged before."""

    def spans(self, policy: Policy, now: int) -> list[int]:
        """Return the spans from now, rising, after which the level may be another one; 0 is the first."""
        raise NotImplementedError  # not asked for where `after` finds its span in another way

    @abstractmethod
    def charge(self, policy: Policy, now: int, cost: int) -> None: ...

    @abstractmethod
    def mark(self) -> Any:
        """Return where the last charge is: what tells it from all that can be settled and is not it."""

    @abstractmethod
    def settle(self, policy: Policy, now: int, cost: int, mark: Any, actual: int) -> bool:
        """Make a charge of ``cost`` units one of ``actual`` units. Returns whether it was there."""

    @abstractmethod
    def repair(self, policy: Policy, now: int) -> None:
        """Bring what only a step of the clock can have put far ahead back to now."""

    def dropped(self, policy: Policy, now: int) -> bool:
        """Tell whether a store may have dropped the counter by now, though something is in it under this policy."""
        return False

    def decide(self, policy: Policy, now: int, cost: int, *, commit: bool) -> Verdict:
        counter = self if commit else copy(self)
        counter.repair(policy, now)
        seen = counter._look(policy, now, cost)
        left = self.blocked_until - now
        if left > 0 and not policy.forced:
            wait = NEVER if seen.retry_after_us == NEVER else max(seen.retry_after_us, left)
            return Verdict(False, 0, wait, max(seen.reset_after_us, left))
        if not (commit and seen.allowed):
            return seen
        counter.charge(policy, now, cost)
        return Verdict(True, seen.remaining - cost, 0, counter.after(policy, now, 0))

    def block(self, now: int, span_us: int) -> None:
        self.blocked_until = now + span_us

    def after(self, policy: Policy, now: int, most: int) -> int:
        """Return the first span from now after which no more than ``most`` is held."""
        return next(span for span in self.spans(policy, now) if self.level(policy, now + span) <= most)

    def _look(self, policy: Policy, now: int, cost: int) -> Verdict:
        level = self.level(policy, now)
        wait = NEVER if cost > policy.burst else self.after(policy, now, policy.burst - cost)
        return Verdict(wait == 0, max(floor(policy.burst - level), 0), wait, self.after(policy, now, 0))
