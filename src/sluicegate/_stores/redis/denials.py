"""Denials that are remembered: the same request is denied again without a call, for as long as that cannot be wrong.

After a denial with a wait, the same request cannot be allowed before the wait is over: other requests can only postpone
it. So until its sending time plus the wait the answer is known. It is remembered only if each policy that denied had
nothing left. The wait that is returned counts from the time of the reply, as nobody knows when during the call the
server decided. So for a request of one unit it is never too short, and too long by at most that round trip. (Of several
units some may have come back, and others may have taken them: then the wait is the shortest possible.) Long keys are
not remembered, so the memory is bounded in bytes, too.

When the time is over, the first request goes to the server to refresh the denial. Until its reply the others are still
denied from memory, as with a stale-while-revalidate cache: for a tenth of the time at most, and never beyond the wait.

Giving units back ends it. This process does so inside `forgetting`: no denial that was sent before is returned after.
Changes elsewhere (another process, lost data, a step of the server's clock, a token bucket that is also used with a
higher limit and so drains faster) are seen late, by the time for which denials are remembered, and by that tenth. That
can deny for too long, and never allow too much.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.keys import CounterKey, memory_key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter
from sluicegate._stores.base import Remembered
from sluicegate._stores.redis.script import Answer, Charges, ClockMismatch

DENIAL_TTL = 1.0
"""The default of ``denial_ttl``, seconds."""

MAX_DENIALS = 10_000
"""Denials that one store remembers; the oldest goes first."""

_STALE = 10
"""The part of its time for which a denial may still be used while it is refreshed: a tenth."""

_SLOTS = 1024

# When units were last given back, monotonic ns, by the hash of their counter; and the slots where that is in progress.
# For all stores of this process, as two of them may use one server. Counters that share a slot only cost each other a
# call.
_forgotten_ns = [0] * _SLOTS
_forgetting: dict[object, frozenset[int]] = {}


@contextmanager
def forgetting(counters: Iterable[Counter]) -> Iterator[None]:
    """Let no store of this process return a denial of these counters that was sent before the block of code ends."""
    slots, mark = frozenset(_slot(counter.policy, counter.key) for counter in counters), object()
    _forgetting[mark] = slots
    try:
        yield
    finally:  # also if the reply was lost
        for slot in slots:
            _forgotten_ns[slot] = time.monotonic_ns()
        del _forgetting[mark]


def _slot(policy: Policy, key: CounterKey) -> int:
    return hash((policy.namespace, key)) % _SLOTS


_Name = tuple[tuple[int, CounterKey, int], ...]


def _name(request: Charges) -> _Name:
    """Return the name under which a request is remembered, a policy by its id: hashing it takes longer."""
    return tuple([(id(charge.policy), charge.key, charge.cost) for charge in request])


@dataclass(frozen=True, slots=True)
class _Denial:
    """One answer that was denied, with monotonic times. While it has the request, no other policy can have its ids.

    From ``fresh_until_ns`` on a request has to refresh it. While one does, the others may use it until ``expires_ns``.
    """

    request: Charges
    answer: list[Verdict]
    slots: list[int]
    sent_ns: int
    replied_ns: int
    fresh_until_ns: int
    expires_ns: int
    is_refreshing: bool = False

    @property
    def is_void(self) -> bool:
        """Whether units were given back after it was sent, or are being given back now."""
        if _forgetting and any(not slots.isdisjoint(self.slots) for slots in list(_forgetting.values())):
            return True
        sent_ns = self.sent_ns
        for slot in self.slots:  # noqa: SIM110 - any() of a generator takes three times as long
            if _forgotten_ns[slot] >= sent_ns:
                return True
        return False


class Denials:
    """The denials that one store remembers.

    Args:
        ttl: Seconds for which a denial is remembered at most, 0 to 60; 0 remembers none.

    Attributes:
        given: Requests denied so far from here.
    """

    def __init__(self, ttl: float) -> None:
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl <= 60:
            raise ValueError(f"denial_ttl must be seconds from 0 to 60, got {ttl!r}")
        self.given = 0
        self._ttl_ns = round(ttl * 1e9)
        self._void_until_ns = 0
        self.kept: OrderedDict[_Name, _Denial] = OrderedDict()
        self._refreshing: set[_Name] = set()

    def clear(self) -> None:
        """Forget all denials, also those whose replies are still to come: the store has lost its counters."""
        self._void_until_ns = time.monotonic_ns()
        self.kept.clear()
        self._refreshing.clear()

    def find(self, request: Charges) -> Remembered | None:
        """Return the answer to a request that is remembered to be denied; on None, the caller must send the request.

        If a denial is no longer fresh, the first caller gets None, and with it the task to refresh the denial.
        """
        name = _name(request)
        denial = self._usable(name)
        if denial is None:
            return None
        if time.monotonic_ns() < denial.fresh_until_ns:
            return self._again(denial)
        self.kept[name] = replace(denial, fresh_until_ns=denial.expires_ns, is_refreshing=True)
        self._refreshing.add(name)
        return None

    def find_before_sending(self, request: Charges) -> Remembered | None:
        """Return the answer to a request that has waited to be sent, if another was denied the same meanwhile."""
        denial = self._fresh(_name(request))
        return None if denial is None or denial.is_refreshing else self._again(denial)

    def _again(self, denial: _Denial) -> Remembered:
        self.given += 1
        passed_us = (time.monotonic_ns() - denial.replied_ns) // 1000
        return Remembered([_aged(verdict, passed_us) for verdict in denial.answer])

    def has(self, policy: Policy, key: object, cost: object) -> bool:
        """Tell whether a request of one charge is remembered to be denied, and count it, without making its answer.

        The key and the cost need not have been checked. Invalid ones are never remembered.
        """
        # 1.0 and True equal 1, and a subclass of str may equal anything.
        if type(key) is not str or type(cost) is not int:
            return False
        if self._fresh(((id(policy), key, cost),)) is None:
            return False
        self.given += 1
        return True

    def _fresh(self, name: _Name) -> _Denial | None:
        denial = self._usable(name)
        return denial if denial is not None and time.monotonic_ns() < denial.fresh_until_ns else None

    def _usable(self, name: _Name) -> _Denial | None:
        """Return the denial of this name, fresh or not; drop it if its time is over, or units were given back."""
        denial = self.kept.get(name)
        if denial is not None and (time.monotonic_ns() >= denial.expires_ns or denial.is_void):
            self._drop(name)
            return None
        return denial

    def _drop(self, name: _Name) -> None:
        self.kept.pop(name, None)
        self._refreshing.discard(name)

    def learn(self, requests: Sequence[Charges], answers: Sequence[Answer | ClockMismatch], sent_ns: int) -> None:
        """Remember the denials among the answers to requests that were sent at ``sent_ns``, by the monotonic clock."""
        if not self._ttl_ns or sent_ns <= self._void_until_ns:
            return
        replied_ns = time.monotonic_ns()
        for request, answer in zip(requests, answers, strict=True):
            if type(answer) is list:
                if self._refreshing and (name := _name(request)) in self._refreshing:
                    self._drop(name)
                for verdict in answer:
                    if not verdict.allowed:
                        self._keep(request, answer, sent_ns, replied_ns)
                        break

    def _keep(self, request: Charges, answer: list[Verdict], sent_ns: int, replied_ns: int) -> None:
        if any(memory_key(charge.key) is not charge.key for charge in request):  # a long key
            return
        denied = [n for n, verdict in enumerate(answer) if not verdict.allowed]
        waits_us = [answer[n].retry_after_us for n in denied]
        if NEVER in waits_us or any(answer[n].remaining for n in denied):
            return
        if any(request[n].policy.lends for n in denied):  # permits come back before their wait is over
            return
        slots = [_slot(request[n].policy, request[n].key) for n in denied]
        # The shortest wait: after it, part of the answer would differ.
        wait_ns = min(waits_us) * 1000
        fresh_until_ns, expires_ns = (
            sent_ns + min(wait_ns, ttl_ns) for ttl_ns in (self._ttl_ns, self._ttl_ns + self._ttl_ns // _STALE)
        )
        name = _name(request)
        self._drop(name)
        self.kept[name] = _Denial(request, answer, slots, sent_ns, replied_ns, fresh_until_ns, expires_ns)
        if len(self.kept) > MAX_DENIALS:
            self._refreshing.discard(self.kept.popitem(last=False)[0])


def _aged(verdict: Verdict, passed_us: int) -> Verdict:
    allowed, remaining, retry_after_us, reset_after_us = verdict
    return Verdict(allowed, remaining, max(retry_after_us - passed_us, 0), max(reset_after_us - passed_us, 0))
