"""Each algorithm in Python, its twin in Lua on a real server, and the oracle: the same answer to everything.

The clock is stepped as well: back, forward, by a year and back.
"""

from __future__ import annotations

import re
import uuid
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import servers
from headgate import SlidingWindow, algorithms
from headgate.decision import Verdict
from headgate.store import script
from properties.oracle import COSTS, ORACLES, POLICIES, spans_us
from stores.rigs import Rig, charges

YEAR_US = 365 * 86400 * 1_000_000


def test_every_algorithm_has_a_twin_an_oracle_and_policies_to_try():
    assert set(algorithms.BY_NAME) == set(ORACLES) == set(POLICIES)
    for name in algorithms.BY_NAME:
        assert algorithms.lua(name)


class InPython:
    """The algorithm as a store in memory calls it, without the store."""

    def __init__(self, name: str) -> None:
        self.algorithm = algorithms.BY_NAME[name]
        self.state = None

    def decide(self, policy, now_us: int, cost: int, *, charging: bool) -> Verdict:
        if charging and self.state is not None:
            self.algorithm.mend(self.state, policy, now_us)
        verdict = self.algorithm.look(self.state, policy, now_us, cost)
        if not (charging and verdict.allowed):
            return verdict
        self.state = self.algorithm.charge(self.state, policy, now_us, cost)
        reset_after_us = self.algorithm.idle_at(self.state, policy) - now_us
        return Verdict(True, verdict.remaining - cost, 0, reset_after_us)


@pytest.fixture(scope="module")
def lua(server: servers.Server):
    with servers.own_prefix(server) as prefix:
        rig = Rig("redis", client=server.client, prefix=prefix)
        yield rig
        rig.close()


@pytest.mark.parametrize("name", algorithms.BY_NAME)
@given(data=st.data())
def test_python_lua_and_the_oracle_agree_on_every_answer_also_when_the_clock_steps(lua: Rig, name: str, data):
    policies = data.draw(st.sampled_from(POLICIES[name]))
    python, oracle = InPython(name), ORACLES[name]()
    key = uuid.uuid4().hex  # not drawn: an example that is run again must not meet its own log
    lua.restart()
    for _ in range(data.draw(st.integers(1, 60))):
        policy = data.draw(policies)
        step = data.draw(
            st.one_of(
                spans_us(policy),
                spans_us(policy),
                spans_us(policy).map(lambda span: -span),
                st.sampled_from([YEAR_US, -YEAR_US]),
            )
        )
        lua.advance(step / 1_000_000)
        cost, charging = data.draw(COSTS), data.draw(st.sampled_from([True, True, True, False]))
        expected = oracle.decide(policy, lua.now_us, cost, charging=charging)
        assert python.decide(policy, lua.now_us, cost, charging=charging) == expected
        ((answer,),) = lua.decide(charges((policy, key, cost)), charging=charging)
        assert answer == expected


def test_the_header_of_each_lua_file_lists_the_arguments_that_its_body_reads():
    for name in algorithms.BY_NAME:
        source = algorithms.lua(name)
        comment = "\n".join(line for line in source.splitlines() if line.startswith("--"))
        body = "\n".join(line.split("--")[0] for line in source.splitlines())
        listed, read = (
            sorted(set(re.findall(r"ARGV\[(a(?: ?\+ ?\d)?)\]", text.replace(" + ", "+")))) for text in (comment, body)
        )
        assert listed == read, name
        assert int(re.search(r"argc = (\d+)", body)[1]) == len(listed), name


def test_the_header_of_decide_lua_lists_what_its_body_is_given():
    comment, body = script._file("decide.lua").split("\nlocal ", 1)
    for given_to_it in ("KEYS[k]", "ARGV[a]", "mended", "now_us", "algorithms"):
        assert given_to_it in comment
        assert given_to_it in body


@pytest.mark.parametrize("seed", range(4))
def test_python_and_lua_agree_on_logs_of_many_pages_also_when_the_clock_steps_back(lua: Rig, seed: int):
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
        assert answer == python.decide(policy, lua.now_us, cost, charging=True)
