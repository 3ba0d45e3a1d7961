"""The plan of a limiter: how every verb gets from a key and a cost to a request, and from an answer to a decision.

Built once for each limiter, and the same for threads and for tasks. The order of the steps is `Limiter._ask` (and its
twin), which every verb goes through. What a later feature adds (a policy for outages, say) is a step there, and its
logic is here. Only a plan that ``is_direct`` may be bypassed by a fast path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sluicegate._core.decision import NEVER, Decision, Source, Verdict, decision_of, verdict_of
from sluicegate._core.errors import InvalidPolicy, LimiterClosed, StoreError, short_repr
from sluicegate._core.keys import Key
from sluicegate._core.policies import Cost, Policies
from sluicegate._core.policy import Policy, SlidingWindow, boundless
from sluicegate._core.request import Counter, Request, Settlement, request_of
from sluicegate._limiter.exempt import Exempt, exempt_function
from sluicegate._limiter.outages import Outages
from sluicegate._limiter.statistics import Statistics, Tally
from sluicegate._stores.base import Fallback, Remembered

if TYPE_CHECKING:
    from sluicegate._limiter.limits import Limits

_MOST_VARIANTS = 1024  # policies without their limit to keep: making one anew takes microseconds

_SUSPENDED = Verdict(allowed=False, remaining=0, retry_after_us=NEVER, reset_after_us=0)
_NOT_CHECKED = Verdict(allowed=True, remaining=0, retry_after_us=0, reset_after_us=0)


class Bypassed(list[Verdict]):
    """The answer to a request that is not limited."""


class Suspended(list[Verdict]):
    """The answer to a request under a limit of 0, which no store is needed for."""


_SOURCES: Mapping[type, Source] = {Bypassed: "bypass", Suspended: "fallback", Fallback: "fallback"}


class Plan:
    """The steps between a verb and its store.

    Args:
        policies: What is allowed.
        limits: The limits by key, if a function of the user's gives them.
        exempt: Keys that are never limited.
        enabled: Whether requests are limited at all.
        outages: Answers where the store makes no decision.
        deadline: Seconds within which the store must answer.

    Attributes:
        policies: As given.
        limits: As given.
        outages: As given.
        tally: What was decided so far.
        lends: Whether a policy lends permits.
        is_direct: Whether a request goes to the store as it is: the limiter is open and on, nothing is exempt, and no
            limit depends on the key.
    """

    def __init__(
        self,
        policies: Policies,
        limits: Limits | None,
        exempt: Exempt | None,
        enabled: bool,
        outages: Outages,
        deadline: float,
    ) -> None:
        self.policies = policies
        self.limits = limits
        self.outages = outages
        self._deadline = deadline
        self.tally = Tally()
        self._lending = next((policy.name for policy in policies.all if policy.lends), None)
        self.lends = self._lending is not None
        self._debts: dict[int, tuple[Policy, Policy]] = {}
        self._exempt = exempt_function(exempt, policies.attributes)
        self._is_open = True
        self.enabled = enabled

    @property
    def enabled(self) -> bool:
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if not isinstance(enabled, bool):
            raise InvalidPolicy(f"enabled must be True or False, got {short_repr(enabled)}")
        self._enabled = enabled
        self._update()

    @property
    def is_open(self) -> bool:
        return self._is_open

    @is_open.setter
    def is_open(self, is_open: bool) -> None:
        self._is_open = is_open
        self._update()

    def _update(self) -> None:
        self.is_direct = (
            self._is_open and self._enabled and self._exempt is None and self.limits is None and self._lending is None
        )

    def check_open(self) -> None:
        """Raise `LimiterClosed` if the limiter is closed."""
        if not self._is_open:
            raise LimiterClosed(
                "this limiter is closed, nothing was done: make one limiter for the whole program and close it at the "
                "end, or enter it to open it again (with limiter: or async with limiter:)"
            )

    def check_lends_nothing(self, verb: str) -> None:
        """Raise `InvalidPolicy` if a policy lends permits: these are held through ``reserve`` alone."""
        if self._lending is not None:
            raise InvalidPolicy(
                f"policy {self._lending} lends permits, which {verb}() could never give back; write "
                f"with limiter.reserve(key): (async with, for an AsyncLimiter)"
            )

    def check_can_reserve(self) -> None:
        """Raise `InvalidPolicy` if a policy rounds times, so that a charge cannot be settled."""
        for policy in self.policies.all:
            if isinstance(policy, SlidingWindow) and policy.buckets is not None:
                raise InvalidPolicy(
                    f"reserve() needs exact entries, and policy {policy.name} has buckets={policy.buckets}: leave "
                    f"buckets= out, or use a TokenBucket"
                )

    def debt(self, request: Request) -> Request:
        """Return the request that charges what another one would, whatever its limits: it has happened already."""
        return request._replace(
            charges=tuple([charge._replace(policy=self._boundless(charge.policy)) for charge in request.charges])
        )

    def _boundless(self, policy: Policy) -> Policy:
        """Return a policy without its limit. What is charged under it leaves at the pace of its own limit."""
        if not policy.limit:  # a suspended plan has no pace of its own
            policy = next(each for each in self.policies.all if each.name == policy.name)
        known = self._debts.get(id(policy))
        if known is None:
            if len(self._debts) >= _MOST_VARIANTS:
                self._debts.clear()
            known = self._debts[id(policy)] = policy, boundless(policy)  # with it: no other can have its id meanwhile
        return known[1]

    def request(self, key: Key, cost: Cost, commit: bool, reserves: bool = False) -> Request:
        """Return the request that a verb makes. Raises `InvalidKey` or `InvalidCost`."""
        return request_of((self.policies.charges(key, cost), commit, self._deadline, reserves))

    def is_bypassed(self, key: Key) -> bool:
        """Return whether a key is not limited: it is exempt, or the limiter is off."""
        return not self._enabled or (self._exempt is not None and self._exempt(key))

    def bypass(self, request: Request) -> Bypassed:
        """Return the answer to a request that is not limited: as if its keys had never been used."""
        return Bypassed([verdict_of((True, charge.policy.burst, 0, 0)) for charge in request.charges])

    def with_limits(self, request: Request, limits: Mapping[str, int]) -> Request:
        """Return the request under the limits of its key."""
        return request._replace(charges=self.policies.with_limits(request.charges, limits))

    def is_suspended(self, request: Request) -> bool:
        """Return whether a limit of the request is 0, so that it is denied whatever the store holds."""
        return any(not charge.policy.limit for charge in request.charges)

    def suspension(self, request: Request) -> Suspended:
        """Return the answer to such a request. The other policies do not deny it, and promise no units either."""
        return Suspended([_NOT_CHECKED if charge.policy.limit else _SUSPENDED for charge in request.charges])

    def statistics(self, fast: tuple[int, int]) -> Statistics:
        """Return the counts so far, including what the fast path allowed and denied, and the state of the store."""
        up, down = self.outages.seconds()
        mode = self.outages.on_outage
        return replace(
            self.tally.snapshot(fast),
            mode=mode if self.outages.is_open else "store",
            seconds=MappingProxyType({"store": up, mode: down}),
        )

    def line_without_store(self, requests: Sequence[Request], error: StoreError) -> list[list[Verdict]]:
        """Return the answers to a line of requests, up to the first that is denied, as `without_store` does for one."""
        answers: list[list[Verdict]] = []
        for request in requests:
            answers.append(self.without_store(request, error))
            if not all(verdict.allowed for verdict in answers[-1]):
                break
        return answers

    def settlements(self, request: Request, answer: list[Verdict], actual: Sequence[int]) -> list[Settlement]:
        """Return what to settle so that each charge of a request becomes its number of units.

        Empty if the answer does not say where they are: it was not limited, or an outage decided it without counting.
        """
        marks = getattr(answer, "marks", None)
        if marks is None:
            return []
        return [
            Settlement(*charge, mark, units)
            for charge, mark, units in zip(request.charges, marks, actual, strict=True)
            if units != charge.cost
        ]

    def not_recorded(self, error: StoreError, *, raises: bool = True) -> None:
        """Take note that the store could not be told what was used. Raises the error, if limiters are to raise it."""
        self.tally.unsettled += 1
        if raises and self.outages.on_outage == "raise":
            raise error

    def charge_without_store(self, request: Request, error: StoreError) -> list[Verdict]:
        """Charge what has happened while the store is down: in memory, or not at all."""
        if self.outages.on_outage == "local":
            return self.without_store(request, error)
        self.not_recorded(error)
        return self.bypass(request)

    def one_by_one(self, request: Request) -> list[Request]:
        """Return a request for each charge."""
        return [request._replace(charges=(charge,)) for charge in request.charges]

    def settle_here(self, answer: list[Verdict], settlements: Sequence[Settlement]) -> list[bool] | None:
        """Settle what was decided in an outage, in memory. Returns None if the store decided it."""
        return self.outages.settle(settlements) if isinstance(answer, Fallback) else None

    def without_store(self, request: Request, error: StoreError) -> Fallback:
        """Return the answer to a request that the store failed to decide. Raises the error, if that is the answer."""
        try:
            return self.outages.answer(request, error, bool(self.tally.allowed or self.tally.denied))
        except StoreError:
            self.tally.errors += request.commit
            raise

    def outcome(self, request: Request, verdicts: list[Verdict]) -> bool:
        """Return whether a store's answer allows a request, and count it; `decision` without a `Decision`."""
        source: Source = "store"
        if type(verdicts) is not list or len(verdicts) != len(request.charges):
            source = self._checked_source(request, verdicts)
        allowed = True
        for verdict in verdicts:  # all() of a generator takes twice as long
            if not verdict[0]:
                allowed = False
        if request.commit:
            self.tally.count(source, allowed)
        return allowed

    def decision(self, request: Request, verdicts: list[Verdict]) -> Decision:
        """Return the decision that a store's answer comes to, and count it."""
        source: Source = "store"
        if type(verdicts) is not list or len(verdicts) != len(request.charges):
            source = self._checked_source(request, verdicts)
        limits: Sequence[int] = self.policies.limits
        if self.limits is not None:
            limits = tuple([charge.policy.limit for charge in request.charges])
        decision = decision_of(self.policies.names, limits, verdicts, source)
        if request.commit:
            self.tally.count(source, decision.allowed)
        return decision

    def decision_of_one(self, verdict: Verdict) -> Decision:
        """Return the decision that the verdict on a request of the only policy comes to, and count it."""
        decision = decision_of(self.policies.names, self.policies.limits, (verdict,))
        self.tally.count("store", verdict[0])
        return decision

    def _checked_source(self, request: Request, verdicts: list[Verdict]) -> Source:
        """Return where an answer came from. A store of the user's own may answer too few charges."""
        if len(verdicts) != len(request.charges):
            raise TypeError(
                f"store must return a verdict for each charge, got {len(verdicts)} for {len(request.charges)} charges"
            )
        if isinstance(verdicts, Remembered):
            return "denial-cache"
        return _SOURCES.get(type(verdicts), "store")

    def forget(self, key: Key) -> Sequence[Counter]:
        """Return the counters that a key names, once they are forgotten here: for outages.

        Raises `LimiterClosed` or `InvalidKey`.
        """
        self.check_open()
        counters = self.policies.counters(key)
        self.outages.forget(counters)
        return counters

    def block(self, key: Key, span_us: int) -> Sequence[Counter]:
        """Return the counters that a block of a key is put on, once they are blocked here, as `forget` does."""
        self.check_open()
        counters = self.policies.counters(key)
        self.outages.block(counters, span_us)
        return counters
