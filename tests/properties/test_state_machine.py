"""Random traffic on whole stores against the brute-force oracle, in whole microseconds."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import servers
from headgate import algorithms
from properties.oracle import COSTS, ORACLES, POLICIES, spans_us
from stores.rigs import Rig, charges

KEYS = st.sampled_from(["alice", "bob", "{c}:%", "x" * 300])


class Traffic(RuleBasedStateMachine):
    """Several keys, limits and buckets that change on the way, single requests and sets, on a clock that moves on."""

    form = ("memory", False, None)

    def __init__(self) -> None:
        super().__init__()
        kind, asynchronous, server = self.form
        self.closing = contextlib.ExitStack()
        if server is None:
            self.rig = Rig(kind, asynchronous=asynchronous)
        else:
            prefix = self.closing.enter_context(servers.own_prefix(server))
            self.rig = Rig(kind, asynchronous=asynchronous, client=server.client, prefix=prefix)
        self.closing.callback(self.rig.close)
        self.oracles = {}
        self.allowed = {}

    def teardown(self) -> None:
        self.closing.close()

    @initialize(name=st.sampled_from(sorted(algorithms.BY_NAME)), data=st.data())
    def choose(self, name: str, data) -> None:
        self.name = name
        self.policies = data.draw(st.sampled_from(POLICIES[name]))

    def oracle(self, policy, key: str):
        return self.oracles.setdefault((policy.namespace, key), ORACLES[self.name]())

    def expect(self, policy, key: str, cost: int, *, charging: bool):
        verdict = self.oracle(policy, key).decide(policy, self.rig.now_us, cost, charging=charging)
        if verdict.allowed and charging:
            self.note(policy, key, cost)
        return verdict

    def note(self, policy, key: str, cost: int) -> None:
        # G1 in its own words, on the times of the requests and not on anybody's stamps.
        past = self.allowed.setdefault((policy.namespace, key), [])
        past.append((self.rig.now_us, cost))
        assert sum(units for at, units in past if at > self.rig.now_us - policy.window_us) <= policy.limit

    @rule(data=st.data())
    def time_passes(self, data) -> None:
        self.rig.advance(data.draw(spans_us(data.draw(self.policies))) / 1_000_000)

    @rule(data=st.data(), key=KEYS, cost=COSTS, times=st.integers(1, 12))
    def allow(self, data, key: str, cost: int, times: int) -> None:
        policy = data.draw(self.policies)
        limiter = self.rig.limiter(policy)
        for _ in range(times):
            assert limiter.allow(key, cost) == self.expect(policy, key, cost, charging=True).allowed

    @rule(data=st.data(), key=KEYS, cost=COSTS, charging=st.booleans())
    def decide(self, data, key: str, cost: int, charging: bool) -> None:
        policy = data.draw(self.policies)
        (answer,) = self.rig.decide(charges((policy, key, cost)), charging=charging)
        assert answer == [self.expect(policy, key, cost, charging=charging)]

    @rule(data=st.data(), keys=st.lists(KEYS, min_size=2, max_size=4, unique=True))
    def decide_a_set(self, data, keys: list[str]) -> None:
        asked = [(data.draw(self.policies), key, data.draw(COSTS)) for key in keys]
        (answer,) = self.rig.decide(charges(*asked))
        looked = [self.expect(*part, charging=False) for part in asked]
        assert [verdict.allowed for verdict in answer] == [verdict.allowed for verdict in looked]
        if all(verdict.allowed for verdict in looked):
            assert answer == [self.expect(*part, charging=True) for part in asked]
        else:
            assert answer == looked

    @rule(data=st.data(), asked=st.lists(st.tuples(KEYS, COSTS), min_size=2, max_size=6))
    def decide_a_batch(self, data, asked: list[tuple[str, int]]) -> None:
        requests = [(data.draw(self.policies), key, cost) for key, cost in asked]
        answers = self.rig.decide(*(charges(request) for request in requests))
        assert answers == [[self.expect(*request, charging=True)] for request in requests]

    @rule(data=st.data(), key=KEYS)
    def forget(self, data, key: str) -> None:
        policy = data.draw(self.policies)
        self.rig.limiter(policy).forget(key)
        self.oracles.pop((policy.namespace, key), None)
        self.allowed.pop((policy.namespace, key), None)


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("kind", ["memory", *servers.kinds()])
def test_every_store_gives_the_answers_of_the_oracle(kind: str, form: str):
    server = None if kind == "memory" else servers.shared(kind)
    machine = type("Traffic", (Traffic,), {"form": ("memory" if server is None else "redis", form == "async", server)})
    run_state_machine_as_test(machine)
