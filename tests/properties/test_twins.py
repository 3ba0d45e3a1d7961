"""Each algorithm in Python, its twin in Lua on a real server, and the oracle: the same answer to everything.

The clock is stepped as well: back, forward, by a year and back. The store in memory drops idle keys, and a clock that
steps back would find them gone; so without it, but for where the clock only moves on.
"""

from __future__ import annotations

import uuid
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import servers
from properties.oracles import ORACLES
from properties.traffic import BEGINNINGS, COSTS, POLICIES, block_us, pass_us, span_us
from sluicegate import SlidingWindow
from sluicegate import _algorithms as algorithms
from sluicegate._core.decision import Verdict
from sluicegate._core.request import Counter
from stores.harness import START, Harness, charges

YEAR_US = 365 * 86400 * 1_000_000
_WAYS = st.sampled_from([1, 1, 1, 1, 1, -1, -1, YEAR_US, -YEAR_US])
_CHARGING = st.sampled_from([True, True, True, False])
# Blocks are few states more, on two servers for every algorithm: half of a profile's examples meet them often enough.
_HALF = settings(max_examples=-(-settings.default.max_examples // 2))
_RARELY = st.sampled_from([False, False, False, True])


def test_every_algorithm_has_a_twin_an_oracle_and_policies_to_try():
    assert set(algorithms.BY_NAME) == set(ORACLES) == set(POLICIES)
    for name in algorithms.BY_NAME:
        assert algorithms.lua(name)


class InPython:
    """The algorithm as a store in memory calls it, without the store."""

    def __init__(self, name: str) -> None:
        self.algorithm = algorithms.BY_NAME[name]
        self.state = None

    def decide(self, policy, now_us: int, cost: int, *, commit: bool) -> Verdict:
        now_ns = now_us * 1000
        if commit and self.state is not None:
            self.algorithm.repair(self.state, policy, now_ns)
        self.state, verdict = self.algorithm.decide(self.state, policy, now_ns, cost, commit)
        return verdict


@pytest.fixture(scope="module")
def lua(server: servers.Server):
    with servers.own_prefix(server) as prefix:
        harness = Harness("redis", client=server.client, prefix=prefix)
        yield harness
        harness.close()


def _step_us(data, policy, now_us: int, last: Verdict | None) -> int:
    """Draw a span forward or back; but not far behind 1970, of which no clock tells."""
    way = data.draw(_WAYS)
    span = YEAR_US if abs(way) == YEAR_US else span_us(data, policy, now_us, last)
    return -span if way < 0 and now_us - span > START * 500_000 else span


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@given(data=st.data())
def test_python_lua_and_the_oracle_agree_on_every_answer_also_when_the_clock_steps(lua: Harness, name: str, data):
    policies = data.draw(st.sampled_from(POLICIES[name]))
    python, oracle, expected = InPython(name), ORACLES[name](), None
    key = uuid.uuid4().hex  # not drawn: an example that is run again must not meet its own log
    lua.restart()
    pass_us(lua, data.draw(BEGINNINGS))
    for _ in range(data.draw(st.integers(1, 30))):
        policy = data.draw(policies)
        pass_us(lua, _step_us(data, policy, lua.now_us, expected))
        cost, commit = data.draw(COSTS), data.draw(_CHARGING)
        expected = oracle.decide(policy, lua.now_us, cost, commit=commit)
        assert python.decide(policy, lua.now_us, cost, commit=commit) == expected
        ((answer,),) = lua.decide(charges((policy, key, cost)), commit=commit)
        assert answer == expected


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@_HALF
@given(data=st.data())
def test_blocks_are_the_same_in_lua_in_memory_and_for_the_oracle(lua: Harness, name: str, data):
    """The clock moves on alone: a block that ended may come to life again where it steps back over its end."""
    policies = data.draw(st.sampled_from(POLICIES[name]))
    policy = data.draw(policies)
    memory, oracle, expected = Harness("memory"), ORACLES[name](), None
    key = uuid.uuid4().hex
    lua.restart()
    for _ in range(data.draw(st.integers(1, 15))):
        span = span_us(data, policy, lua.now_us, expected)
        pass_us(lua, span)
        pass_us(memory, span)
        if data.draw(_RARELY):
            span = block_us(data, policy)
            oracle.block(lua.now_us, span)
            for harness in (lua, memory):
                harness.store.block([Counter(policy, key)], span)
        cost, commit = data.draw(COSTS), data.draw(_CHARGING)
        expected = oracle.decide(policy, lua.now_us, cost, commit=commit)
        for harness in (lua, memory):
            assert harness.decide(charges((policy, key, cost)), commit=commit) == [[expected]]


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@_HALF
@given(data=st.data())
def test_a_block_in_lua_stays_where_it_is_when_the_counter_under_it_is_repaired(lua: Harness, name: str, data):
    policy = data.draw(data.draw(st.sampled_from(POLICIES[name])))
    oracle, key = ORACLES[name](), uuid.uuid4().hex
    lua.restart()

    def ask(*costs: int) -> None:
        for cost in costs:
            expected = oracle.decide(policy, lua.now_us, cost, commit=True)
            assert lua.decide(charges((policy, key, cost))) == [[expected]]

    ask(*data.draw(st.lists(COSTS, max_size=5)))
    pass_us(lua, -data.draw(st.one_of(st.integers(0, 5 * policy.window_us), st.just(YEAR_US))))
    span = block_us(data, policy)
    oracle.block(lua.now_us, span)
    lua.store.block([Counter(policy, key)], span)
    ask(*data.draw(st.lists(COSTS, max_size=2)))
    if span:
        pass_us(lua, span - 1)
        ask(data.draw(COSTS))
        pass_us(lua, 1)
    for span in data.draw(st.lists(st.integers(0, policy.window_us), max_size=3)):
        ask(data.draw(COSTS))
        pass_us(lua, span)


@pytest.mark.parametrize("seed", range(4))
def test_python_and_lua_agree_on_logs_of_many_pages_also_when_the_clock_steps_back(lua: Harness, seed: int):
    """Hundreds of entries, some of them gone: pages, ageing and searches for a wait meet steps of the clock here."""
    chance = Random(seed)
    policy = SlidingWindow(chance.choice([45, 90, 300]), window=60, name="pages")
    python, key = InPython(policy.algorithm), uuid.uuid4().hex
    lua.restart()
    for _ in range(1200):
        lua.advance(chance.choice([1, 1, 1, 0.3, 5, -5, -40, 61] if chance.random() < 0.1 else [0.4]))
        cost = chance.choice([1, 1, 1, 2, 3, policy.limit // 2, policy.limit])
        if chance.random() < 0.7:
            cost = 1
        ((answer,),) = lua.decide(charges((policy, key, cost)))
        assert answer == python.decide(policy, lua.now_us, cost, commit=True)
