"""The wait that a denial names is enough, and not a microsecond too long: for every algorithm, and for sets of them."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import servers
from properties.traffic import MAKERS, POLICIES, block_us, pass_us, span_us
from sluicegate import _algorithms as algorithms
from sluicegate._core.clock import FURTHEST_US
from sluicegate._core.decision import NEVER
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter
from stores.harness import Harness, charges

# Hundreds of examples also in the fast profile: in memory one is a matter of milliseconds.
_MANY = settings(max_examples=min(4 * settings.default.max_examples, 400))

_COSTS = st.tuples(st.sampled_from(["one", "few", "part", "burst"]), st.integers(1, 100))
_KINDS = st.sampled_from(["take", "take", "take", "take", "block"])
_PARTS = st.lists(
    st.tuples(st.sampled_from([maker for makers in MAKERS.values() for maker in makers]), st.booleans()),
    min_size=2,
    max_size=4,
)


def _cost(data, policies: list[Policy]) -> int:
    """Draw a cost that all policies can allow at some time."""
    kind, units = data.draw(_COSTS)
    burst = min(policy.burst for policy in policies)
    return {"one": 1, "few": min(units % 9 + 1, burst), "part": -(-burst * units // 100), "burst": burst}[kind]


def _waits(data, harness: Harness, policies: list[Policy]) -> None:
    """Ask one key for a while, and try each wait that is named."""
    key, last = uuid.uuid4().hex, None
    limiter = harness.limiter(*policies)
    for _ in range(data.draw(st.integers(2, 8))):
        pass_us(harness, span_us(data, data.draw(st.sampled_from(policies)), harness.now_us, last))
        if data.draw(_KINDS) == "block":
            span = block_us(data, policies[0])
            harness.store.block([Counter(policy, key) for policy in policies if not policy.shared], span)
        cost = _cost(data, policies)
        request = charges(*((policy, () if policy.shared else key, cost) for policy in policies))
        ((*verdicts,),) = harness.decide(request)
        last = max(verdicts, key=lambda verdict: verdict.retry_after_us)
        denied = not all(verdict.allowed for verdict in verdicts)
        if denied and harness.now_us + last.retry_after_us < FURTHEST_US:  # in 2223: further on no store can count
            _wait_is_exact(harness, limiter, request, key, last.retry_after_us)


def _wait_is_exact(harness: Harness, limiter, request, key: str, wait_us: int) -> None:
    _, _, cost = request[0]
    assert wait_us != NEVER  # no cost is above a burst
    denied = limiter.take(key, cost)
    if wait_us < 10**15:  # a float of seconds holds the microseconds of no longer one
        assert round(denied.retry_after * 1_000_000) == wait_us
    pass_us(harness, wait_us - 1)
    assert not limiter.peek(key, cost)
    assert not limiter.take(key, cost)
    pass_us(harness, 1)
    assert limiter.peek(key, cost)
    assert limiter.take(key, cost)


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@_MANY
@given(data=st.data())
def test_a_request_is_allowed_exactly_when_its_wait_ends(name: str, data):
    policy = data.draw(data.draw(st.sampled_from(POLICIES[name])))
    _waits(data, Harness("memory"), [policy])


@_MANY
@given(data=st.data(), parts=_PARTS)
def test_a_request_under_several_policies_is_allowed_exactly_when_its_wait_ends(data, parts):
    policies = [data.draw(maker(name=f"p{n}", shared=shared)) for n, (maker, shared) in enumerate(parts)]
    _waits(data, Harness("memory"), policies)


@pytest.fixture(scope="module")
def lua(server: servers.Server):
    with servers.own_prefix(server) as prefix:
        harness = Harness("redis", client=server.client, prefix=prefix)
        yield harness
        harness.close()


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@given(data=st.data())
def test_a_request_on_a_server_is_allowed_exactly_when_its_wait_ends(lua: Harness, name: str, data):
    policy = data.draw(data.draw(st.sampled_from(POLICIES[name])))
    lua.restart()
    _waits(data, lua, [policy])


@given(data=st.data(), parts=_PARTS)
def test_a_request_on_a_server_under_several_policies_is_allowed_exactly_when_its_wait_ends(lua: Harness, data, parts):
    # Named anew in each example, as what is shared must not meet the units of another one.
    name = uuid.uuid4().hex
    policies = [data.draw(maker(name=f"{name}-{n}", shared=shared)) for n, (maker, shared) in enumerate(parts)]
    lua.restart()
    _waits(data, lua, policies)
