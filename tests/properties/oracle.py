"""The rules once more, by brute force: every allowed unit with its stamp, and sums over all of them at each question.

One class for each algorithm, written from the words of the guarantees and not from the code. Whole microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from headgate import SlidingWindow
from headgate.decision import NEVER, Verdict


@dataclass
class SlidingWindowOracle:
    """All that was allowed and not yet cut: (stamp, cost)."""

    allowed: list[tuple[int, int]] = field(default_factory=list)

    def newest(self) -> int | None:
        return max((stamp for stamp, _ in self.allowed), default=None)

    def decide(self, policy: SlidingWindow, now: int, cost: int, *, charging: bool) -> Verdict:
        newest, window = self.newest(), policy.window_us
        if newest is not None and newest - now > window:  # only a step of the clock can have put it there
            if charging:
                self.allowed = [(stamp - (newest - now), units) for stamp, units in self.allowed]
                newest = now
            else:
                now = newest
        inside = [(stamp, units) for stamp, units in self.allowed if now - window < stamp]
        used = sum(units for _, units in inside)
        remaining, reset = max(policy.limit - used, 0), max(newest + window - now, 0) if newest is not None else 0
        if cost > policy.limit:
            return Verdict(False, remaining, NEVER, reset)
        if used + cost > policy.limit:
            waits = (stamp + window - now for stamp, _ in inside)
            enough = (w for w in waits if self._inside(now + w, window) + cost <= policy.limit)
            return Verdict(False, remaining, min(enough), reset)
        if not charging:
            return Verdict(True, remaining, 0, reset)
        grain = -(-window // policy.buckets) if policy.buckets else 1
        stamp = max(-(-now // grain) * grain, now if newest is None else newest)
        self.allowed = [*inside, (stamp, cost)]
        return Verdict(True, remaining - cost, 0, stamp + window - now)

    def _inside(self, now: int, window: int) -> int:
        return sum(units for stamp, units in self.allowed if now - window < stamp)


_WINDOWS = {"tiny": 7, "short": 1_000, "second": 1_000_000}


def sliding_windows(window: str) -> st.SearchStrategy[SlidingWindow]:
    """Policies on one counter: their limits and buckets differ, as when they are changed on the way."""
    return st.builds(
        SlidingWindow,
        st.one_of(st.integers(1, 12), st.integers(1, 120), st.just(10**11)),
        window=st.just(_WINDOWS[window] / 1_000_000),
        buckets=st.one_of(st.none(), st.integers(1, 9), st.just(600)),
        name=st.just(f"{window}-window"),
    )


ORACLES = {SlidingWindow.algorithm: SlidingWindowOracle}
POLICIES = {SlidingWindow.algorithm: [sliding_windows(window) for window in _WINDOWS]}

COSTS = st.one_of(st.just(1), st.just(1), st.integers(1, 5), st.integers(1, 150), st.just(10**11))


def spans_us(policy: SlidingWindow) -> st.SearchStrategy[int]:
    """Spans to move a clock on by: mostly a part of the window, often just at its edge."""
    window = policy.window_us
    return st.one_of(
        st.just(0),
        st.integers(0, max(1, window // 40)),
        st.integers(0, window),
        st.sampled_from([1, window - 1, window, window + 1, 2 * window + 1]),
    )
