"""The rules by themselves, without a store."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sluicegate._algorithms import BY_NAME, concurrency, sliding_window
from sluicegate._core.policy import Policy
from stores.memory.every import each

START_NS = 1_700_000_000 * 10**9


@each
@pytest.mark.parametrize("seed", range(3))
def test_a_check_changes_nothing_and_says_what_committing_does_to_the_repaired_state(policy: Policy, seed: int):
    random, now_ns, ways, usual = Random(seed), START_NS, Counter(), policy
    algorithm = BY_NAME[policy.algorithm]
    state, _ = algorithm.decide(None, policy, now_ns, 1, True)
    for _ in range(800):
        now_ns += random.choice([0, 1, 999, 10**9, policy.window_us * 100, policy.window_us * 1000, -(10**9)])
        now_ns += random.choice([0] * 50 + [-3 * policy.window_ns])
        cost, policy = random.choice([1] * 20 + [2, 6]), random.choice([usual] * 9 + [usual.with_limit(1)])
        before = parts(state, now_ns)
        same, check = algorithm.decide(state, policy, now_ns, cost, False)
        assert same is state
        assert parts(state, now_ns) == before
        ways["repaired"] += algorithm.repair(state, policy, now_ns)
        before = parts(state, now_ns)
        state, verdict = algorithm.decide(state, policy, now_ns, cost, True)
        ways[check.allowed] += 1
        if check.allowed:
            _, after = algorithm.decide(state, policy, now_ns, 1, False)
            assert verdict == (True, check.remaining - cost, 0, after.reset_after_us)
            assert after.remaining == verdict.remaining
        else:
            assert verdict == check
            assert parts(state, now_ns) == before
    assert min(ways["repaired"], ways[True], ways[False]) >= 5


def parts(state, now_ns: int) -> list[object]:
    """Return all that a state holds: of leases those that have not ended."""
    if isinstance(state, sliding_window.Units):
        return list(state)
    if isinstance(state, sliding_window.Totals):
        return list(state.pairs)
    if isinstance(state, concurrency.Leases):
        return [(number, *lease) for number, lease in state.by_number.items() if lease[0] > now_ns]
    return [getattr(state, name) for name in type(state).__slots__]
