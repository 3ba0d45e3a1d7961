"""From what a user gives as a store to a store: itself, the one that a URL names, or one in memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from headgate.errors import InvalidStore, shown
from headgate.policy import SlidingWindow
from headgate.store.memory import MemoryStore
from headgate.store.protocol import Answer, AsyncStore, Request, Store

_SCHEMES = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_EXPECTED = "a store, or a URL that begins with redis://, rediss://, unix://, valkey://, valkeys:// or memory://"


def open_store(store: Store | str | None) -> Store:
    """Return the store itself, or a new one.

    Raises:
        InvalidStore: It is none, or one to be awaited.
    """
    if store is None or store == "memory://":
        return MemoryStore()
    if isinstance(store, str):
        from headgate.store.redis import RedisStore

        return RedisStore.from_url(_driver_url(store))
    if hasattr(store, "aclose"):
        raise InvalidStore(f"store is to be awaited: give it to an AsyncLimiter, got {shown(store)}", store=store)
    if isinstance(store, type) or not isinstance(store, Store):
        raise InvalidStore(f"store must be {_EXPECTED}, got {shown(store)}", store=store)
    return store


def open_async_store(store: AsyncStore | MemoryStore | str | None) -> tuple[AsyncStore, object]:
    """Return a store to be awaited, and the store it stands for: itself, but for one in memory.

    Raises:
        InvalidStore: It is none, or one that would block the event loop.
    """
    if store is None or store == "memory://":
        store = MemoryStore()
    if isinstance(store, MemoryStore):
        return _Awaited(store), store
    if isinstance(store, str):
        from headgate.store.redis import AsyncRedisStore

        opened = AsyncRedisStore.from_url(_driver_url(store))
        return opened, opened
    if isinstance(store, type) or not hasattr(store, "decide"):
        raise InvalidStore(f"store must be {_EXPECTED}, got {shown(store)}", store=store)
    if not hasattr(store, "aclose"):
        raise InvalidStore(
            f"store would block the event loop: give an AsyncLimiter an AsyncRedisStore, got {shown(store)}",
            store=store,
        )
    return store, store


class _Awaited:
    """A memory store for tasks. It is never waited for, so awaiting it does not give way to other tasks."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        return self._store.decide(requests, charging=charging)

    async def forget(self, policy: SlidingWindow, key: str) -> None:
        self._store.forget(policy, key)

    async def aclose(self) -> None:
        self._store.close()


def _driver_url(url: str) -> str:
    """Return the URL in the driver's own words. No message quotes it: any part of it may be a password's."""
    scheme, _, rest = url.partition("://")
    if not rest or scheme not in _SCHEMES:
        raise InvalidStore(f"store must be {_EXPECTED}, got one that begins with {shown(scheme)}", store=url)
    if scheme != "unix":
        _check_address(url)
    return f"{_SCHEMES[scheme]}://{rest}"


def _check_address(url: str) -> None:
    # redis-py takes a database that is no number for the first one, without a word.
    try:
        parts = urlsplit(url)
        readable = parts.port != 0 and re.fullmatch(r"/?\d*", parts.path)
    except ValueError:
        readable = False
    if not readable:
        raise InvalidStore(
            "store must be a URL such as redis://user:password@host:6379/0, with a port from 1 to 65535 and a database "
            "number; what is no letter or digit in a password has to be percent-encoded",
            store=url,
        )
