"""Limiters: one for each set of policies that is decided together, all on one store; and their response fields."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal
from weakref import WeakSet

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate._core.event import StoreEvent
from sluicegate._core.policy import Policy, SlidingWindow
from sluicegate._limiter.async_limiter import AsyncLimiter
from sluicegate._limiter.base import MAX_WAITING
from sluicegate._limiter.outages import OnOutage, Outages, checked_deadline
from sluicegate._stores.base import TIMEOUT, AsyncStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.resolve import own_async, stood_in_for
from sluicegate.web import headers

MOST_SETS = 1024
"""Sets of policies to keep a limiter for. Functions that return ever new limits must not fill the memory."""

FieldSet = Literal["RateLimit", "X-RateLimit"]

Fields = list[tuple[bytes, bytes]]


def rounds(policy: Policy) -> bool:
    """Return whether a policy rounds times, so that its charges cannot be settled."""
    return isinstance(policy, SlidingWindow) and policy.buckets is not None


class LimiterOfSet:
    """The limiter of one set of policies, and how its decisions are written.

    Attributes:
        limiter: Decides them, all or nothing.
        can_reserve: Whether what it charges can be given back.
        policy_field: The value of RateLimit-Policy.
    """

    __slots__ = ("_names", "can_reserve", "limiter", "policy_field")

    def __init__(self, limiter: AsyncLimiter, *, can_settle: bool = True) -> None:
        self.limiter = limiter
        self.can_reserve = can_settle and not any(map(rounds, limiter.policies))
        self.policy_field = headers.rate_limit_policy(limiter.policies).encode()
        self._names = {policy.name: headers.string(policy.name) for policy in limiter.policies}

    def rate_limit_field(self, decision: Decision) -> str:
        """Return the value of RateLimit, the policy that decides first."""
        # Not by the library, as in `headers`: that takes as long as the decision itself, for each response.
        first = self._item(decision)
        if len(self._names) == 1:
            return first
        return ", ".join([first, *[self._item(part) for part in decision.decisions if part.policy != decision.policy]])

    def _item(self, part: Decision) -> str:
        wait = None if part.allowed else headers.retry_after(part)
        return f"{self._names[part.policy]};r={part.remaining}" + (f";t={wait}" if wait else "")


class SuspendedSet:
    """What stands in for the limiter of a plan that is suspended: its quota is 0, and so is what remains.

    Args:
        name: The name of the limit.
    """

    __slots__ = ("policy_field", "rate_limit")

    def __init__(self, name: str) -> None:
        self.policy_field = f"{headers.string(name)};q=0".encode()
        self.rate_limit = f"{headers.string(name)};r=0"

    def rate_limit_field(self, _: Decision) -> str:
        """Return the value of RateLimit."""
        return self.rate_limit


class Limiters:
    """The limiters of an app, which share a store.

    Args:
        store: As for `AsyncLimiter`. A URL is connected to at the first decision.
        on_outage: As for `AsyncLimiter`.
        deadline: As for `AsyncLimiter`, seconds.
        share: As for `AsyncLimiter`.
        enabled: As for `AsyncLimiter`.
        on_event: As for `AsyncLimiter`.

    Raises:
        InvalidStore: Neither a store nor the URL of one.
        InvalidPolicy: Another argument is invalid.

    Attributes:
        store: The store that they count in now.
        where: Where they count by themselves; see `Resolved`.
        on_outage: As given.
        are_on: Whether any limits are on; of the class, see `switch`.
    """

    are_on: ClassVar[bool] = True
    _living: ClassVar[WeakSet[Limiters]] = WeakSet()

    def __init__(
        self,
        store: AsyncStore | MemoryStore | str | None,
        *,
        on_outage: OnOutage,
        deadline: float,
        share: float | None = None,
        enabled: bool = True,
        on_event: Callable[[StoreEvent], object] | None = None,
    ) -> None:
        resolved = own_async(store, max(checked_deadline(deadline), TIMEOUT))
        self.store: AsyncStore = resolved.store
        self.where = resolved.where
        self._own = resolved.store
        self._sets: OrderedDict[int, tuple[tuple[Policy, ...], LimiterOfSet]] = OrderedDict()
        self.on_outage: OnOutage = on_outage
        self._owned = resolved.owned
        self._options = {"on_outage": on_outage, "deadline": deadline, "share": share}
        self.enabled = enabled
        self._on_event = on_event
        self._outages = self._listening()
        self._living.add(self)
        stand_in = stood_in_for(self.where)
        if stand_in is not None:
            self.count_in(stand_in)

    def _listening(self) -> Outages:
        """Return what listens to the store, for all of them."""
        return Outages(self.on_outage, self._options["share"], self._on_event, self.store)  # type: ignore[arg-type]

    @classmethod
    def living(cls) -> list[Limiters]:
        """Return those of all apps."""
        return list(cls._living)

    @classmethod
    def switch(cls, are_on: bool) -> None:
        """Switch the limits of all apps off, whatever they say themselves, or on again. For tests."""
        cls.are_on = are_on
        for each in cls.living():
            each.enabled = each.enabled

    def count_in(self, store: MemoryStore | None) -> None:
        """Count in another store from now on, with fresh limiters; None for the own one, as it was. For tests."""
        self.store = self._own if store is None else own_async(store, TIMEOUT).store
        self._sets.clear()
        self._outages = self._listening()

    @property
    def enabled(self) -> bool:
        """Whether requests are limited; see `AsyncLimiter`."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if not isinstance(enabled, bool):
            raise InvalidPolicy(f"enabled must be True or False, got {short_repr(enabled)}")
        self._enabled = enabled
        for _, each in self._sets.values():
            each.limiter.enabled = self.is_on

    @property
    def is_on(self) -> bool:
        """Whether requests are limited now: enabled, and not switched off with those of all apps."""
        return self._enabled and self.are_on

    def of(self, policies: tuple[Policy, ...], waiting: int | None = None) -> LimiterOfSet:
        """Return the limiter of a set of policies: of the same tuple the same one.

        Args:
            policies: The policies.
            waiting: How many may wait under them, if any may.
        """
        known = self._sets.get(id(policies))
        if known is not None:
            return known[1]
        most = waiting or MAX_WAITING
        limiter = AsyncLimiter(*policies, store=self.store, enabled=self.is_on, max_waiting=most, **self._options)  # type: ignore[arg-type]
        made = LimiterOfSet(limiter, can_settle=hasattr(self.store, "settle"))
        if len(self._sets) >= MOST_SETS:
            self._sets.popitem(last=False)
        self._sets[id(policies)] = policies, made  # with the tuple: no other one can have its id meanwhile
        return made

    async def aclose(self) -> None:
        """Close the store, if it was made here. The next decision opens it again."""
        if self._owned:
            await self._own.aclose()


