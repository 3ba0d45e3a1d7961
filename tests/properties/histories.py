"""Histories of what many asked at the same time, and whether some order of single decisions explains them.

After Wing and Gong, Testing and verifying concurrent objects (1993): of the operations that no other has ended before,
one is tried as the next, on the oracles; what cannot be explained after it is not tried a second time (Lowe, 2017). The
clock stands still meanwhile, so a counter is its level and its block.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from properties.oracles import ORACLES
from properties.oracles.oracle import Level, Oracle
from sluicegate._core.decision import Verdict
from sluicegate._core.keys import CounterKey
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Counter
from sluicegate._stores.base import Remembered

Verb = Literal["take", "peek", "allow", "forget", "block"]
Name = tuple[str, CounterKey]
Charges = Sequence[Charge]
Answer = list[Verdict] | Exception


@dataclass(frozen=True)
class Asked:
    """What is asked of a store: requests to decide, or counters to forget or to block. ``strange``: to be refused."""

    verb: Verb
    requests: Sequence[Charges] = ()
    counters: Sequence[Counter] = ()
    span_us: int = 0
    strange: bool = False


@dataclass(frozen=True)
class Operation:
    """One operation of a history.

    Attributes:
        asked: What was asked.
        begin: When, in any unit.
        end: When it was answered; infinite where the outcome is unknown: it may happen at any time, or never.
        answers: An answer for each request; a bool for ``allow``; None where there is none, or it is unknown.
        slack_us: By how much the waits of an answer that was remembered may be shorter.
    """

    asked: Asked
    begin: float
    end: float = inf
    answers: Sequence[Answer] | bool | None = None
    slack_us: int = 0

    def __str__(self) -> str:
        asked, parts = self.asked, [(policy, key) for policy, key in self.asked.counters]
        requests = [[(policy.algorithm, key, cost) for policy, key, cost in request] for request in asked.requests]
        what = requests or [(policy.algorithm, key) for policy, key in parts] + [asked.span_us]
        answers = self.answers
        if isinstance(answers, (list, tuple)):
            answers = [(type(each).__name__, *map(tuple, each)) if isinstance(each, list) else each for each in answers]
        return f"{self.begin:.6f}-{self.end:.6f} {asked.verb} {what}: {answers}"


@dataclass
class State:
    """Counters at one instant. One whose key is in ``strange`` holds something else on the server."""

    now_us: int
    strange: frozenset[CounterKey] = frozenset()
    counters: dict[Name, tuple[Policy, Oracle]] = field(default_factory=dict)

    def after(self, operation: Operation) -> State | None:
        """Return the state after an operation; None if it would have been answered otherwise."""
        state = State(self.now_us, self.strange, dict(self.counters))
        return state if state._explains(operation) else None

    def mark(self) -> frozenset[tuple[Name, Level, int]]:
        """Return what tells it from other states of one instant."""
        held = {name: (oracle.level(policy, self.now_us), oracle.blocked_until - self.now_us)
                for name, (policy, oracle) in self.counters.items()}  # fmt: skip
        return frozenset((name, level, max(left, 0)) for name, (level, left) in held.items() if level or left > 0)

    def _explains(self, operation: Operation) -> bool:
        asked = operation.asked
        for policy, key in asked.counters:
            if asked.verb == "forget":
                self.counters.pop((policy.namespace, key), None)
            else:
                self._own(policy, key).block(self.now_us, asked.span_us)
        answers = operation.answers
        for n, request in enumerate(asked.requests):
            expected = self._decide(request, commit=asked.verb != "peek")
            if isinstance(answers, bool):
                if expected is None or answers != all(verdict.allowed for verdict in expected):
                    return False
            elif answers is not None and not _fits(answers[n], expected, operation.slack_us):
                return False
        return True

    def _decide(self, request: Charges, *, commit: bool) -> list[Verdict] | None:
        if any(key in self.strange for _, key, _ in request):
            return None
        verdicts = self._each(request, commit=False)
        if commit and all(verdict.allowed for verdict in verdicts):
            return self._each(request, commit=True)
        return verdicts

    def _each(self, request: Charges, *, commit: bool) -> list[Verdict]:
        return [
            self._own(policy, key).decide(policy, self.now_us, cost, commit=commit) for policy, key, cost in request
        ]

    def _own(self, policy: Policy, key: CounterKey) -> Oracle:
        """Return an oracle that no other state has."""
        name = policy.namespace, key
        held = self.counters.get(name)
        own = copy(held[1]) if held else ORACLES[policy.algorithm]()
        self.counters[name] = policy, own
        return own


def explained(history: Sequence[Operation], state: State) -> bool:
    """Tell whether the operations can have happened one after the other, each between its begin and its end."""
    history = sorted(history, key=lambda operation: operation.begin)
    every = frozenset(range(len(history)))
    seen = set()
    tries = [(every, state)]
    while tries:
        left, state = tries.pop()
        known = [n for n in left if history[n].end < inf]
        if not known:
            return True
        if (left, state.mark()) in seen:
            continue
        seen.add((left, state.mark()))
        first_end = min(history[n].end for n in known)
        nexts = sorted((n for n in left if history[n].begin <= first_end), key=lambda n: -history[n].end)
        for n in nexts:
            after = state.after(history[n])
            if after is not None:
                tries.append((left - {n}, after))
    return False


def _fits(answer: Answer, expected: list[Verdict] | None, slack_us: int) -> bool:
    if expected is None or isinstance(answer, Exception):
        return expected is None and isinstance(answer, Exception)
    if not isinstance(answer, Remembered):
        return answer == expected
    # What it says of a policy that had room is of the time of the denial: nobody has to have asked since.
    denied = [(told, true) for told, true in zip(answer, expected, strict=True) if not told.allowed]
    return denied != [] and all(_aged(told, true, slack_us) for told, true in denied)


def _aged(told: Verdict, true: Verdict, slack_us: int) -> bool:
    return (
        (told.allowed, told.remaining) == (true.allowed, true.remaining)
        and 0 <= true.retry_after_us - told.retry_after_us <= slack_us
        and 0 <= true.reset_after_us - told.reset_after_us <= slack_us
    )
