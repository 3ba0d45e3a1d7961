"""Random traffic of one policy on whole stores against the brute-force oracle, in whole microseconds."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from properties.machine import Machine, every_store, run
from properties.traffic import BEGINNINGS, COSTS, POLICIES, block_us, pass_us, span_us
from sluicegate import SlidingWindow
from sluicegate import _algorithms as algorithms
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy
from stores.harness import charges

KEYS = st.sampled_from(["alice", "bob", "{c}:%", "x" * 300])


class Traffic(Machine):
    """Several keys, one policy or one whose limit changes on the way, single requests and sets; the clock moves on."""

    @initialize(name=st.sampled_from(sorted(algorithms.BY_NAME)), steady=st.booleans(), data=st.data())
    def choose(self, name: str, steady: bool, data) -> None:
        self.policies = data.draw(st.sampled_from(POLICIES[name]))
        self.steady = steady
        if steady:
            self.policies = st.just(data.draw(self.policies))
        self.allowed = {}
        self.last = None
        pass_us(self.harness, data.draw(BEGINNINGS))

    def expect(self, policy: Policy, key: str, cost: int, *, commit: bool) -> Verdict:
        self.last = verdict = self.expected(policy, key, cost, commit=commit)
        if verdict.allowed and commit:
            self.note(policy, key, cost)
        return verdict

    def note(self, policy: Policy, key: str, cost: int) -> None:
        # G1 in its own words, on the times of the requests and not on anybody's stamps.
        past = self.allowed.setdefault((policy.namespace, key), [])
        past.append((self.harness.now_us, cost))
        within = sum(units for at, units in past if at > self.harness.now_us - policy.window_us)
        if isinstance(policy, SlidingWindow):
            assert within <= policy.limit  # also when it was another one before
        elif self.steady:
            assert within <= policy.worst_case

    def forgotten(self, policy: Policy, counted: str) -> None:
        super().forgotten(policy, counted)
        self.allowed.pop((policy.namespace, counted), None)

    @rule(data=st.data())
    def time_passes(self, data) -> None:
        pass_us(self.harness, span_us(data, data.draw(self.policies), self.harness.now_us, self.last))

    @rule(data=st.data(), key=KEYS, cost=st.sampled_from([1, 1, 1, 2, 5, 40]), times=st.integers(1, 12))
    def allow(self, data, key: str, cost: int, times: int) -> None:
        policy = data.draw(self.policies)
        limiter = self.harness.limiter(policy)
        for _ in range(times):
            expected = self.expect(policy, key, cost, commit=True)
            assert limiter.allow(key, cost) == expected.allowed

    @rule(data=st.data(), key=KEYS, cost=COSTS, commit=st.booleans())
    def decide(self, data, key: str, cost: int, commit: bool) -> None:
        policy = data.draw(self.policies)
        expected = self.expect(policy, key, cost, commit=commit)
        assert self.harness.decide(charges((policy, key, cost)), commit=commit) == [[expected]]

    @rule(data=st.data(), keys=st.lists(KEYS, min_size=2, max_size=4, unique=True))
    def decide_a_set(self, data, keys: list[str]) -> None:
        asked = [(data.draw(self.policies), key, data.draw(COSTS)) for key in keys]
        looked = [self.expect(*part, commit=False) for part in asked]
        (answer,) = self.harness.decide(charges(*asked))
        assert [verdict.allowed for verdict in answer] == [verdict.allowed for verdict in looked]
        if all(verdict.allowed for verdict in looked):
            assert answer == [self.expect(*part, commit=True) for part in asked]
        else:
            assert answer == looked

    @rule(data=st.data(), asked=st.lists(st.tuples(KEYS, COSTS), min_size=2, max_size=6))
    def decide_a_batch(self, data, asked: list[tuple[str, int]]) -> None:
        requests = [(data.draw(self.policies), key, cost) for key, cost in asked]
        for policy, key, _ in requests:
            self.oracle(policy, key)  # so that what may be gone is gone before the batch
        answers = self.harness.decide(*(charges(request) for request in requests))
        assert answers == [[self.expect(*request, commit=True)] for request in requests]

    @rule(data=st.data(), key=KEYS)
    def block(self, data, key: str) -> None:
        policy = data.draw(self.policies)
        span = block_us(data, policy)
        self.oracle(policy, key).block(self.harness.now_us, span)
        self.harness.limiter(policy).block(key, span / 1_000_000)

    @precondition(lambda self: self.oracles)
    @rule(data=st.data(), key=KEYS)
    def forget(self, data, key: str) -> None:
        policy = data.draw(self.policies)
        self.harness.limiter(policy).forget(key)
        self.forgotten(policy, key)


@every_store
def test_every_store_gives_the_answers_of_the_oracle(kind: str, form: str):
    run(Traffic, kind, form)
