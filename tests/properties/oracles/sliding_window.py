"""The sliding window by brute force: at most the limit in every (t - window, t], and no denial but for that."""

from __future__ import annotations

from properties.oracles.oracle import Oracle
from sluicegate import SlidingWindow
from sluicegate._core.policy import MOST_DEBT


class SlidingWindowOracle(Oracle):
    """All that was allowed and not yet cut: (stamp, cost). Charges of one stamp are one thing, and leave together."""

    def __init__(self) -> None:
        self.allowed: list[tuple[int, int]] = []
        self.generation = object()

    @property
    def newest(self) -> int:
        return max((stamp for stamp, _ in self.allowed), default=0)

    def level(self, policy: SlidingWindow, at: int) -> int:
        return sum(units for stamp, units in self.allowed if at - policy.window_us < stamp)

    def spans(self, policy: SlidingWindow, now: int) -> list[int]:
        return sorted({0, *(max(stamp + policy.window_us - now, 0) for stamp, _ in self.allowed)})

    def charge(self, policy: SlidingWindow, now: int, cost: int) -> None:
        grain = _grain(policy)
        stamp = max(-(-now // grain) * grain, self.newest)
        self.allowed = [(old, units) for old, units in self.allowed if now - policy.window_us < old]
        self.allowed.append((stamp, cost))

    def mark(self) -> tuple[object, int]:
        return self.generation, self.newest

    def settle(self, policy: SlidingWindow, now: int, cost: int, mark: tuple[object, int], actual: int) -> bool:
        generation, stamp = mark
        there = sum(units for old, units in self.allowed if old == stamp)
        if generation is not self.generation or stamp <= now - policy.window_us or there < cost:
            return False
        used = sum(units for _, units in self.allowed)
        left = there - cost + actual if actual <= cost else there + max(min(actual - cost, MOST_DEBT - used), 0)
        others = [(old, units) for old, units in self.allowed if old != stamp]
        self.allowed = [*others, (stamp, left)] if left else others
        if not self.allowed:
            self.generation = object()
        return True

    def repair(self, policy: SlidingWindow, now: int) -> None:
        # The clock that made the newest stamp read up to a grain less one microsecond less.
        stepped = self.newest - (_grain(policy) - 1) - now
        if stepped > policy.window_us:
            self.generation = object()
            self.allowed = [(min(stamp - stepped, now), units) for stamp, units in self.allowed]


def _grain(policy: SlidingWindow) -> int:
    return -(-policy.window_us // policy.buckets) if policy.buckets else 1
