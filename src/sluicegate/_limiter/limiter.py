"""Limiters: policies and the store their counters live in. What both forms share is in `_Base`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from sluicegate._core.decision import Decision, Source, Verdict, decision_of
from sluicegate._core.errors import InvalidKey, InvalidPolicy, InvalidSpan, short_repr
from sluicegate._core.keys import Key
from sluicegate._core.policy import MAX_WINDOW_US, Policy
from sluicegate._core.request import Counter
from sluicegate._limiter import registry as clashes
from sluicegate._limiter.exempt import Exempt, exemption
from sluicegate._limiter.policies import Cost, Policies
from sluicegate._stores.base import Answer, AsyncStore, Remembered, Request, Store
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork
from sluicegate._stores.resolve import Opened, open_async_store, open_store

if TYPE_CHECKING:
    from sluicegate._limiter.limits import Limit, Limits

LIMITS_TTL = 10.0
"""Seconds for which an answer of ``limits`` is kept, unless it is said otherwise."""

_Store = TypeVar("_Store", Store, AsyncStore)


class _Base(ProcessLocal, Generic[_Store]):
    """The body that both limiters share: from a key and a cost to a request, and from its answer to a decision."""

    _verbs: ClassVar[tuple[object, object]]  # as they are here: one that was overridden or patched is asked
    allow: Callable[..., Any]
    take: Callable[..., Any]

    def __init__(
        self,
        policies: Policies,
        opened: Opened[_Store],
        limits: Limits | None,
        exempt: Exempt | None,
        enabled: bool,
    ) -> None:
        self._policies = policies
        self._limits = limits
        self._exempt = exemption(exempt, policies.attributes)
        self._enabled = _checked_switch(enabled)
        self._store: _Store = opened.store
        self._owned = opened.owned
        clashes.enter(policies.all, opened.where)
        self._where: object | None = opened.where

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that a request has to pass."""
        return self._policies.all

    @property
    def enabled(self) -> bool:
        """Whether requests are limited. Off, all are allowed and nothing is counted; it may be switched at any time.

        Ask for ``limiter.allow`` anew after that: one that was kept goes on as it was.
        """
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._enabled = _checked_switch(on)
        self._bind()

    def _bind(self) -> None:
        """Let ``allow`` be the store's own way to it where there is one, which makes no decision."""
        vars(self).pop("allow", None)
        plain = self._policies.plain if self._enabled and self._limits is None and self._exempt is None else None
        bind = getattr(type(self._store), "bind", None)  # not one that a wrapper hands on: it would be passed by
        own = type(self)
        if plain and bind and (own.allow, own.take) == self._verbs:
            bound = bind(self._store, plain, self._policies.request)
            if bound is not None:
                self.allow = update_wrapper(bound, own.allow)
                del bound.__wrapped__  # or its signature would be told with a self

    def _blockable(self, key: Key) -> Sequence[Counter]:
        counters = self._policies.counters(key)
        if not counters:
            raise InvalidKey("no policy of this limiter counts by a key: all are shared, and cannot be under a block")
        return counters

    def _passes(self, key: Key) -> bool:
        return not self._enabled or (self._exempt is not None and self._exempt(key))

    def _passed(self, request: Request) -> Decision:
        """Return the decision on a request that is not limited: as if its keys had never been used."""
        return self._decision(request, [Verdict(True, policy.burst, 0, 0) for policy, _, _ in request], "bypass")

    def _decision(self, request: Request, answer: Answer, source: Source = "store") -> Decision:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Remembered):
            source = "denial-cache"
        limits = self._policies.limits if self._limits is None else [policy.limit for policy, _, _ in request]
        return decision_of(self._policies.names, limits, answer, source)

    def _leave(self) -> None:
        if self._where is not None:
            clashes.leave(self._policies.all, self._where)
            self._where = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._policies.all))})"


