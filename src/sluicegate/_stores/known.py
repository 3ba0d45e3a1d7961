"""What the store last answered for each counter: how much of its limit was used by the whole fleet, and until when.

With it, the share of an instance begins an outage where the store left off, and not with an empty count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sluicegate._core.decision import Verdict
from sluicegate._core.keys import CounterKey
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge

MOST_KNOWN = 50_000
"""Counters that are known, at least; twice as many at most. The ones that were not used lately are forgotten."""

_Answers = dict[tuple[str, CounterKey], tuple[Verdict, int]]


class Known:
    """The last verdict on each counter, with the monotonic time of its reply.

    The verdicts are kept in two generations. When the young one is full, it becomes the old one, and that is forgotten.
    """

    def __init__(self) -> None:
        self._young: _Answers = {}
        self._old: _Answers = {}

    def learn(self, requests: Sequence[tuple[Charge, ...]], answers: Sequence[object]) -> None:
        """Take over the answers to requests; those that are not verdicts are passed over."""
        now_ns = time.monotonic_ns()
        young = self._young
        for request, answer in zip(requests, answers, strict=True):
            if type(answer) is list:
                for charge, verdict in zip(request, answer, strict=True):
                    young[charge[0].namespace, charge[1]] = verdict, now_ns
        if len(young) > MOST_KNOWN:
            self._old, self._young = young, {}

    def used(self, policy: Policy, key: CounterKey) -> int:
        """Return how many units of the burst were used when the store last answered; 0 once they are all free again."""
        name = policy.namespace, key
        verdict, replied_ns = self._young.get(name) or self._old.get(name) or (None, 0)
        if verdict is None or time.monotonic_ns() >= replied_ns + verdict.reset_after_us * 1000:
            return 0
        return max(policy.burst - verdict.remaining, 0)

    def forget(self, policy: Policy, key: CounterKey) -> None:
        """Forget one counter: it was given back."""
        name = policy.namespace, key
        self._young.pop(name, None)
        self._old.pop(name, None)

    def clear(self) -> None:
        """Forget everything: the store did, too."""
        self._young, self._old = {}, {}
