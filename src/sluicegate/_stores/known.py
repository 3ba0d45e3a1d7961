"""What the store last answered for each counter: how much of its limit was used by the whole fleet, and until when.

With it, the share of an instance begins an outage where the store left off, and not with an empty count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sluicegate._core.keys import CounterKey, Digest, memory_key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge

MOST_KNOWN = 50_000
"""Counters that are known, at least; twice as many at most. The ones that were not used lately are forgotten."""

_VISITS = 2_000  # counters: less than half a millisecond
_SHORT = 64  # characters; shorter keys are their own `memory_key`

_CounterId = tuple[str, CounterKey | Digest]
_Usage = tuple[int, int, int]  # units, µs until all are free again, and the monotonic time of the reply in ns


class Known:
    """How many units of each counter were used when the store last answered.

    They are kept in two generations. When the young one is full, it becomes the old one, and that is forgotten.
    `forget_idle` forgets the others.
    """

    def __init__(self) -> None:
        self._young: dict[_CounterId, _Usage] = {}
        self._old: dict[_CounterId, _Usage] = {}
        self._to_visit: list[_CounterId] = []

    def learn(self, requests: Sequence[tuple[Charge, ...]], answers: Sequence[object]) -> None:
        """Take over the answers to requests; those that are not verdicts are passed over."""
        now_ns = time.monotonic_ns()
        young = self._young
        for request, answer in zip(requests, answers, strict=True):
            if not isinstance(answer, list):
                continue
            (policy, key, _), verdict = request[0], answer[0]
            short = key if type(key) is str and len(key) < _SHORT else memory_key(key)
            young[policy.namespace, short] = policy.burst - verdict[1], verdict[3], now_ns
            if len(request) > 1:  # apart, as a loop over a single charge takes longer than all the rest
                for (policy, key, _), verdict in zip(request[1:], answer[1:], strict=True):
                    young[policy.namespace, memory_key(key)] = policy.burst - verdict[1], verdict[3], now_ns
        if len(young) > MOST_KNOWN:
            self._old, self._young = young, {}

    def used(self, policy: Policy, key: CounterKey) -> int:
        """Return how many units were used when the store last answered; 0 once they are all free again."""
        name = policy.namespace, memory_key(key)
        usage = self._young.get(name) or self._old.get(name)
        if usage is None:
            return 0
        units, reset_after_us, replied_ns = usage
        return max(units, 0) if time.monotonic_ns() < replied_ns + reset_after_us * 1000 else 0

    def forget_idle(self) -> None:
        """Forget counters that are idle, among the next `_VISITS`. To be called about once a second."""
        if not self._to_visit:
            self._to_visit = [*self._old, *self._young]
        now_ns = time.monotonic_ns()
        names = self._to_visit[-_VISITS:]
        del self._to_visit[-_VISITS:]
        for name in names:
            for known in (self._young, self._old):
                usage = known.get(name)
                if usage is not None and now_ns >= usage[2] + usage[1] * 1000:
                    known.pop(name, None)

    def lower(self, policy: Policy, key: CounterKey, units: int) -> None:
        """Take note that so many units of a counter were given back."""
        name = policy.namespace, memory_key(key)
        for known in (self._young, self._old):
            if (usage := known.get(name)) is not None:
                known[name] = usage[0] - units, usage[1], usage[2]

    def forget(self, policy: Policy, key: CounterKey) -> None:
        """Forget one counter: units were given back, or a block was put on it or lifted."""
        name = policy.namespace, memory_key(key)
        self._young.pop(name, None)
        self._old.pop(name, None)

    def clear(self) -> None:
        """Forget everything: the store did, too."""
        self._young, self._old = {}, {}
