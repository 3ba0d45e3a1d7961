"""Each algorithm in Python, its twin in Lua on a real server, and the oracle: the same answer to everything.

The clock is stepped as well: back, forward, by a year and back. The store in memory drops idle keys, and a clock that
steps back would find them gone; so without it, but for where the clock only moves on.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import servers
from properties.oracles import ORACLES
from properties.traffic import BEGINNINGS, COSTS, MOST, POLICIES, actuals, block_us, pass_us, span_us
from sluicegate import SlidingWindow
from sluicegate import _algorithms as algorithms
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import boundless
from sluicegate._core.request import Counter, Mark, Settlement
from sluicegate._stores.base import Reserved
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

    def mark(self) -> Mark:
        self.state, mark = self.algorithm.mark(self.state)
        return mark

    def settle(self, policy, now_us: int, cost: int, mark: Mark, actual: int) -> bool:
        if self.state is None:
            return False
        self.state, is_there = self.algorithm.settle(self.state, policy, now_us * 1000, cost, mark, actual)
        return is_there


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


class Taken(NamedTuple):
    """A charge that can be settled: its cost, and its mark for each that counts it."""

    cost: int
    python: Mark
    lua: Mark
    oracle: Mark


class Trio:
    """One counter in Python, in Lua and for the oracle, which are asked the same."""

    def __init__(self, lua: Harness, name: str) -> None:
        self.lua, self.python, self.oracle = lua, InPython(name), ORACLES[name]()
        self.key = uuid.uuid4().hex
        self.taken: list[Taken] = []
        self.last: Verdict | None = None
        lua.restart()

    def decide(self, policy, cost: int, *, commit: bool = True) -> None:
        self._expect(policy, cost, commit=commit)
        assert self.lua.decide(charges((policy, self.key, cost)), commit=commit) == [[self.last]]

    def reserve(self, policy, cost: int, times: int = 1) -> None:
        """Ask for the same so many times in a line, which ends at the first denial."""
        expected, marks = [], []
        while len(expected) < times and len(expected) == len(marks):
            self._expect(policy, cost, commit=True)
            expected.append([self.last])
            if self.last.allowed:
                marks.append((self.python.mark(), self.oracle.mark()))
        answers = self.lua.reserve(*[charges((policy, self.key, cost))] * times)
        assert answers == expected
        assert [type(answer) is Reserved for answer in answers] == [answer[0].allowed for answer in answers]
        for answer, (python, oracle) in zip(answers, marks, strict=False):
            self.taken.append(Taken(cost, python, answer.marks[0], oracle))

    def _expect(self, policy, cost: int, *, commit: bool) -> None:
        now_us = self.lua.now_us
        self.last = self.oracle.decide(policy, now_us, cost, commit=commit)
        if self.oracle.blocked_until <= now_us:  # only stores have blocks
            assert self.python.decide(policy, now_us, cost, commit=commit) == self.last

    def settle(self, policy, taken: Taken, actual: int) -> bool:
        now_us, cost = self.lua.now_us, taken.cost
        found = self.oracle.settle(policy, now_us, cost, taken.oracle, actual)
        assert self.python.settle(policy, now_us, cost, taken.python, actual) == found
        assert self.lua.settle(Settlement(policy, self.key, cost, taken.lua, actual)) == [found]
        self.decide(policy, 1, commit=False)
        return found

    def block(self, policy, span_us: int) -> None:
        self.oracle.block(self.lua.now_us, span_us)
        self.lua.run(self.lua.store.block([Counter(policy, self.key)], span_us))

    def forget(self, policy) -> None:
        self.oracle, self.python.state = ORACLES[policy.algorithm](), None
        self.lua.run(self.lua.store.forget([Counter(policy, self.key)]))


_VERBS = st.sampled_from(["reserve"] * 5 + ["settle"] * 5 + ["take", "charge", "peek", "forget"])


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@given(data=st.data())
def test_python_lua_and_the_oracle_agree_on_what_is_settled_also_twice_and_when_the_clock_steps(
    lua: Harness, name: str, data
):
    """Two calls never read one instant unless they follow each other: a server's call takes longer."""
    policies = data.draw(st.sampled_from(POLICIES[name]))
    trio, instants, is_apart = Trio(lua, name), set(), True
    pass_us(lua, data.draw(BEGINNINGS))
    for _ in range(data.draw(st.integers(2, 30))):
        policy, before_us = data.draw(policies), lua.now_us
        pass_us(lua, _step_us(data, policy, lua.now_us, trio.last))
        while lua.now_us in instants and (is_apart or lua.now_us != before_us):
            pass_us(lua, 1)
        instants.add(lua.now_us)
        verb = data.draw(_VERBS)
        is_apart = verb in ("settle", "forget")
        if verb == "reserve":
            trio.reserve(policy, data.draw(COSTS), data.draw(st.integers(1, 4)))
        elif verb == "settle" and trio.taken:
            taken = data.draw(st.sampled_from(trio.taken))
            trio.settle(policy, taken, data.draw(actuals(policy, taken.cost)))
        elif verb == "charge" and not policy.lends:
            trio.reserve(boundless(policy), data.draw(COSTS))
        elif verb == "forget":
            trio.forget(policy)
        else:
            trio.decide(policy, data.draw(COSTS), commit=verb != "peek")


