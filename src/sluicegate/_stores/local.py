"""What an instance allows by itself while its store is down: its share of each limit, counted in memory.

Until they are free again, the units that the store last knew to be used are taken off the limit, before it is shared.

What it allowed so is owed to the store: once that answers again, it is entered there whatever the limit, so that others
see it. It goes out at most once: if the reply to it is lost, it is not sent again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice
from threading import RLock

from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.keys import CounterKey, Digest, memory_key
from sluicegate._core.policy import Policy, boundless, with_share
from sluicegate._core.request import Charge, Counter, Request, Settlement
from sluicegate._stores.base import Fallback, Reserved
from sluicegate._stores.fleet import Fleet, fixed_share
from sluicegate._stores.known import Known
from sluicegate._stores.memory.store import MemoryStore

MAX_KEYS = 100_000
"""Keys that have a counter of their own meanwhile, and counters that may be owed for. More share, or are not sent."""

_MOST_VARIANTS = 1024  # policies with a share of their limit to keep: making one anew takes microseconds

_CounterId = tuple[str, CounterKey]
_CounterName = tuple[str, CounterKey | Digest]


class Local:
    """The counters of one instance for the time that its store is down.

    Args:
        fleet: The fleet, whose size says how large a share is.

    Attributes:
        is_wanted: Whether a limiter decides here in outages; otherwise nothing is remembered for that.
        known: What the store last answered.
        owes: Whether there is anything to send to the store.
        unsent: Units that were allowed here and are never sent: there were too many counters, or the key is long.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.is_wanted = False
        self.known = Known()
        self._fleet = fleet
        self._start()

    def _start(self) -> None:
        self.unsent = 0
        self._memory: MemoryStore | None = None
        self._blocked: dict[_CounterName, float] = {}  # until when, by `time.monotonic`
        self._owed: dict[_CounterId, Charge] = {}
        self._shares: dict[tuple[int, int, int], tuple[Policy, Policy]] = {}
        self.owes = False
        # Reentrant: a signal handler may call a limiter while its own thread holds it.
        self._lock = RLock()

    def __len__(self) -> int:
        """Return for how many counters something is owed."""
        return len(self._owed)

    def after_fork(self) -> None:
        """Start anew in a forked child: what the parent allowed, the parent sends."""
        self._start()

    def decide(self, request: Request, *, share: Fraction | None, owe: bool, wait_us: int) -> Fallback:
        """Decide a request on this instance's share.

        Args:
            request: The request.
            share: A fixed share of every limit, above 0, at most 1; None for one by the size of the fleet.
            owe: Whether to send the store later what is allowed now.
            wait_us: The wait where this instance can allow nothing: until the store may answer again.
        """
        charges = [self._with_share(charge, share) for charge in request.charges]
        if None in charges:
            return Fallback([Verdict(charge is not None, 0, 0 if charge else wait_us, 0) for charge in charges])
        verdicts = self._store.decide(request._replace(charges=tuple(charges)))  # type: ignore[arg-type]
        answer = Fallback([_sooner(verdict, wait_us) for verdict in verdicts])
        if isinstance(verdicts, Reserved):
            answer.marks = list(zip([charge.policy for charge in charges if charge], verdicts.marks, strict=True))
        if owe and request.commit and all(verdict.allowed for verdict in verdicts):
            self._owe(request.charges)
        return answer

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle what was decided here, under the share that it was decided under. What is owed stays as it was."""
        return self._store.settle(
            [each._replace(policy=policy, mark=mark) for each in settlements for policy, mark in (each.mark,)]
        )

    def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters, and what is owed for them."""
        with self._lock:
            for policy, key in counters:
                self._owed.pop((policy.namespace, key), None)
                self.known.forget(policy, key)
            self.owes = bool(self._owed)
            if self._memory is not None:
                self._memory.forget(counters)

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Block counters here, too, as they are blocked on the store: as many as `MAX_KEYS` at a time."""
        now = time.monotonic()
        for counter in counters:
            name = counter.policy.namespace, memory_key(counter.key)
            if not span_us:
                self.known.forget(*counter)  # a block that is lifted must not be remembered as units in use
                self._blocked.pop(name, None)
            else:
                if len(self._blocked) >= MAX_KEYS:
                    self._blocked = {each: end for each, end in self._blocked.items() if end > now}
                if len(self._blocked) >= MAX_KEYS and name not in self._blocked:
                    continue
                self._blocked[name] = now + span_us / 1_000_000
            self._store.block((counter,), span_us)

    def learn(self, requests: Sequence[tuple[Charge, ...]], answers: Sequence[object]) -> None:
        """Take note of what the store answered: how much is used, and that what it allows is not blocked any more."""
        if self.is_wanted:
            self.known.learn(requests, answers)
        if self._blocked:
            for request, answer in zip(requests, answers, strict=True):
                if isinstance(answer, list) and all(verdict.allowed for verdict in answer):
                    self._unblock(request)

    def _unblock(self, request: tuple[Charge, ...]) -> None:
        for policy, key, _ in request:
            if self._blocked.pop((policy.namespace, memory_key(key)), None) is not None:
                self._store.block((Counter(policy, key),), 0)

    def owed(self, charges: Iterable[Charge], most: int) -> list[tuple[Charge, ...]]:
        """Take out what is owed for the counters of these charges, as requests that are entered whatever the limit.

        What has left its window here meanwhile is not owed any more.
        """
        return self._take([(charge.policy.namespace, charge.key) for charge in charges], most)

    def any_owed(self, most: int) -> list[tuple[Charge, ...]]:
        """Take out what is owed for some counters, whichever."""
        with self._lock:
            return self._take(list(islice(self._owed, most)), most)

    def owe_again(self, requests: Iterable[tuple[Charge, ...]]) -> None:
        """Put back what was taken out and has certainly not been entered."""
        for charges in requests:
            self._owe(charges)

    @property
    def _store(self) -> MemoryStore:
        if self._memory is None:
            with self._lock:
                self._memory = self._memory or MemoryStore(max_keys=MAX_KEYS)
        return self._memory

    def _with_share(self, charge: Charge, share: Fraction | None) -> Charge | None:
        """Return a charge under this instance's share of its limit; None if nothing of that is left."""
        policy, key, cost = charge
        limit, burst = (self._share(policy, units, key, share) for units in (policy.limit, policy.burst))
        if used := self.known.used(policy, key):
            # Rounded up, so that all instances together take off no less.
            burst -= -(-used // (self._fleet.size or 1)) if share is None else -fixed_share(share, -used)
        if limit < 1 or burst < 1:
            return None
        return Charge(self._variant(policy, limit, burst), key, cost)

    def _share(self, policy: Policy, units: int, key: CounterKey, share: Fraction | None) -> int:
        return self._fleet.share(policy, units, key) if share is None else fixed_share(share, units)

    def _variant(self, policy: Policy, limit: int, burst: int) -> Policy:
        if limit == policy.limit and burst == policy.burst:
            return policy
        name = id(policy), limit, burst
        _, variant = self._shares.get(name, (policy, None))
        if variant is None:
            if len(self._shares) >= _MOST_VARIANTS:
                self._shares.clear()
            variant = with_share(policy, limit, burst)
            self._shares[name] = policy, variant  # with the policy: while it is in here, no other can have its id
        return variant

    def _owe(self, charges: Iterable[Charge]) -> None:
        with self._lock:
            for charge in charges:
                if charge.policy.lends:  # permits are held here alone
                    continue
                name = charge.policy.namespace, charge.key
                before = self._owed.get(name)
                # Keys are kept whole, to be sent: so not the long ones.
                if memory_key(charge.key) is not charge.key or (before is None and len(self._owed) >= MAX_KEYS):
                    self.unsent += charge.cost
                else:
                    self._owed[name] = charge._replace(cost=charge.cost + (before.cost if before else 0))
            self.owes = bool(self._owed)

    def _take(self, names: Iterable[_CounterId], most: int) -> list[tuple[Charge, ...]]:
        requests: list[tuple[Charge, ...]] = []
        with self._lock:
            for name in names:
                if len(requests) >= most:
                    break
                charge = self._owed.pop(name, None)
                if charge is not None and (forced := self._still_owed(charge)):
                    requests.append((forced,))
            self.owes = bool(self._owed)
        return requests

    def _still_owed(self, charge: Charge) -> Charge | None:
        """Return the charge under a policy that takes it whatever the limit, without what has left the window."""
        policy = boundless(charge.policy)
        probe = Request((Charge(policy, charge.key, 1),), commit=False)
        (verdict,) = self._store.decide(probe)
        units = min(charge.cost, policy.burst - verdict.remaining)
        return Charge(policy, charge.key, units) if units > 0 else None


def _sooner(verdict: Verdict, wait_us: int) -> Verdict:
    """Return the verdict with a wait that ends: a cost above the share may fit once the store answers."""
    return verdict._replace(retry_after_us=wait_us) if verdict.retry_after_us == NEVER else verdict
