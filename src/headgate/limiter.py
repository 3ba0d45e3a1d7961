"""Limiters: a policy and the store its counters live in. What both forms share is in `_Base`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import update_wrapper
from types import TracebackType
from typing import Generic, Self, TypeVar
from weakref import WeakKeyDictionary

from headgate.decision import Decision, decision_of
from headgate.errors import InvalidPolicy, shown
from headgate.keys import checked_key
from headgate.policy import SlidingWindow, checked_cost
from headgate.store import Answer, AsyncStore, Charge, MemoryStore, Request, Store
from headgate.store.opening import Opened, open_async_store, open_store

_Store = TypeVar("_Store", Store, AsyncStore)

_unnamed: WeakKeyDictionary[object, Counter[tuple[str, int]]] = WeakKeyDictionary()
"""Namespace and limit of the policies without a name, by where they count, until their limiters are closed."""


class _Base(Generic[_Store]):
    """The body that both limiters share: from a key and a cost to a request, and from its answer to a decision."""

    def __init__(self, policy: SlidingWindow, opened: Opened[_Store]) -> None:
        self._policy = policy
        self._names, self._limits = (policy.name,), (policy.limit,)
        self._store: _Store = opened.store
        self._owned = opened.owned
        _enter(policy, opened.where)
        self._where: object | None = opened.where

    @property
    def policies(self) -> tuple[SlidingWindow, ...]:
        """The policies that a request has to pass."""
        return (self._policy,)

    def _requests(self, key: str, cost: int) -> list[Request]:
        return [(Charge(self._policy, checked_key(key), checked_cost(cost)),)]

    def _decision(self, answers: Sequence[Answer]) -> Decision:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return decision_of(self._names, self._limits, answer)

    def _leave(self) -> None:
        if self._where is not None:
            _leave(self._policy, self._where)
            self._where = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._policy!r})"


class Limiter(_Base[Store]):
    """Decides requests for threads: one policy, counted in memory or in a store that a fleet shares.

    Args:
        policy: What is allowed.
        store: A store; the URL of one (``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``memory://``); or
            nothing, for a `MemoryStore` of its own. The limiter closes only a store that it made.

    Raises:
        InvalidPolicy: No policy, or one without a name that differs from another on this store only in its limit.
        InvalidStore: Neither a store nor the URL of one.
    """

    def __init__(self, policy: SlidingWindow, *, store: Store | str | None = None) -> None:
        _check_policy(policy)
        super().__init__(policy, open_store(store))
        if type(self._store) is MemoryStore and (type(self).allow, type(self).take) == _VERBS:
            # The same verb, in one step and without a frame of its own: that is a quarter of its time.
            bound = update_wrapper(self._store.bind(policy), Limiter.allow)
            self.allow = bound  # type: ignore[assignment, method-assign]

    def allow(self, key: str, cost: int = 1) -> bool:
        """Take ``cost`` units for ``key`` if there is room. True when they were taken; a denial takes nothing.

        Args:
            key: Who asks: any text.
            cost: Units to take, a whole number from 1 to 10^11. Above the limit it is always denied.

        Raises:
            InvalidKey: The key is no text, or has a lone surrogate. Nothing was taken.
            InvalidCost: The cost is no whole number from 1 to 10^11. Nothing was taken.
            StoreUnavailable: The store could not be asked. Nothing was taken.
            StoreTimeout: The answer was lost. The cost may have been taken.
        """
        return self.take(key, cost).allowed

    def take(self, key: str, cost: int = 1) -> Decision:
        """Do as `allow` does, and return the whole decision."""
        return self._decision(self._store.decide(self._requests(key, cost)))

    def peek(self, key: str, cost: int = 1) -> Decision:
        """Say what `take` would decide now, and take nothing: ``remaining`` and ``reset_after`` are those of now."""
        return self._decision(self._store.decide(self._requests(key, cost), charging=False))

    def forget(self, key: str) -> None:
        """Drop what was counted for ``key``: its whole limit is free again, for all that share the store."""
        self._store.forget(self._policy, checked_key(key))

    def close(self) -> None:
        """Close the store, if this limiter made it. Do not use the limiter any more."""
        self._leave()
        if self._owned:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_VERBS = (Limiter.allow, Limiter.take)  # as they are here: one that was overridden or patched is asked


class AsyncLimiter(_Base[AsyncStore]):
    """Decides requests for tasks: the verbs of `Limiter`, awaited. Over a `MemoryStore` it never waits.

    Args:
        policy: What is allowed.
        store: An awaited store, a `MemoryStore`, a URL as for `Limiter`, or nothing for a `MemoryStore` of its own.

    Raises:
        InvalidPolicy: As for `Limiter`.
        InvalidStore: Neither a store nor the URL of one; or one that would block the event loop.
    """

    def __init__(self, policy: SlidingWindow, *, store: AsyncStore | MemoryStore | str | None = None) -> None:
        _check_policy(policy)
        super().__init__(policy, open_async_store(store))

    async def allow(self, key: str, cost: int = 1) -> bool:
        """See `Limiter.allow`. Cancelled after it was sent, the cost may have been taken."""
        return (await self.take(key, cost)).allowed

    async def take(self, key: str, cost: int = 1) -> Decision:
        """See `Limiter.take`."""
        return self._decision(await self._store.decide(self._requests(key, cost)))

    async def peek(self, key: str, cost: int = 1) -> Decision:
        """See `Limiter.peek`."""
        return self._decision(await self._store.decide(self._requests(key, cost), charging=False))

    async def forget(self, key: str) -> None:
        """See `Limiter.forget`."""
        await self._store.forget(self._policy, checked_key(key))

    async def aclose(self) -> None:
        """See `Limiter.close`."""
        self._leave()
        if self._owned:
            await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _check_policy(policy: SlidingWindow) -> None:
    if not isinstance(policy, SlidingWindow):
        raise InvalidPolicy(f"policy must be one such as SlidingWindow(100, window=60), got {shown(policy)}")


def _enter(policy: SlidingWindow, where: object) -> None:
    """Refuse a policy that would share a counter with another one unseen; else note that it is in use."""
    if policy.named:
        return
    try:
        in_use = _unnamed.setdefault(where, Counter())
    except TypeError:  # a store of the user's own that cannot be referred to weakly
        return
    for namespace, limit in in_use:
        if namespace == policy.namespace and limit != policy.limit:
            raise InvalidPolicy(
                f"two policies without a name on one store, both {policy.name}, with limits {limit} and "
                f"{policy.limit}: they would share one counter; give each a name=, or both the same one if that is "
                f"what you want"
            )
    in_use[policy.namespace, policy.limit] += 1


def _leave(policy: SlidingWindow, where: object) -> None:
    in_use = _unnamed.get(where, Counter())
    in_use.subtract([(policy.namespace, policy.limit)])
    for gone in [each for each, times in in_use.items() if times <= 0]:
        del in_use[gone]