PAGED = SlidingWindow(300, window=0.000_1, name="pages")
_BORDERS = st.sampled_from([0, 1, 2, 19, 20, 21, 22, 39, 40, 41, 59, 60, 61])
_ENTRIES = st.sampled_from([1, 2, 19, 20, 21, 22, 39, 40, 41, 42, 60, 61])


@given(data=st.data(), entries=_ENTRIES, costs=st.sampled_from([(1,), (3,), (1, 2, 5)]), to_wrap=st.none() | _BORDERS)
def test_a_log_may_be_settled_at_the_borders_of_its_pages_where_entries_have_left_and_totals_wrap(
    lua: Harness, data, entries: int, costs: tuple[int, ...], to_wrap: int | None
):
    trio = Trio(lua, PAGED.algorithm)
    if to_wrap is not None:  # the total of all units so far is 2^40 so many units later
        for cost in (*[MOST] * 10, 2**40 - 10 * MOST - to_wrap):
            trio.decide(PAGED.with_limit(MOST), cost)
            pass_us(lua, PAGED.window_us)
    for n in range(entries):
        pass_us(lua, 1)
        trio.reserve(PAGED, costs[n % len(costs)])
    pass_us(lua, PAGED.window_us - entries + min(data.draw(_BORDERS), entries))
    for _ in range(data.draw(st.integers(1, 12))):
        verb = data.draw(st.sampled_from(["settle"] * 4 + ["newest"] * 4 + ["reserve", "block", "peek"]))
        if verb == "reserve":
            pass_us(lua, 1)
            trio.reserve(PAGED, data.draw(st.sampled_from([1, 2, 40])))
        elif verb == "block":
            trio.block(PAGED, data.draw(st.sampled_from([0, 1, 3])))
        elif verb != "peek" and trio.taken:
            at = -1 if verb == "newest" else min(data.draw(_BORDERS), len(trio.taken) - 1)
            taken = trio.taken.pop(at)
            trio.settle(PAGED, taken, data.draw(st.sampled_from([0, 0, 0, taken.cost - 1, taken.cost + 30])))
        for cost in (1, 2, 20, PAGED.limit):  # searches for the entry that each waits for
            trio.decide(PAGED, cost, commit=False)


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


@pytest.mark.parametrize("seed", range(4))
def test_python_and_lua_agree_on_logs_of_many_pages_whose_charges_are_settled(lua: Harness, seed: int):
    chance = Random(seed)
    policy = SlidingWindow(chance.choice([45, 90, 300]), window=60, name="pages")
    python, key, taken, given_back = InPython(policy.algorithm), uuid.uuid4().hex, [], 0
    lua.restart()
    for _ in range(900):
        lua.advance(chance.choice([1, 1, 1, 0.3, 5, -5, -40, 61] if chance.random() < 0.1 else [0.4]))
        cost = chance.choice([1, 1, 1, 2, 3, policy.limit // 4])
        (answer,) = lua.reserve(charges((policy, key, cost)))
        assert answer == [python.decide(policy, lua.now_us, cost, commit=True)]
        if isinstance(answer, Reserved):
            taken.append((cost, python.mark(), answer.marks[0]))
        while taken and chance.random() < 0.45:
            cost, ours, mark = taken.pop(chance.choice([-1, -1, 0, chance.randrange(len(taken))]))
            actual = chance.choice([0, 0, 0, cost // 2, cost + 1])
            found = python.settle(policy, lua.now_us, cost, ours, actual)
            assert lua.settle(Settlement(policy, key, cost, mark, actual)) == [found]
            given_back += found
    assert given_back > 200
