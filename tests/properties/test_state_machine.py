"""Random traffic of one policy on whole stores against the brute-force oracle, in whole microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from properties.machine import Machine, every_store, run
from properties.traffic import BEGINNINGS, COSTS, POLICIES, actuals, block_us, pass_us, span_us
from sluicegate import Concurrency, SlidingWindow
from sluicegate import _algorithms as algorithms
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy, boundless
from sluicegate._core.request import Mark, Settlement
from stores.harness import charges


@dataclass(eq=False)
class Allowed:
    """Units that were allowed, and when; permits, and when they were lent or last renewed."""

    at: int
    units: int


class Open(NamedTuple):
    """A charge that is not settled yet: its mark for the oracle, and what was noted of it."""

    settlement: Settlement
    mark: Mark
    allowed: Allowed


KEYS = st.sampled_from(["alice", "bob", "{c}:%", "x" * 300])


class Traffic(Machine):
    """Several keys, one policy or one whose limit changes on the way, single requests and sets; the clock moves on."""

    @initialize(name=st.sampled_from(sorted(algorithms.BY_NAME)), steady=st.booleans(), data=st.data())
    def choose(self, name: str, steady: bool, data) -> None:
        self.policies = data.draw(st.sampled_from(POLICIES[name]))
        self.lends = name == Concurrency.algorithm
        self.steady = steady
        if steady:
            self.policies = st.just(data.draw(self.policies))
        self.allowed: dict[tuple[str, str], list[Allowed]] = {}
        self.open: list[Open] = []
        self.last = None
        pass_us(self.harness, data.draw(BEGINNINGS))

    def expect(self, policy: Policy, key: str, cost: int, *, commit: bool) -> Verdict:
        self.last = verdict = self.expected(policy, key, cost, commit=commit)
        if verdict.allowed and commit:
            self.note(policy, key, cost)
        return verdict

    def note(self, policy: Policy, key: str, cost: int) -> Allowed:
        # G1 in its own words, on the times of the requests and not on anybody's stamps. What was settled is what it
        # turned out to be, but for what it turned out to be more: that is debt.
        past = self.allowed.setdefault((policy.namespace, key), [])
        past.append(allowed := Allowed(self.harness.now_us, cost))
        within = sum(each.units for each in past if each.at > self.harness.now_us - policy.window_us)
        if isinstance(policy, (SlidingWindow, Concurrency)):
            assert within <= policy.limit  # also when it was another one before
        elif self.steady:
            assert within <= policy.worst_case
        return allowed

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

    @rule(data=st.data(), key=KEYS, cost=COSTS, times=st.integers(1, 4))
    def reserve(self, data, key: str, cost: int, times: int) -> None:
        """Several of one cost wait in line: they are decided in order, up to the first that is denied."""
        policy, expected, entered = data.draw(self.policies), [], []
        while len(expected) < times and len(entered) == len(expected):
            self.last = self.expected(policy, key, cost, commit=True)
            expected.append([self.last])
            if self.last.allowed:
                entered.append((self.note(policy, key, cost), self.oracle(policy, key).mark()))
        answers = self.harness.reserve(*[charges((policy, key, cost))] * times)
        assert answers == expected
        for answer, (allowed, mark) in zip(answers, entered, strict=False):
            self.open.append(Open(Settlement(policy, key, cost, answer.marks[0], cost), mark, allowed))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data) -> None:
        """Once, as a limiter does; a lease is renewed as often as it is held."""
        opened = data.draw(st.sampled_from(self.open))
        policy, key, cost, *_ = opened.settlement
        actual = data.draw(actuals(policy, cost))
        oracle = self.oracle(policy, key)
        found = oracle.settle(policy, self.harness.now_us, cost, opened.mark, actual)
        assert self.harness.settle(opened.settlement._replace(actual=actual)) == [found]
        if found and policy.lends and actual:
            opened.allowed.at = self.harness.now_us
        elif found:
            opened.allowed.units = min(actual, cost)
        if not (policy.lends and actual):
            self.open.remove(opened)
        seen = self.expect(policy, key, 1, commit=False)
        assert self.harness.decide(charges((policy, key, 1)), commit=False) == [[seen]]
        pass_us(self.harness, 1)  # no server takes less for a call

    @precondition(lambda self: not self.lends)
    @rule(data=st.data(), key=KEYS, cost=COSTS)
    def charge(self, data, key: str, cost: int) -> None:
        """Whatever the limit: a debt, which stands outside the sum of what was allowed."""
        policy = data.draw(self.policies)
        self.oracle(policy, key)
        self.last = expected = self.expected(boundless(policy), key, cost, commit=True)
        assert self.harness.decide(charges((boundless(policy), key, cost))) == [[expected]]

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
        pass_us(self.harness, 1)


@every_store
def test_every_store_gives_the_answers_of_the_oracle(kind: str, form: str):
    run(Traffic, kind, form)
