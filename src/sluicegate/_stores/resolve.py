"""From what a user gives as ``store=`` to a store: the store itself, the one that a URL names, or one in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

from sluicegate._core.errors import InvalidStore
from sluicegate._stores.base import TIMEOUT, AsyncStore, Store
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.urls import EXPECTED

if TYPE_CHECKING:
    from sluicegate._stores.redis.store import AsyncRedisStore, RedisStore

_Store = TypeVar("_Store", Store, AsyncStore)


class _Address:
    """Where the stores of one server count: one object for all of them, for as long as one of them is in use."""


_addresses: WeakValueDictionary[tuple[str, int, int], _Address] = WeakValueDictionary()


stand_in: Callable[[object], MemoryStore] | None = None
"""In a test, gives the store that counts in place of one that counts elsewhere; see `sluicegate.testing`."""


@dataclass(frozen=True, slots=True)
class Resolved(Generic[_Store]):
    """A store, whether it was made here, and where it counts: stores with the same ``where`` share their counters."""

    store: _Store
    owned: bool
    where: object


def open_store(url: str | None = None, *, timeout: float = TIMEOUT) -> Store:
    """Open a store that several limiters can share, for threads.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``valkeys://``, connected to at the first call;
            ``memory://`` or None for a `MemoryStore`.
        timeout: Seconds that a call to a server may last, above 0, at most 3600. The limiters' deadlines are shorter.

    Returns:
        A store that you close yourself (``store.close()``); limiters do not close a store that they are given.

    Raises:
        InvalidStore: The URL cannot be read.
        ValueError: ``timeout`` is outside its range.
    """
    return resolve(_checked_url(url), timeout).store


def open_async_store(url: str | None = None, *, timeout: float = TIMEOUT) -> AsyncStore:
    """Open a store that several limiters can share, for tasks: as `open_store`, closed by ``await store.aclose()``."""
    return resolve_async(_checked_url(url), timeout).store


def resolve(store: Store | str | None, timeout: float) -> Resolved[Store]:
    """Return the store that a `Limiter` was given, or a new one with this time-out.

    Raises:
        InvalidStore: Neither a store nor the URL of one, or an async store.
    """
    resolved = _own(store, timeout)
    made = stood_in_for(resolved.where) if isinstance(resolved.where, _Address) else None
    return resolved if made is None else Resolved(made, False, made)


def _own(store: Store | str | None, timeout: float) -> Resolved[Store]:
    if store is None or store == "memory://":
        made = MemoryStore()
        return Resolved(made, True, made)
    if isinstance(store, str):
        from sluicegate._stores.redis.store import RedisStore

        own = RedisStore.from_url(store, timeout=timeout)
        return Resolved(own, True, _address(own))
    _check_is_store(store)
    if _is_for_tasks(store):
        raise InvalidStore(
            f"store must be one for threads, got {_kind(store)}, which is async: give it to an AsyncLimiter",
            store=store,
        )
    return Resolved(store, False, store)


def resolve_async(store: AsyncStore | MemoryStore | str | None, timeout: float) -> Resolved[AsyncStore]:
    """Return the store that an `AsyncLimiter` was given, or a new one; see `resolve`.

    Raises:
        InvalidStore: Neither a store nor the URL of one, or one that would block the event loop.
    """
    resolved = own_async(store, timeout)
    made = stood_in_for(resolved.where) if isinstance(resolved.where, _Address) else None
    return resolved if made is None else own_async(made, timeout)


def own_async(store: AsyncStore | MemoryStore | str | None, timeout: float) -> Resolved[AsyncStore]:
    """Return it even if another one is to count in its place; see `resolve_async`."""
    if store is None or store == "memory://":
        made = MemoryStore()
        return Resolved(AwaitedMemoryStore(made), True, made)
    if isinstance(store, MemoryStore):
        awaited = store.awaited() if hasattr(store, "awaited") else AwaitedMemoryStore(store)
        return Resolved(awaited, False, store)
    if isinstance(store, str):
        from sluicegate._stores.redis.store import AsyncRedisStore

        own_async = AsyncRedisStore.from_url(store, timeout=timeout)
        return Resolved(own_async, True, _address(own_async))
    _check_is_store(store)
    if not _is_for_tasks(store):
        raise InvalidStore(
            f"store would block the event loop: give an AsyncLimiter an AsyncRedisStore, got {_kind(store)}",
            store=store,
        )
    return Resolved(store, False, store)


def stood_in_for(where: object) -> MemoryStore | None:
    """Return the store that counts in place of one; None outside of tests."""
    return None if stand_in is None else stand_in(where)


def _checked_url(url: str | None) -> str | None:
    if url is not None and not isinstance(url, str):
        raise InvalidStore(f"url must be a str or None, got {_kind(url)}", store=url)
    return url


def _check_is_store(store: object) -> None:
    if hasattr(store, "connection_pool"):
        raise InvalidStore(
            f"store must be {EXPECTED}, got {_kind(store)}: wrap the client, RedisStore(client) or "
            f"AsyncRedisStore(client)",
            store=store,
        )
    if isinstance(store, type) or not hasattr(store, "decide"):
        raise InvalidStore(f"store must be {EXPECTED}, got {_kind(store)}", store=store)


def _is_for_tasks(store: object) -> bool:
    """Return whether tasks use a store. Its ``decide`` tells if it can be closed both ways, as a `MemoryStore` can."""
    return hasattr(store, "aclose") and (
        not hasattr(store, "close") or iscoroutinefunction(store.decide)  # type: ignore[attr-defined]
    )


def _kind(store: object) -> str:
    """Name an object by its type: its repr may hold a password."""
    return f"the class {store.__name__}" if isinstance(store, type) else f"one of type {type(store).__name__}"


def _address(store: RedisStore | AsyncRedisStore) -> _Address:
    from sluicegate._stores.redis.address import server

    return _addresses.setdefault(server(store._client.connection_pool), _Address())  # noqa: SLF001
