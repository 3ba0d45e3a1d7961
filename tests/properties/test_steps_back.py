"""Steps of the store's clock, in real time: in any window of a clock that nobody steps no more is allowed than the
worst case, and so much more for each step forward in it; and no wait is longer than docs/clocks.md says.
"""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import servers
from properties.oracles.edged import edges
from properties.traffic import BEGINNINGS, pass_us
from sluicegate import CalendarWindow, Concurrency, FixedWindow, SlidingWindow, TokenBucket
from sluicegate import _algorithms as algorithms
from sluicegate._core.policy import Policy
from stores.harness import Harness, charges

HOUR_US = 3_600_000_000
YEAR_US = 365 * 24 * HOUR_US
EDGED = (FixedWindow, CalendarWindow)

_PARTS = 10**6
_LIMITS = st.integers(1, 3)
_FIXED = {"window": st.sampled_from([0.000_007, 0.001, 60]), "name": st.just("a")}
POLICIES = {
    "sliding-window": st.builds(SlidingWindow, _LIMITS, **_FIXED),
    "token-bucket": st.builds(TokenBucket, _LIMITS, burst=st.integers(1, 5), **_FIXED),
    "fixed-window": st.builds(FixedWindow, _LIMITS, **_FIXED),
    "calendar-window": st.builds(
        CalendarWindow, _LIMITS, every=st.sampled_from(["hour", "day", "month"]), timezone=st.just("Europe/Paris")
    )
    | st.just(CalendarWindow(2, every="month", day=31, hour=2, timezone="Europe/Paris")),
    "concurrency": st.builds(Concurrency, _LIMITS, ttl=_FIXED["window"], name=st.just("a")),
}
_BUCKETS = st.sampled_from([None, 1, 1, 2, 2, 3, 9, 600])
# A fault needs a few turns of a kind in their order: what is cheap to look at is looked at often.
_MANY = settings(max_examples=12 * settings.default.max_examples)


def longest_wait_us(policy: Policy) -> int:
    """Return the longest wait that docs/clocks.md tells of."""
    if isinstance(policy, SlidingWindow):
        return 2 * policy.window_us + policy.grain_us - 1
    if isinstance(policy, TokenBucket):
        return policy.window_us - (-policy.burst * policy.window_us // policy.limit)
    # A day or a month in which clocks go back is an hour longer than the longest usual one.
    return 2 * policy.window_us + (HOUR_US if isinstance(policy, CalendarWindow) else 0)


def more(policy: Policy) -> int:
    """Return what a step forward may give: of windows with edges that of the one it leads to, and of the next."""
    return 2 * policy.limit if isinstance(policy, EDGED) else policy.burst


def _pass_us(data, policy: Policy, now_us: int) -> int:
    """Draw how much time passes: next to nothing, until an edge or just before it, or any part of a window."""
    part = data.draw(st.integers(0, _PARTS))
    spans = {"part": policy.window_us * part // _PARTS, "little": part % 3}
    if isinstance(policy, EDGED):
        spans["edge"] = edges(policy, now_us)[1] - now_us - part % 2
    return spans[data.draw(st.sampled_from([*spans]))]


def _step_us(data, policy: Policy) -> int:
    """Draw a step of the clock: mostly back, around a window and a grain as often as by any span."""
    window_us, part = policy.window_us, data.draw(st.integers(0, _PARTS))
    spans = {
        "windows": -5 * window_us * part // _PARTS,
        "part": -window_us * part // _PARTS,
        "window": -window_us - data.draw(st.sampled_from([0, getattr(policy, "grain_us", 1)])) + part % 5 - 2,
        "little": -(part % 3 + 1),
        "year": -YEAR_US,
        "forward": 3 * window_us * part // _PARTS,
        "forward a year": YEAR_US,
    }
    return spans[data.draw(st.sampled_from(["windows", "windows", *spans]))]


_TURNS = st.lists(st.sampled_from(["take", "take", "take", "step", "wait", "wait"]), min_size=4, max_size=16)
"""What happens one after the other: time passes and one unit is taken; the clock steps; the wait that is told passes
and all that there is then is taken."""


def hold_to_real_time(harness: Harness, name: str, data) -> None:
    """Take what there is, at random times and just when it is there; step the clock; and count by one that is true."""
    policy, key = data.draw(POLICIES[name]), uuid.uuid4().hex
    if isinstance(policy, SlidingWindow):
        policy = SlidingWindow(policy.limit, window=policy.window, buckets=data.draw(_BUCKETS), name="a")
    past, forward, real_us = [], [], 0
    pass_us(harness, data.draw(BEGINNINGS))
    for turn in data.draw(_TURNS):
        if turn == "step":
            step_us = _step_us(data, policy)
            pass_us(harness, step_us)
            if step_us > 0:
                forward.append(real_us)
            continue
        ((seen,),) = harness.decide(charges((policy, key, 1)), commit=False)
        assert seen.retry_after_us <= longest_wait_us(policy)
        passed_us = seen.retry_after_us if turn == "wait" else _pass_us(data, policy, harness.now_us)
        real_us += passed_us
        pass_us(harness, passed_us)
        if turn == "take":
            past += [(real_us, 1)] * harness.limiter(policy).allow(key)  # in memory by the quick way
            continue
        ((seen,),) = harness.decide(charges((policy, key, 1)), commit=False)
        if seen.remaining:
            assert harness.decide(charges((policy, key, seen.remaining)))[0][0].allowed
            past.append((real_us, seen.remaining))
    for at_us, _ in past:
        within = sum(units for each_us, units in past if at_us - policy.window_us < each_us <= at_us)
        steps = sum(at_us - policy.window_us < each_us <= at_us for each_us in forward)
        assert within <= policy.worst_case + steps * more(policy)


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@_MANY
@given(data=st.data())
@pytest.mark.slow
def test_in_no_window_of_real_time_is_more_than_the_worst_case_allowed_whatever_the_steps_back(name: str, data):
    hold_to_real_time(Harness("memory"), name, data)


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@given(data=st.data())
@pytest.mark.slow
def test_on_a_server_it_is_the_same(server: servers.Server, name: str, data):
    with servers.own_prefix(server) as prefix:
        harness = Harness("redis", client=server.client, prefix=prefix)
        hold_to_real_time(harness, name, data)
        harness.close()
