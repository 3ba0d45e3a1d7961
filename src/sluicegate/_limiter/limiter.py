"""Limiters: the public verbs, for threads and for tasks, over one plan and one store.

The two classes have the same body, one call of the store apart: the `Plan` makes the request, the store answers it, and
the plan makes the decision.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sluicegate._core.decision import Decision, Verdict
from sluicegate._core.errors import InvalidSpan, StoreError, short_repr
from sluicegate._core.event import StoreEvent
from sluicegate._core.instead import explained
from sluicegate._core.keys import NO_KEY, Key
from sluicegate._core.policies import Cost, Policies
from sluicegate._core.policy import MAX_WINDOW_US, Policy
from sluicegate._core.request import Request
from sluicegate._limiter import registry
from sluicegate._limiter.exempt import Exempt
from sluicegate._limiter.outages import DEADLINE, OnOutage, Outages, checked_deadline
from sluicegate._limiter.plan import Plan
from sluicegate._limiter.statistics import Statistics
from sluicegate._stores.base import TIMEOUT, AsyncStore, Store
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.fast_sliding_window import FastAllow
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork
from sluicegate._stores.resolve import Resolved, resolve, resolve_async

if TYPE_CHECKING:
    from sluicegate._limiter.limits import Limit, Limits

LIMITS_TTL = 10.0
"""Seconds for which an answer of ``limits`` is kept by default."""

_Store = TypeVar("_Store", Store, AsyncStore)
_Outcome = TypeVar("_Outcome")
_Finish = Callable[[Request, list[Verdict]], _Outcome]


class _Base(ProcessLocal, Generic[_Store]):
    """What both limiters share."""

    def __init__(self, policies: Policies, resolved: Resolved[_Store], plan: Plan) -> None:
        self._store: _Store = resolved.store
        self._owned = resolved.owned
        self._plan = plan
        self._fast = _fast_path(plan, resolved.store)
        self._denial_check = _denial_check(plan, resolved.store)
        self._choose_path()
        self._where = resolved.where
        self._unregister = registry.register(self, policies.all, resolved.where, alone=resolved.owned)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that a request has to pass."""
        return self._plan.policies.all

    @property
    def enabled(self) -> bool:
        """Whether requests are limited. While False, every request is allowed and nothing is counted by any policy."""
        return self._plan.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._plan.enabled = enabled
        self._choose_path()

    def statistics(self) -> Statistics:
        """Return what this limiter has decided since it was made: a frozen snapshot of its counters."""
        return self._plan.statistics((0, 0) if self._fast is None else self._fast.counts())

    def _choose_path(self) -> None:
        """Let ``allow`` take a shorter way if there is one and the plan has nothing else to do."""
        is_direct = self._plan.is_direct
        self._fast_allow = self._fast.allow if self._fast is not None and is_direct else None
        self._is_denied = self._denial_check if is_direct else None

    def _open(self) -> None:
        """Open the limiter again, if it is closed. Raises `InvalidPolicy` as making it would."""
        if not self._plan.is_open:
            self._unregister = registry.register(self, self._plan.policies.all, self._where)
            self._plan.is_open = True
            self._choose_path()

    def _end(self) -> None:
        """Let every verb raise `LimiterClosed` from now on."""
        self._unregister()
        self._plan.is_open = False
        self._choose_path()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.policies))})"


