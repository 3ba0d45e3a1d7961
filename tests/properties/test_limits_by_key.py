"""Keys with limits of their own on one policy's counters: none of them is counted by another one's limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties.oracles import ORACLES
from properties.traffic import COSTS, POLICIES, pass_us, span_us
from sluicegate import _algorithms as algorithms
from stores.harness import Harness, charges

_LIMITS = st.one_of(st.integers(1, 5), st.integers(1, 100))


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@given(data=st.data(), first=st.integers(1, 10**6), limit=_LIMITS)
def test_what_a_store_keeps_of_a_key_does_not_depend_on_whose_limit_it_met_first(
    name: str, data, first: int, limit: int
):
    policy = data.draw(data.draw(st.sampled_from(POLICIES[name]))).with_limit(limit)
    harness, oracle, last = Harness("memory"), ORACLES[name](), None
    harness.limiter(policy.with_limit(first)).take("another key")
    for _ in range(data.draw(st.integers(1, 20))):
        cost = data.draw(COSTS)
        last = oracle.decide(policy, harness.now_us, cost, commit=True)
        assert harness.decide(charges((policy, "key", cost))) == [[last]]
        pass_us(harness, span_us(data, policy, harness.now_us, last))