class Limiter(_Base[Store]):
    """Decides requests for threads, counted in memory or in a store that a fleet shares.

    Args:
        policies: What is allowed: one policy or several, which are then decided together, all or nothing; or rate
            strings such as ``"100/hour;3/minute"``, each of which stands for a `SlidingWindow`.
        store: A store; the URL of one (``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``memory://``); or
            nothing, for a `MemoryStore` of its own. The limiter closes only a store that it made.
        limits: A function that gets the key as it was given and returns its limit, or for several policies a mapping
            from their names; None for the policies' own. It may change at any time: the history stays.
        limits_ttl: Seconds for which an answer of ``limits`` is kept, 0 to 86 400; at most 10 000 keys are.
        exempt: Keys that are never limited: a collection of them; for keys with attributes a mapping from an attribute
            to a collection of its values; or a function of a key. It is asked each time, so it may change.
        enabled: False for a limiter that allows all and counts nothing, as for tests. See the attribute.

    Raises:
        InvalidPolicy: No policy; two of one name; one without a name that differs from another on this store only in
            its limit; or ``limits`` or ``exempt`` is not what it should be.
        InvalidRate: A rate string does not parse.
        InvalidStore: Neither a store nor the URL of one.
    """

    def __init__(
        self,
        *policies: Policy | str,
        store: Store | str | None = None,
        limits: Callable[[Any], Limit] | None = None,
        limits_ttl: float = LIMITS_TTL,
        exempt: Exempt | None = None,
        enabled: bool = True,
    ) -> None:
        decided = Policies(policies)
        kept = _kept(limits, decided.names, limits_ttl, asynchronous=False)
        super().__init__(decided, open_store(store), kept, exempt, enabled)
        self._bind()

    def allow(self, key: Key, cost: Cost = 1) -> bool:
        """Take ``cost`` units for ``key`` if there is room. True when they were taken; a denial takes nothing.

        Args:
            key: Who asks: any text; for policies with ``per`` a mapping with exactly the attributes they count by.
            cost: Units to take, a whole number from 1 to 10^11; or a mapping from names of policies to theirs, where
                one that is not in it takes 1. Above the burst (of most policies the limit) it is always denied.

        Raises:
            InvalidKey: The key is no text, has a lone surrogate, or lacks what a policy counts by. Nothing was taken.
            InvalidCost: The cost is no whole number from 1 to 10^11, or for no policy. Nothing was taken.
            StoreUnavailable: The store could not be asked. Nothing was taken.
            StoreTimeout: The answer was lost. The cost may have been taken.
        """
        return self.take(key, cost).allowed

    def take(self, key: Key, cost: Cost = 1) -> Decision:
        """Do as `allow` does, and return the whole decision."""
        return self._ask(key, cost, charging=True)

    def peek(self, key: Key, cost: Cost = 1) -> Decision:
        """Say what `take` would decide now, and take nothing: ``remaining`` and ``reset_after`` are those of now."""
        return self._ask(key, cost, charging=False)

    def forget(self, key: Key) -> None:
        """Drop what was counted for ``key``, and blocks on it: its whole limit is free again, for all who share it.

        Every counter that the key names is dropped: with the mapping that `take` was given the tenant's, too, and not
        only the user's. So name a part of the attributes, ``{"user": "alice"}``. What a shared policy counted is never
        dropped.
        """
        self._store.forget(self._policies.counters(key))

    def block(self, key: Key, seconds: float | timedelta) -> None:
        """Deny all requests of ``key`` for a while, for all who share the store. What was counted stays.

        Every counter that the key names is under the block: with the mapping that `take` was given the tenant's, too,
        and so every user of it. So name a part of the attributes: ``{"user": "mallory"}`` is denied wherever a policy
        counts by the user. A shared policy is never under a block.

        Args:
            key: See `allow`; or a part of it.
            seconds: From now, by the store's clock, in place of any block before; up to ten years. 0 ends a block.

        Raises:
            InvalidSpan: It is no number of seconds from 0 to ten years. Nothing was changed.
            InvalidKey: See `allow`; or no policy counts by it alone.
            StoreUnavailable: The store could not be asked, nothing was changed; or a counter holds something else on
                the server, and the others are under the block.
            StoreTimeout: The answer was lost. The block may be on.
        """
        self._store.block(self._blockable(key), _span_us(seconds))

    def close(self) -> None:
        """Close the store, if this limiter made it. Do not use the limiter any more."""
        self._leave()
        if self._owned:
            self._store.close()

    def _ask(self, key: Key, cost: Cost, *, charging: bool) -> Decision:
        request = self._policies.request(key, cost)
        if self._passes(key):
            return self._passed(request)
        if self._limits is not None:
            request = self._policies.limited(request, self._limits.of(key))
        return self._decision(request, self._store.decide((request,), charging=charging)[0])

    _verbs = (allow, take)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLimiter(_Base[AsyncStore]):
    """Decides requests for tasks: the verbs of `Limiter`, awaited. Over a `MemoryStore` it never waits.

    Args:
        policies: See `Limiter`.
        store: An awaited store, a `MemoryStore`, a URL as for `Limiter`, or nothing for a `MemoryStore` of its own.
        limits: See `Limiter`; it may be async. Tasks that wait for one key's answer share one call.
        limits_ttl: See `Limiter`.
        exempt: See `Limiter`.
        enabled: See `Limiter`.

    Raises:
        InvalidPolicy: As for `Limiter`.
        InvalidRate: As for `Limiter`.
        InvalidStore: Neither a store nor the URL of one; or one that would block the event loop.
    """

    def __init__(
        self,
        *policies: Policy | str,
        store: AsyncStore | MemoryStore | str | None = None,
        limits: Callable[[Any], Limit | Awaitable[Limit]] | None = None,
        limits_ttl: float = LIMITS_TTL,
        exempt: Exempt | None = None,
        enabled: bool = True,
    ) -> None:
        decided = Policies(policies)
        kept = _kept(limits, decided.names, limits_ttl, asynchronous=True)
        super().__init__(decided, open_async_store(store), kept, exempt, enabled)
        self._bind()

    async def allow(self, key: Key, cost: Cost = 1) -> bool:
        """See `Limiter.allow`. Cancelled after it was sent, the cost may have been taken."""
        return (await self.take(key, cost)).allowed

    async def take(self, key: Key, cost: Cost = 1) -> Decision:
        """See `Limiter.take`."""
        return await self._ask(key, cost, charging=True)

    async def peek(self, key: Key, cost: Cost = 1) -> Decision:
        """See `Limiter.peek`."""
        return await self._ask(key, cost, charging=False)

    async def forget(self, key: Key) -> None:
        """See `Limiter.forget`."""
        await self._store.forget(self._policies.counters(key))

    async def block(self, key: Key, seconds: float | timedelta) -> None:
        """See `Limiter.block`."""
        await self._store.block(self._blockable(key), _span_us(seconds))

    async def aclose(self) -> None:
        """See `Limiter.close`."""
        self._leave()
        if self._owned:
            await self._store.aclose()

    async def _ask(self, key: Key, cost: Cost, *, charging: bool) -> Decision:
        request = self._policies.request(key, cost)
        if self._passes(key):
            return self._passed(request)
        if self._limits is not None:
            request = self._policies.limited(request, await self._limits.of_awaited(key))
        return self._decision(request, (await self._store.decide((request,), charging=charging))[0])

    _verbs = (allow, take)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _kept(function: Any, names: tuple[str, ...], ttl: float, *, asynchronous: bool) -> Limits | None:
    if function is None:
        return None
    from sluicegate._limiter.limits import (
        Limits,  # which needs asyncio: a third of the time to import all of this package
    )

    limits = Limits(function, names=names, ttl=ttl, asynchronous=asynchronous)
    renew_after_fork(limits)
    return limits


def _checked_switch(on: bool) -> bool:
    if not isinstance(on, bool):
        raise InvalidPolicy(f"enabled must be True or False, got {short_repr(on)}")
    return on


def _span_us(seconds: float | timedelta) -> int:
    span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    # Compared before it is multiplied: NaN fails it, and an int too large for a float is no matter.
    if isinstance(span, bool) or not isinstance(span, (int, float)) or not 0 <= span <= MAX_WINDOW_US // 1_000_000:
        raise InvalidSpan(
            f"seconds must be a number (or a timedelta) from 0 to {MAX_WINDOW_US // 1_000_000} (ten years), got "
            f"{short_repr(seconds)}",
            span=seconds,
        )
    return max(round(span * 1_000_000), 1) if span else 0
