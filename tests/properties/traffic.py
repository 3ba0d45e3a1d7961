"""What is asked in the property tests: policies of every algorithm, costs, keys, and how far the clock moves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import strategies as st

from properties.oracles.edged import edges
from sluicegate import CalendarWindow, Concurrency, FixedWindow, SlidingWindow, TokenBucket
from sluicegate._core.clock import FURTHEST_US
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy
from stores.harness import START, Harness

Maker = Callable[..., st.SearchStrategy[Policy]]
"""Makes policies on one counter from options such as ``per``: their limits differ, as when they are changed."""

MOST = 10**11
DAY_US = 86400 * 1_000_000

COSTS = st.one_of(st.just(1), st.just(1), st.integers(1, 5), st.integers(1, 150), st.just(MOST))

_WINDOWS_US = {"tiny": 7, "short": 1_000, "second": 1_000_000}


def _limits(most: int = MOST) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, 6), st.integers(1, 12), st.integers(1, 120), st.just(most))


def _sliding_windows(span: str, **options) -> st.SearchStrategy[Policy]:
    buckets = st.sampled_from([None, None, None, 1, 2, 9, 600])
    return st.builds(SlidingWindow, _limits(), buckets=buckets, **_fixed({"name": f"sliding-{span}"} | options, span))


def _token_buckets(span: str, **options) -> st.SearchStrategy[Policy]:
    most = min(MOST, 2**53 // _WINDOWS_US[span])
    bursts = st.one_of(st.none(), _limits(most), st.integers(20, 150))  # many windows' worth, too
    return st.builds(TokenBucket, _limits(most), burst=bursts, **_fixed({"name": f"bucket-{span}"} | options, span))


def _fixed_windows(span: str, **options) -> st.SearchStrategy[Policy]:
    return st.builds(FixedWindow, _limits(), **_fixed({"name": f"fixed-{span}"} | options, span))


def _calendar_windows(every: str, timezone: str, **options) -> st.SearchStrategy[Policy]:
    return st.builds(CalendarWindow, _limits(), **_fixed({"every": every, "timezone": timezone} | options))


def _concurrencies(span: str, **options) -> st.SearchStrategy[Policy]:
    ttl = {"ttl": _WINDOWS_US[span] / 1_000_000, "name": f"leases-{span}"} | options
    return st.builds(Concurrency, _limits(), **_fixed(ttl))


def _fixed(options: dict[str, object], span: str | None = None) -> dict[str, st.SearchStrategy]:
    window = {"window": _WINDOWS_US[span] / 1_000_000} if span else {}
    return {name: st.just(value) for name, value in ({"name": "calendar"} | window | options).items()}


MAKERS: dict[str, list[Maker]] = {
    SlidingWindow.algorithm: [partial(_sliding_windows, span) for span in _WINDOWS_US],
    TokenBucket.algorithm: [partial(_token_buckets, span) for span in _WINDOWS_US],
    FixedWindow.algorithm: [partial(_fixed_windows, span) for span in _WINDOWS_US],
    CalendarWindow.algorithm: [
        partial(_calendar_windows, "hour", "UTC"),
        partial(_calendar_windows, "day", "Europe/Paris"),
        partial(_calendar_windows, "month", "UTC"),
        partial(_calendar_windows, "month", "Europe/Paris"),
        partial(_calendar_windows, "day", "Europe/Paris", hour=2),
        partial(_calendar_windows, "month", "Europe/Paris", day=31, hour=6),
    ],
    Concurrency.algorithm: [partial(_concurrencies, span) for span in _WINDOWS_US],
}

POLICIES = {name: [make() for make in makers] for name, makers in MAKERS.items()}


def actuals(policy: Policy, cost: int) -> st.SearchStrategy[int]:
    """Make what a charge turned out to be: less, nothing, more. A lease is released or renewed."""
    if policy.lends:
        return st.sampled_from([0, cost])
    near = st.sampled_from([0, 0, 1, cost - 1, cost, cost + 1, min(2 * cost, MOST), MOST])
    return st.one_of(near, st.integers(0, cost))


# In the evening before the clocks of Paris change: in March, when an hour is skipped, and in October.
_EVES = [1_711_825_200, 1_729_969_200]
_PARTS = 10**9
_SPANS = st.tuples(
    st.sampled_from(["none", "turn", "turn", "turn", "part", "little"]),
    st.integers(0, _PARTS),
    st.sampled_from([0, -1, 1]),
)

BEGINNINGS = st.sampled_from([0, 0, *((eve - int(START)) * 1_000_000 for eve in _EVES)])


def span_us(data, policy: Policy, now_us: int, last: Verdict | None = None) -> int:
    """Draw a span to move a clock on by: a part of the window, or just where a verdict turns.

    ``last`` is a verdict of now, whose ends are such places.
    """
    kind, part, off = data.draw(_SPANS)
    if kind == "none":
        return 0
    if kind == "turn":
        turns = _turns(policy, now_us, last)
        return max(turns[part % len(turns)] + off, 0)
    return policy.window_us * part // _PARTS // (40 if kind == "little" else 1)


def block_us(data, policy: Policy) -> int:
    """Draw the span of a block; 0 takes one off."""
    kind, part, _ = data.draw(_SPANS)
    return {"none": 0, "turn": (part % 3 + 1) * policy.window_us}.get(kind, 2 * policy.window_us * part // _PARTS)


def pass_us(harness: Harness, span_us: int) -> None:
    """Move a harness's clock on by exactly so much: a float of seconds holds so many microseconds only in pieces.

    But no further than a store can count.
    """
    span_us = min(span_us, FURTHEST_US - harness.now_us)
    while span_us:
        part = max(min(span_us, 10**15), -(10**15))
        harness.advance(part / 1_000_000)
        span_us -= part


def _turns(policy: Policy, now_us: int, last: Verdict | None) -> list[int]:
    window = policy.window_us
    turns = [1, window, 2 * window]
    if isinstance(policy, (FixedWindow, CalendarWindow)):
        turns.append(edges(policy, now_us)[1] - now_us)
    if isinstance(policy, TokenBucket):  # when 1, 2, 5 units have flown out
        turns += [-(-units * window // policy.limit) for units in (1, 2, 5)]
    if last is not None:
        turns += [span for span in (last.retry_after_us, last.reset_after_us) if 0 < span < 1000 * DAY_US] * 3
    return turns