def field_list(answers: Sequence[tuple[LimiterOfSet | SuspendedSet, Decision]], sets: tuple[FieldSet, ...]) -> Fields:
    """Return the fields that tell a client its limits, from all that was decided for its request.

    If nothing was limited there are none: a client is not shown limits that do not apply to it.
    """
    limited = [pair for pair in answers if pair[1].source != "bypass"]
    if not limited or not sets:
        return []
    fields: Fields = []
    if len(limited) == 1:
        each, decision = limited[0]
        policies, values = each.policy_field, each.rate_limit_field(decision)
    else:
        limited.sort(key=lambda pair: (pair[1].allowed, pair[1].remaining))  # the one that decides first
        decision = limited[0][1]
        policies = b", ".join([each.policy_field for each, _ in limited])
        values = ", ".join([each.rate_limit_field(decision) for each, decision in limited])
    if "RateLimit" in sets:
        fields += [(b"ratelimit-policy", policies), (b"ratelimit", values.encode())]
    if "X-RateLimit" in sets:
        fields += [
            (b"x-ratelimit-limit", b"%d" % decision.limit),
            (b"x-ratelimit-remaining", b"%d" % decision.remaining),
            (b"x-ratelimit-reset", b"%d" % math.ceil(_reset(decision))),
        ]
    return fields


def _reset(decision: Decision) -> float:
    return decision.reset_after if decision.allowed or math.isinf(decision.retry_after) else decision.retry_after
