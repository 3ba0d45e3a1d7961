"""The sliding window by brute force: at most the limit in every (t - window, t], and no denial but for that."""

from __future__ import annotations

from properties.oracles.oracle import Oracle
from sluicegate import SlidingWindow


class SlidingWindowOracle(Oracle):
    """All that was allowed and not yet cut: (stamp, cost)."""

    def __init__(self) -> None:
        self.allowed: list[tuple[int, int]] = []

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

    def repair(self, policy: SlidingWindow, now: int) -> None:
        # The clock that made the newest stamp read up to a grain less one microsecond less.
        stepped = self.newest - (_grain(policy) - 1) - now
        if stepped > policy.window_us:
            self.allowed = [(min(stamp - stepped, now), units) for stamp, units in self.allowed]


def _grain(policy: SlidingWindow) -> int:
    return -(-policy.window_us // policy.buckets) if policy.buckets else 1
