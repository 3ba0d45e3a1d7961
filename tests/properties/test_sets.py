"""Random sets of policies through real limiters, against one oracle for each counter: all or nothing, in each store."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from properties.machine import Machine, every_store, run
from properties.traffic import COSTS, MAKERS, actuals, block_us, pass_us, span_us
from sluicegate import Decision, InvalidKey
from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.keys import CounterKey, Key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Mark, Settlement
from sluicegate._stores.base import Reserved
from stores.harness import charges

_MAKERS = st.sampled_from([maker for makers in MAKERS.values() for maker in makers])
_WHOSE = {
    "plain": st.sampled_from([{}, {}, {"shared": True}]),
    "attributes": st.sampled_from(
        [{"per": "user"}, {"per": "ip"}, {"per": ("user", "tool")}, {"per": ("tool", "ip")}, {"shared": True}]
    ),
}
_VALUES = st.sampled_from(["a", "b", "{c}:,%"])


class Sets(Machine):
    """Up to five policies at a time, out of five counters whose limits change now and then; the clock moves on."""

    @initialize(data=st.data(), keys=st.sampled_from(sorted(_WHOSE)), size=st.integers(1, 5))
    def choose(self, data, keys: str, size: int) -> None:
        self.makers = [data.draw(_MAKERS)(name=f"p{n}", **data.draw(_WHOSE[keys])) for n in range(size)]
        self.last = None
        self.open: list[list[tuple[Settlement, Mark]]] = []
        self.change(data)

    @rule(data=st.data())
    def change(self, data) -> None:
        """Another limiter over some of the same counters, in any order, with other limits."""
        some = data.draw(st.lists(st.sampled_from(self.makers), min_size=1, max_size=5, unique=True))
        self.policies = [data.draw(maker) for maker in some]
        self.limiter = self.harness.limiter(*self.policies)

    @rule(data=st.data())
    def time_passes(self, data) -> None:
        pass_us(self.harness, span_us(data, data.draw(st.sampled_from(self.policies)), self.harness.now_us, self.last))

    @rule(data=st.data(), times=st.integers(1, 4))
    def take(self, data, times: int) -> None:
        key, cost = self._key(data), self._cost(data)
        for _ in range(times):
            expected = self._expected(key, cost, commit=True)
            self._same(self.limiter.take(key, cost), expected)

    @rule(data=st.data())
    def allow(self, data) -> None:
        key, cost = self._key(data), self._cost(data)
        expected = self._expected(key, cost, commit=True)
        assert self.limiter.allow(key, cost) == all(verdict.allowed for verdict in expected)

    @rule(data=st.data())
    def peek(self, data) -> None:
        key, cost = self._key(data), self._cost(data)
        expected = self._expected(key, cost, commit=False)
        self._same(self.limiter.peek(key, cost), expected)

    @rule(data=st.data())
    def reserve(self, data) -> None:
        key, cost = self._key(data), self._cost(data)
        expected = self._expected(key, cost, commit=True)
        asked = charges(*self._asked(key, cost))
        (answer,) = self.harness.reserve(asked)
        assert answer == expected
        if isinstance(answer, Reserved):
            self.open.append(
                [
                    (Settlement(*charge, mark, charge.cost), self.oracle(charge.policy, charge.key).mark())
                    for charge, mark in zip(asked, answer.marks, strict=True)
                ]
            )

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data) -> None:
        """All charges of one request together, and once."""
        opened = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        settlements, expected = [], []
        for settlement, mark in opened:
            policy, counted, cost, *_ = settlement
            actual = data.draw(actuals(policy, cost))
            settlements.append(settlement._replace(actual=actual))
            oracle = self.oracle(policy, counted)
            expected.append(oracle.settle(policy, self.harness.now_us, cost, mark, actual))
        assert self.harness.settle(*settlements) == expected
        pass_us(self.harness, 1)  # no server takes less for a call

    @precondition(lambda self: self.oracles)
    @rule(data=st.data())
    def forget(self, data) -> None:
        part = self._part(data)
        named = self._named(part)
        for policy in named:
            self.forgotten(policy, _counted(policy, part))
        if named:
            self.limiter.forget(part)
        else:  # all are shared
            with pytest.raises(InvalidKey):
                self.limiter.forget(part)
        pass_us(self.harness, 1)

    @rule(data=st.data())
    def block(self, data) -> None:
        part, span = self._part(data), block_us(data, data.draw(st.sampled_from(self.policies)))
        named = self._named(part)
        for policy in named:
            self.oracle(policy, _counted(policy, part)).block(self.harness.now_us, span)
        if named:
            self.limiter.block(part, span / 1_000_000)
        else:  # all are shared
            with pytest.raises(InvalidKey):
                self.limiter.block(part, span / 1_000_000)

    @property
    def attributes(self) -> list[str]:
        return sorted({attribute for policy in self.policies for attribute in policy.per})

    def _key(self, data) -> Key:
        if self.attributes:
            return {attribute: data.draw(_VALUES) for attribute in self.attributes}
        return data.draw(_VALUES)

    def _part(self, data) -> Key:
        """Return a key, or a part of one that has the attributes of one policy at least."""
        key = self._key(data)
        if not self.attributes:
            return key
        needed = data.draw(st.sampled_from([policy.per for policy in self.policies if policy.per]))
        return {attribute: key[attribute] for attribute in key if attribute in needed or data.draw(st.booleans())}

    def _named(self, part: Key) -> list[Policy]:
        """Return the policies whose counters a part of a key names: never a shared one."""
        own = [policy for policy in self.policies if not policy.shared]
        return own if isinstance(part, str) else [policy for policy in own if set(policy.per) <= part.keys()]

    def _cost(self, data) -> int | dict[str, int]:
        names = [policy.name for policy in self.policies]
        return data.draw(st.one_of(COSTS, st.dictionaries(st.sampled_from(names), COSTS)))

    def _asked(self, key: Key, cost: int | dict[str, int]) -> list[tuple[Policy, CounterKey, int]]:
        return [
            (policy, _counted(policy, key), cost if isinstance(cost, int) else cost.get(policy.name, 1))
            for policy in self.policies
        ]

    def _expected(self, key: Key, cost: int | dict[str, int], *, commit: bool) -> list[Verdict]:
        asked = self._asked(key, cost)
        verdicts = [self.expected(*part, commit=False) for part in asked]
        if commit and all(verdict.allowed for verdict in verdicts):
            verdicts = [self.expected(*part, commit=True) for part in asked]
        self.last = max(verdicts, key=lambda verdict: verdict.retry_after_us)
        return verdicts

    def _same(self, decision: Decision, expected: list[Verdict]) -> None:
        parts = [_fields(*part) for part in zip(self.policies, expected, strict=True)]
        assert [_shown(each) for each in decision.decisions] == parts
        denying = [part for part in parts if not part[0]]
        if denying:
            longest = max(retry_after for *_, retry_after, _ in denying)
            decides = next(part for part in denying if part[4] == longest)
        else:
            fewest = min(remaining for _, _, _, remaining, *_ in parts)
            decides = next(part for part in parts if part[3] == fewest)
        assert _shown(decision) == decides
        assert decision.source == "store"


def _counted(policy: Policy, key: Key) -> CounterKey:
    """Return what a policy counts under."""
    if policy.shared:
        return ()
    if not policy.per:
        return key
    values = tuple(key[attribute] for attribute in policy.per)
    return values if len(values) > 1 else values[0]


def _fields(policy: Policy, verdict: Verdict) -> tuple[bool, str, int, int, float, float]:
    allowed, remaining, retry_after_us, reset_after_us = verdict
    retry_after = math.inf if retry_after_us == NEVER else retry_after_us / 1_000_000
    return allowed, policy.name, policy.limit, remaining, retry_after, reset_after_us / 1_000_000


def _shown(decision: Decision) -> tuple[bool, str, int, int, float, float]:
    return (
        decision.allowed,
        decision.policy,
        decision.limit,
        decision.remaining,
        decision.retry_after,
        decision.reset_after,
    )


@every_store
def test_every_store_decides_sets_of_policies_as_their_oracles_do(kind: str, form: str):
    run(Sets, kind, form)
