"""Denials remembered: what a server has denied is denied again without asking it, for as long as that cannot be wrong.

After a denial with a wait, the same request cannot be allowed before the wait is over: whatever others take only puts
it off. So until the time of its sending plus the wait the answer is known. It is kept only where each policy that
denied had nothing left; what is told is what the call told, and the wait that is left of it, counted from the time of
the reply. For a request of one unit that is exact: nobody can have taken anything of it since. (Of several units some
may have come back meanwhile, and others may have taken them: then its wait is the least that it can be.) Long keys are
not kept: what is remembered is bounded in bytes, too.

What gives units back breaks this. In this process it is done under `forgetting`: no denial that was sent for before is
given after. From elsewhere (another process, lost state, a step of the server's clock; a token bucket that is asked
under a higher limit as well, and so flows faster) it is seen late, by the span for which denials are kept; and never
over: more is never allowed for it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.errors import StoreError
from sluicegate._core.keys import CounterKey, memory_key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Counter
from sluicegate._stores.base import Remembered

Charges = tuple[Charge, ...]
Answer = list[Verdict] | StoreError

DENIAL_TTL = 1.0
"""Seconds for which a denial is remembered at most, unless a store is told otherwise."""

MOST = 10_000
"""Denials that one store remembers; the oldest goes first."""

_SLOTS = 1024

# When something was last given back, monotonic ns, by the hash of its counter; and where that is under way. For all
# stores of this process: two of them may count on one server. Counters that share a slot only cost each other a call.
_forgotten_ns = [0] * _SLOTS
_forgetting: dict[object, frozenset[int]] = {}


@contextmanager
def forgetting(counters: Iterable[Counter]) -> Iterator[None]:
    """Let no store of this process give a denial of these counters meanwhile, nor one sent for before after it."""
    slots, mark = frozenset(_slot(policy, key) for policy, key in counters), object()
    _forgetting[mark] = slots
    try:
        yield
    finally:  # also where the answer was lost
        for slot in slots:
            _forgotten_ns[slot] = time.monotonic_ns()
        del _forgetting[mark]


def _slot(policy: Policy, key: CounterKey) -> int:
    return hash((policy.namespace, key)) % _SLOTS


def _name(request: Charges) -> _Name:
    """Name a request, in less time than a policy takes to be hashed. No other has the id of a policy that is kept."""
    return tuple([(id(policy), key, cost) for policy, key, cost in request])


_Name = tuple[tuple[int, CounterKey, int], ...]


@dataclass(frozen=True, slots=True)
class _Denial:
    """One answer that was denied. Times are monotonic, in nanoseconds. The request keeps its policies, so their ids."""

    request: Charges
    answer: list[Verdict]
    slots: list[int]
    sent_ns: int
    replied_ns: int
    until_ns: int

    @property
    def void(self) -> bool:
        """Whether it was sent for before units were given back, or they are being given back now."""
        if _forgetting and any(not slots.isdisjoint(self.slots) for slots in list(_forgetting.values())):
            return True
        sent_ns = self.sent_ns
        for slot in self.slots:  # noqa: SIM110 - any() of a generator takes thrice as long
            if _forgotten_ns[slot] >= sent_ns:
                return True
        return False


class Denials:
    """What one store remembers.

    Args:
        ttl: Seconds for which a denial is remembered at most, 0 to 60; 0 for none at all.

    Attributes:
        given: Requests so far that were denied from here.
    """

    def __init__(self, ttl: float) -> None:
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl <= 60:
            raise ValueError(f"denial_ttl must be seconds from 0 to 60, got {ttl!r}")
        self.given = 0
        self._ttl_ns = round(ttl * 1e9)
        self._kept: OrderedDict[_Name, _Denial] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, request: Charges) -> Remembered | None:
        """Return the answer to a request, if it is known to be denied."""
        name = _name(request)
        denial = self._kept.get(name)
        if denial is None:
            return None
        now_ns = time.monotonic_ns()
        if now_ns >= denial.until_ns or denial.void:
            self._kept.pop(name, None)
            return None
        self.given += 1
        passed_us = (now_ns - denial.replied_ns) // 1000
        return Remembered([_aged(verdict, passed_us) for verdict in denial.answer])

    def learn(self, requests: Sequence[Charges], answers: Sequence[Answer], sent_ns: int) -> None:
        """Remember those of a batch that were denied."""
        if not self._ttl_ns:
            return
        replied_ns = time.monotonic_ns()
        for request, answer in zip(requests, answers, strict=True):
            if type(answer) is list:
                for verdict in answer:
                    if not verdict[0]:
                        self._keep(request, answer, sent_ns, replied_ns)
                        break

    def _keep(self, request: Charges, answer: list[Verdict], sent_ns: int, replied_ns: int) -> None:
        if any(memory_key(key) is not key for _, key, _ in request):
            return
        denied = [n for n, verdict in enumerate(answer) if not verdict.allowed]
        waits_us = [answer[n].retry_after_us for n in denied]
        if NEVER in waits_us or any(answer[n].remaining for n in denied):
            return
        slots = [_slot(*request[n][:2]) for n in denied]
        # The shortest wait: after it a part of the answer would be another one.
        until_ns = sent_ns + min(min(waits_us) * 1000, self._ttl_ns)
        name = _name(request)
        self._kept.pop(name, None)
        self._kept[name] = _Denial(request, answer, slots, sent_ns, replied_ns, until_ns)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)


def _aged(verdict: Verdict, passed_us: int) -> Verdict:
    allowed, remaining, retry_after_us, reset_after_us = verdict
    return Verdict(allowed, remaining, max(retry_after_us - passed_us, 0), max(reset_after_us - passed_us, 0))
