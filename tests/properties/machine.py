"""What the state machines share: a store in one of its forms, an oracle for each counter, and a clock that moves on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

import servers
from properties.oracles import ORACLES
from properties.oracles.oracle import Oracle
from sluicegate._core.decision import Verdict
from sluicegate._core.keys import CounterKey
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter
from stores.harness import Harness

every_store = pytest.mark.parametrize(
    ("kind", "form"), [(kind, form) for kind in ("memory", *servers.kinds()) for form in ("sync", "async")]
)


class Machine(RuleBasedStateMachine):
    """A harness, and one oracle for each counter."""

    form = ("memory", "sync")

    def __init__(self) -> None:
        super().__init__()
        kind, form = self.form
        self.closing = contextlib.ExitStack()
        if kind == "memory":
            self.harness = Harness("memory", asynchronous=form == "async")
        else:
            server = servers.shared(kind)
            prefix = self.closing.enter_context(servers.own_prefix(server))
            self.harness = Harness("redis", asynchronous=form == "async", client=server.client, prefix=prefix)
        self.closing.callback(self.harness.close)
        self.oracles: dict[tuple[str, CounterKey], Oracle] = {}

    def teardown(self) -> None:
        self.closing.close()

    def oracle(self, policy: Policy, counted: CounterKey) -> Oracle:
        """Return an oracle. Before the store is asked: what the store may have dropped by now is dropped from both."""
        oracle = self.oracles.setdefault((policy.namespace, counted), ORACLES[policy.algorithm]())
        if oracle.dropped(policy, self.harness.now_us):
            self.harness.run(self.harness.store.forget([Counter(policy, counted)]))
            self.forgotten(policy, counted)
            return self.oracle(policy, counted)
        return oracle

    def expected(self, policy: Policy, counted: CounterKey, cost: int, *, commit: bool) -> Verdict:
        return self.oracle(policy, counted).decide(policy, self.harness.now_us, cost, commit=commit)

    def forgotten(self, policy: Policy, counted: CounterKey) -> None:
        self.oracles.pop((policy.namespace, counted), None)


def run(machine: type[Machine], kind: str, form: str) -> None:
    """Run a machine on one store in one form.

    With all of a profile's examples in memory for threads; with a third in the other forms, which decide by the same
    rules and take longer: an example is up to thirty steps.
    """
    own = type(machine.__name__, (machine,), {"form": (kind, form)})
    part = 1 if (kind, form) == ("memory", "sync") else 3
    run_state_machine_as_test(own, settings=settings(max_examples=-(-settings.default.max_examples // part)))
