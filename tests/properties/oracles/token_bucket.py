"""The token bucket by fractions: a level of units from which the limit flows out in each window, evenly."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from math import ceil

from properties.oracles.oracle import Oracle
from sluicegate import TokenBucket


class TokenBucketOracle(Oracle):
    """What was in the bucket at its last charge, and since when that flows out: not before the clock is there again."""

    def __init__(self) -> None:
        self.at = 0
        self.units = Fraction(0)
        self.limit = 1
        self.generation = object()

    def level(self, policy: TokenBucket, at: int) -> Fraction:
        return max(self.units - Fraction(policy.limit, policy.window_us) * max(at - self.at, 0), Fraction(0))

    def after(self, policy: TokenBucket, now: int, most: int) -> int:
        # It never rises: the first whole microsecond is found by halving.
        return bisect_left(range(2**60), True, key=lambda span: self.level(policy, now + span) <= most)

    def charge(self, policy: TokenBucket, now: int, cost: int) -> None:
        if not self.level(policy, now):
            self.generation = object()  # nothing is left to give back of what came before
        self.at, self.units, self.limit = max(self.at, now), self.level(policy, now) + cost, policy.limit

    def mark(self) -> tuple[object, int]:
        return self.generation, self.at

    def settle(self, policy: TokenBucket, now: int, cost: int, mark: tuple[object, int], actual: int) -> bool:
        generation, poured_at = mark
        if generation is not self.generation or self.at - now > policy.window_us:
            return False
        at, level = max(self.at, now), self.level(policy, now)
        if not level and now - self.at >= policy.window_us:  # a store may have dropped it
            return False
        if actual > cost:
            level = max(level, min(level + actual - cost, Fraction(2**53 // policy.window_us)))
        else:
            drained = Fraction(policy.limit * (at - poured_at), policy.window_us)
            level -= min(max(cost - actual - drained, 0), level)
        self.at, self.units, self.limit = at, level, policy.limit
        return True

    def repair(self, policy: TokenBucket, now: int) -> None:
        if self.at - now > policy.window_us:
            self.at, self.generation = now, object()

    def dropped(self, policy: TokenBucket, now: int) -> bool:
        # It is kept until it is empty at the pace of its last charge, and for a window at least. A limit that is
        # lowered after that charge comes too late.
        kept = max(ceil(self.units * policy.window_us / self.limit), policy.window_us)
        return now >= max(self.at + kept, self.blocked_until) and self.level(policy, now) > 0
