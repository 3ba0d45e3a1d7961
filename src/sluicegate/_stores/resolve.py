"""From what a user gives as a store to a store: itself, the one that a URL names, or one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from sluicegate._core.errors import InvalidStore
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter
from sluicegate._stores.base import Answer, AsyncStore, Request, Store
from sluicegate._stores.memory.store import MemoryStore

_SCHEMES = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_EXPECTED = (
    "a MemoryStore, RedisStore or AsyncRedisStore, or a URL that begins with redis://, rediss://, unix://, "
    "valkey://, valkeys:// or memory://"
)


_Store = TypeVar("_Store", Store, AsyncStore)


class _Address:
    """Where the stores of one URL count: one object for all of them, for as long as one of them is in use."""


_addresses: WeakValueDictionary[str, _Address] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Opened(Generic[_Store]):
    """A store, whether it was made here, and where it counts: two of the same ``where`` share their counters."""

    store: _Store
    owned: bool
    where: object


def open_store(store: Store | str | None) -> Opened[Store]:
    """Return the store itself, or a new one.

    Raises:
        InvalidStore: It is none, or one to be awaited.
    """
    if store is None or store == "memory://":
        made = MemoryStore()
        return Opened(made, True, made)
    if isinstance(store, str):
        from sluicegate._stores.redis.store import RedisStore

        return Opened(RedisStore.from_url(_driver_url(store)), True, _address(store))
    _refuse_stranger(store)
    if hasattr(store, "aclose"):
        raise InvalidStore(f"store is to be awaited: give it to an AsyncLimiter, got {_kind(store)}", store=store)
    return Opened(store, False, store)


def open_async_store(store: AsyncStore | MemoryStore | str | None) -> Opened[AsyncStore]:
    """Return a store to be awaited.

    Raises:
        InvalidStore: It is none, or one that would block the event loop.
    """
    if store is None or store == "memory://":
        made = MemoryStore()
        return Opened(_Awaited(made), True, made)
    if isinstance(store, MemoryStore):
        return Opened(_Awaited(store), False, store)
    if isinstance(store, str):
        from sluicegate._stores.redis.store import AsyncRedisStore

        return Opened(AsyncRedisStore.from_url(_driver_url(store)), True, _address(store))
    _refuse_stranger(store)
    if not hasattr(store, "aclose"):
        raise InvalidStore(
            f"store would block the event loop: give an AsyncLimiter an AsyncRedisStore, got {_kind(store)}",
            store=store,
        )
    return Opened(store, False, store)


def _refuse_stranger(store: object) -> None:
    if hasattr(store, "connection_pool"):
        raise InvalidStore(
            f"store must be {_EXPECTED}, got {_kind(store)}: wrap the client, RedisStore(client) or "
            f"AsyncRedisStore(client)",
            store=store,
        )
    if isinstance(store, type) or not hasattr(store, "decide"):
        raise InvalidStore(f"store must be {_EXPECTED}, got {_kind(store)}", store=store)


def _kind(store: object) -> str:
    """Name what came by its type: what it would say of itself may hold a password."""
    return f"the class {store.__name__}" if isinstance(store, type) else f"one of type {type(store).__name__}"


def _address(url: str) -> _Address:
    return _addresses.setdefault(url, _Address())


class _Awaited:
    """A memory store for tasks. It is never waited for, so awaiting it does not give way to other tasks."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        return self._store.decide(requests, charging=charging)

    def bind(self, policy: Policy, request: Callable[[Any, Any], Request]) -> Callable[..., Awaitable[bool]]:
        allow = self._store.bind(policy, request)

        async def awaited(key: str, cost: int = 1) -> bool:
            return allow(key, cost)

        return awaited

    async def forget(self, counters: Sequence[Counter]) -> None:
        self._store.forget(counters)

    async def block(self, counters: Sequence[Counter], span_us: int) -> None:
        self._store.block(counters, span_us)

    async def aclose(self) -> None:
        self._store.close()


def _driver_url(url: str) -> str:
    """Return the URL in the driver's own words. No message quotes it: any part of it may be a password's."""
    scheme, _, rest = url.partition("://")
    if not rest or scheme not in _SCHEMES:
        came = "other text"
        if scheme in _SCHEMES and "://" in url:
            lacks = (
                "path, as in unix:///run/redis.sock" if scheme == "unix" else f"host, as in {scheme}://localhost:6379/0"
            )
            came = f"{scheme}:// and no more: it lacks a {lacks}"
        elif rest and scheme.isalnum() and len(scheme) < 20:
            came = f"one that begins with {scheme}://"
        raise InvalidStore(f"store must be {_EXPECTED}, got {came}", store=url)
    return f"{_SCHEMES[scheme]}://{rest}"