class Limiter(_Base[Store]):
    """Limits the requests of threads, counted in memory or in a store that a fleet shares.

    Args:
        policies: What is allowed: one policy or several, which are then decided together, all or nothing. Rate strings
            work, too: ``"100/hour;3/minute"`` is two `SlidingWindow`.
        store: A store; the URL of one (``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``memory://``); or None
            for a `MemoryStore` of its own. The limiter closes only a store that it made.
        limits: A function of a key, as the caller gave it, that returns the key's limit, or for several policies a
            mapping from policy names to limits; None keeps the policies' own. Answers may change at any time: what was
            counted stays.
        limits_ttl: Seconds for which an answer of ``limits`` is kept, 0 to 86 400, for at most 10 000 keys.
        exempt: Keys that are never limited: a collection of keys; for keys with attributes a mapping from an attribute
            to a collection of its values; or a function of a key. It is looked into at every call.
        enabled: False allows every request and counts nothing, in tests for example. See the attribute.
        on_outage: What to answer while the store is down or slow: ``"local"`` decides in memory, on this instance's
            share of the limit; ``"open"`` allows everything; ``"closed"`` denies everything; ``"raise"`` raises the
            `StoreError`. Errors of configuration, such as a wrong password, are raised in any case until the store has
            answered once.
        deadline: Seconds within which every decision is made, above 0, at most 3600: waiting in the queue, connecting,
            and the call. A store of your own waits for no longer than its own time-out, either. What ``limits`` takes
            is not part of it.
        share: For ``"local"``: a fixed share of every limit, above 0, at most 1, in place of one by the number of
            instances that the store last saw.
        on_event: Called with a `StoreEvent` when the store goes down, is up again, or has lost counters. It runs in the
            middle of a decision or a probe, so it must be quick and synchronous. Exceptions that it raises are logged.

    Raises:
        InvalidPolicy: No policy; two with one name; one that would share a counter by accident with another one on this
            store; or another argument is invalid.
        InvalidRate: A rate string does not parse.
        InvalidStore: Neither a store nor the URL of one, or an async store.
    """

    @explained
    def __init__(
        self,
        *policies: Policy | str,
        store: Store | str | None = None,
        limits: Callable[[Any], Limit] | None = None,
        limits_ttl: float = LIMITS_TTL,
        exempt: Exempt | None = None,
        enabled: bool = True,
        on_outage: OnOutage = "local",
        deadline: float = DEADLINE,
        share: float | None = None,
        on_event: Callable[[StoreEvent], object] | None = None,
    ) -> None:
        checked = Policies(policies)
        by_key = _limits(limits, checked.names, limits_ttl, asynchronous=False)
        within = checked_deadline(deadline)
        resolved = resolve(store, max(within, TIMEOUT))
        outages = Outages(on_outage, share, on_event, resolved.store)
        super().__init__(checked, resolved, Plan(checked, by_key, exempt, enabled, outages, within))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if _overrides_take_alone(cls, Limiter):

            def allow(self: Limiter, key: Key = NO_KEY, cost: Cost = 1) -> bool:
                return self.take(key, cost).allowed

            cls.allow = allow  # type: ignore[method-assign]

    def allow(self, key: Key = NO_KEY, cost: Cost = 1) -> bool:
        """Take ``cost`` units for ``key`` if there is room. Returns True if they were taken; a denial takes nothing.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11; or a mapping from policy names to such numbers, where a
                policy that is not in it takes 1. A cost above a policy's burst (usually its limit) is always denied.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many. Nothing was
                taken.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit. Nothing was taken. (Whatever ``limits`` and ``exempt``
                raise propagates.)
            StoreError: Only with ``on_outage="raise"``, or where the store is not set up right and has never answered:
                `StoreUnavailable` if nothing was taken, `StoreTimeout` if the cost may have been taken.
        """
        fast_allow = self._fast_allow
        if fast_allow is not None:
            return fast_allow(key, cost)
        is_denied = self._is_denied
        if is_denied is not None and is_denied(key, cost):
            return False
        return self._ask(key, cost, True, self._plan.outcome)

    def take(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        """Take ``cost`` units for ``key`` if there is room, and return the whole decision; it is true if allowed.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many. Nothing was
                taken.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit. Nothing was taken. (Whatever ``limits`` and ``exempt``
                raise propagates.)
            StoreError: Only with ``on_outage="raise"``, or where the store is not set up right and has never answered:
                `StoreUnavailable` if nothing was taken, `StoreTimeout` if the cost may have been taken.
        """
        return self._ask(key, cost, True, self._plan.decision)

    def peek(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        """Return what `take` would decide now, and take nothing.

        ``remaining`` and ``reset_after`` are those of now: nothing has been taken from them.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to ask for, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy.
            InvalidPolicy: ``limits`` returned an invalid limit. (What ``limits`` and ``exempt`` raise propagates.)
            StoreError: As for `take`.
        """
        return self._ask(key, cost, False, self._plan.decision)

    def forget(self, key: Key) -> None:
        """Drop what was counted for ``key``, and any block on it: its whole limit is free again, on all instances.

        Every counter that the key names is dropped: with the mapping that `take` was given, the tenant's as well as the
        user's. To drop fewer, name a part of the attributes, ``{"user": "alice"}``. Shared policies are never dropped.

        Args:
            key: A key, or a part of its attributes.

        Raises:
            InvalidKey: The key is not text, or no policy counts by its attributes alone.
            StoreError: The store could not be reached, refused, or did not answer in time; whatever ``on_outage`` says.
                What this instance counts in outages is dropped all the same.
        """
        counters = self._plan.forget(key)
        self._store.forget(counters)
        self._plan.forget(key)  # again: replies that were on their way may have said how much was used

    def block(self, key: Key, seconds: float | timedelta) -> None:
        """Deny every request of ``key`` for a while, on all instances. What was counted stays.

        Every counter that the key names is blocked: with the mapping that `take` was given, the tenant's as well, and
        so all of its users. To block fewer, name a part of the attributes: ``{"user": "mallory"}`` is denied wherever a
        policy counts by the user. A shared policy is never blocked.

        Args:
            key: A key, or a part of its attributes.
            seconds: From now, by the store's clock, in place of any block before; up to ten years. 0 lifts a block.

        Raises:
            InvalidSpan: ``seconds`` is not from 0 to ten years. Nothing was changed.
            InvalidKey: The key is not text, or no policy counts by its attributes alone. Nothing was changed.
            StoreUnavailable: The store could not be reached, or refused: nothing was changed there, whatever
                ``on_outage`` says. Or a counter's key holds something else on the server: the other counters are
                blocked. What this instance decides in outages is blocked all the same.
            StoreTimeout: The store did not answer in time. The block may be in force.
        """
        span_us = _span_us(seconds)
        counters = self._plan.block(key, span_us)
        self._store.block(counters, span_us)

    def close(self) -> None:
        """Close the store, if this limiter made it. Every verb raises `LimiterClosed` until the limiter is entered."""
        self._end()
        if self._owned:
            self._store.close()

    def _ask(self, key: Key, cost: Cost, commit: bool, finish: _Finish[_Outcome]) -> _Outcome:
        plan = self._plan
        request = plan.request(key, cost, commit)
        if not plan.is_direct:
            plan.check_open()
            if plan.is_bypassed(key):
                return finish(request, plan.bypass(request))
            if plan.limits is not None:
                request = plan.with_limits(request, plan.limits.of(key))
                if plan.is_suspended(request):
                    return finish(request, plan.suspension(request))
        try:
            verdicts = self._store.decide(request)
        except StoreError as error:
            verdicts = plan.without_store(request, error)
        return finish(request, verdicts)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLimiter(_Base[AsyncStore]):
    """Limits the requests of asyncio tasks, counted in memory or in a store that a fleet shares.

    The verbs are those of `Limiter`, awaited. Over a `MemoryStore` they never wait, so they do not let other tasks run.

    Args:
        policies: What is allowed: one policy or several, which are then decided together, all or nothing. Rate strings
            work, too: ``"100/hour;3/minute"`` is two `SlidingWindow`.
        store: An async store, or a `MemoryStore`; the URL of one (``redis://``, ``rediss://``, ``unix://``,
            ``valkey://``, ``memory://``); or None for a `MemoryStore` of its own. The limiter closes only a store that
            it made.
        limits: A function of a key, as the caller gave it, that returns the key's limit, or for several policies a
            mapping from policy names to limits; None keeps the policies' own. It may be async; tasks that wait for the
            answer for one key share one call. One that is not async holds up the event loop while it runs.
        limits_ttl: Seconds for which an answer of ``limits`` is kept, 0 to 86 400, for at most 10 000 keys.
        exempt: Keys that are never limited: a collection of keys; for keys with attributes a mapping from an attribute
            to a collection of its values; or a function of a key. It is looked into at every call.
        enabled: False allows every request and counts nothing, in tests for example. See the attribute.
        on_outage: What to answer while the store is down or slow: ``"local"`` decides in memory, on this instance's
            share of the limit; ``"open"`` allows everything; ``"closed"`` denies everything; ``"raise"`` raises the
            `StoreError`. Errors of configuration, such as a wrong password, are raised in any case until the store has
            answered once.
        deadline: Seconds within which every decision is made, above 0, at most 3600: waiting in the queue, connecting,
            and the call. A store of your own waits for no longer than its own time-out, either. What ``limits`` takes
            is not part of it.
        share: For ``"local"``: a fixed share of every limit, above 0, at most 1, in place of one by the number of
            instances that the store last saw.
        on_event: Called with a `StoreEvent` when the store goes down, is up again, or has lost counters. It runs in the
            middle of a decision or a probe, so it must be quick and synchronous. Exceptions that it raises are logged.

    Raises:
        InvalidPolicy: No policy; two with one name; one that would share a counter by accident with another one on this
            store; or another argument is invalid.
        InvalidRate: A rate string does not parse.
        InvalidStore: Neither a store nor the URL of one, or a store that would block the event loop.
    """

    @explained
    def __init__(
        self,
        *policies: Policy | str,
        store: AsyncStore | MemoryStore | str | None = None,
        limits: Callable[[Any], Limit | Awaitable[Limit]] | None = None,
        limits_ttl: float = LIMITS_TTL,
        exempt: Exempt | None = None,
        enabled: bool = True,
        on_outage: OnOutage = "local",
        deadline: float = DEADLINE,
        share: float | None = None,
        on_event: Callable[[StoreEvent], object] | None = None,
    ) -> None:
        checked = Policies(policies)
        by_key = _limits(limits, checked.names, limits_ttl, asynchronous=True)
        within = checked_deadline(deadline)
        resolved = resolve_async(store, max(within, TIMEOUT))
        outages = Outages(on_outage, share, on_event, resolved.store)
        super().__init__(checked, resolved, Plan(checked, by_key, exempt, enabled, outages, within))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if _overrides_take_alone(cls, AsyncLimiter):

            async def allow(self: AsyncLimiter, key: Key = NO_KEY, cost: Cost = 1) -> bool:
                return (await self.take(key, cost)).allowed

            cls.allow = allow  # type: ignore[method-assign]

    async def allow(self, key: Key = NO_KEY, cost: Cost = 1) -> bool:
        """Take ``cost`` units for ``key`` if there is room. Returns True if they were taken; a denial takes nothing.

        A task that is cancelled while its request is queued takes nothing; once it was sent, the cost may be taken.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11; or a mapping from policy names to such numbers, where a
                policy that is not in it takes 1. A cost above a policy's burst (usually its limit) is always denied.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many. Nothing was
                taken.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit. Nothing was taken. (Whatever ``limits`` and ``exempt``
                raise propagates.)
            StoreError: Only with ``on_outage="raise"``, or where the store is not set up right and has never answered:
                `StoreUnavailable` if nothing was taken, `StoreTimeout` if the cost may have been taken.
        """
        fast_allow = self._fast_allow
        if fast_allow is not None:
            return fast_allow(key, cost)
        is_denied = self._is_denied
        if is_denied is not None and is_denied(key, cost):
            return False
        return await self._ask(key, cost, True, self._plan.outcome)

    async def take(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        """Take ``cost`` units for ``key`` if there is room, and return the whole decision; it is true if allowed.

        A task that is cancelled while its request is queued takes nothing; once it was sent, the cost may be taken.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many. Nothing was
                taken.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit. Nothing was taken. (Whatever ``limits`` and ``exempt``
                raise propagates.)
            StoreError: Only with ``on_outage="raise"``, or where the store is not set up right and has never answered:
                `StoreUnavailable` if nothing was taken, `StoreTimeout` if the cost may have been taken.
        """
        return await self._ask(key, cost, True, self._plan.decision)

    async def peek(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        """Return what `take` would decide now, and take nothing.

        ``remaining`` and ``reset_after`` are those of now: nothing has been taken from them.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to ask for, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy.
            InvalidPolicy: ``limits`` returned an invalid limit. (What ``limits`` and ``exempt`` raise propagates.)
            StoreError: As for `take`.
        """
        return await self._ask(key, cost, False, self._plan.decision)

    async def forget(self, key: Key) -> None:
        """Drop what was counted for ``key``, and any block on it: its whole limit is free again, on all instances.

        Every counter that the key names is dropped: with the mapping that `take` was given, the tenant's as well as the
        user's. To drop fewer, name a part of the attributes, ``{"user": "alice"}``. Shared policies are never dropped.

        Args:
            key: A key, or a part of its attributes.

        Raises:
            InvalidKey: The key is not text, or no policy counts by its attributes alone.
            StoreError: The store could not be reached, refused, or did not answer in time; whatever ``on_outage`` says.
                What this instance counts in outages is dropped all the same.
        """
        counters = self._plan.forget(key)
        await self._store.forget(counters)
        self._plan.forget(key)  # again: replies that were on their way may have said how much was used

    async def block(self, key: Key, seconds: float | timedelta) -> None:
        """Deny every request of ``key`` for a while, on all instances. What was counted stays.

        Every counter that the key names is blocked: with the mapping that `take` was given, the tenant's as well, and
        so all of its users. To block fewer, name a part of the attributes: ``{"user": "mallory"}`` is denied wherever a
        policy counts by the user. A shared policy is never blocked.

        Args:
            key: A key, or a part of its attributes.
            seconds: From now, by the store's clock, in place of any block before; up to ten years. 0 lifts a block.

        Raises:
            InvalidSpan: ``seconds`` is not from 0 to ten years. Nothing was changed.
            InvalidKey: The key is not text, or no policy counts by its attributes alone. Nothing was changed.
            StoreUnavailable: The store could not be reached, or refused: nothing was changed there, whatever
                ``on_outage`` says. Or a counter's key holds something else on the server: the other counters are
                blocked. What this instance decides in outages is blocked all the same.
            StoreTimeout: The store did not answer in time. The block may be in force.
        """
        span_us = _span_us(seconds)
        counters = self._plan.block(key, span_us)
        await self._store.block(counters, span_us)

    async def aclose(self) -> None:
        """Close the store, if this limiter made it. Every verb raises `LimiterClosed` until the limiter is entered."""
        self._end()
        if self._owned:
            await self._store.aclose()

    async def _ask(self, key: Key, cost: Cost, commit: bool, finish: _Finish[_Outcome]) -> _Outcome:
        plan = self._plan
        request = plan.request(key, cost, commit)
        if not plan.is_direct:
            plan.check_open()
            if plan.is_bypassed(key):
                return finish(request, plan.bypass(request))
            if plan.limits is not None:
                request = plan.with_limits(request, await plan.limits.of_awaited(key))
                if plan.is_suspended(request):
                    return finish(request, plan.suspension(request))
        try:
            verdicts = await self._store.decide(request)
        except StoreError as error:
            verdicts = plan.without_store(request, error)
        return finish(request, verdicts)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _overrides_take_alone(cls: type, base: type) -> bool:
    """Return whether a subclass has a ``take`` of its own and the ``allow`` of ``base``, which would bypass it."""

    def owner(verb: str) -> type:
        return next(each for each in cls.__mro__ if verb in vars(each))

    return owner("take") is not base and owner("allow") is base


def _limits(function: Any, names: tuple[str, ...], ttl: float, *, asynchronous: bool) -> Limits | None:
    if function is None:
        return None
    from sluicegate._limiter.limits import Limits  # it needs asyncio: a third of the time to import this package

    limits = Limits(function, names=names, ttl=ttl, asynchronous=asynchronous)
    renew_after_fork(limits)
    return limits


def _fast_path(plan: Plan, store: Store | AsyncStore) -> FastAllow | None:
    """Return the fast path of ``allow`` for a plan that is direct, where there is one."""
    memory = store.store if isinstance(store, AwaitedMemoryStore) else store
    # A subclass of the store may decide in its own way, which the fast path would pass by.
    if plan.policies.only_plain is None or type(memory) is not MemoryStore:
        return None

    def ordinary(key: Key, cost: Cost) -> bool:
        request = plan.request(key, cost, True)
        return plan.outcome(request, memory.decide(request))

    return FastAllow.of(plan.policies.only_plain, memory, ordinary)


def _denial_check(plan: Plan, store: Store | AsyncStore) -> Callable[[Any, Any], bool] | None:
    """Return what tells ``allow`` that a request is remembered to be denied, and counts it, for a plan that is direct.

    A flood of requests that are denied is when a limiter must cost least. Without this, each takes five times as long.
    """
    policy = plan.policies.only_plain
    # The method of the store's own class: a subclass may decide in its own way, which this would pass by.
    denies = vars(type(store)).get("denies")
    if policy is None or denies is None:
        return None
    count = plan.tally.count

    def is_denied(key: Any, cost: Any) -> bool:
        if not denies(store, policy, key, cost):
            return False
        count("denial-cache", False)
        return True

    return is_denied


def _span_us(seconds: float | timedelta) -> int:
    span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    # Compared before it is multiplied: NaN fails the comparison, and an int too large for a float does no harm.
    if isinstance(span, bool) or not isinstance(span, (int, float)) or not 0 <= span <= MAX_WINDOW_US // 1_000_000:
        raise InvalidSpan(
            f"seconds must be a number (or a timedelta) from 0 to {MAX_WINDOW_US // 1_000_000} (ten years), got "
            f"{short_repr(seconds)}",
            span=seconds,
        )
    return max(round(span * 1_000_000), 1) if span else 0
