"""The URLs that name a store. No message quotes one: any part of it may be a password."""

from __future__ import annotations

import re

from sluicegate._core.errors import InvalidStore

_SCHEMES = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}

EXPECTED = (
    "a MemoryStore, RedisStore or AsyncRedisStore, or a URL that begins with redis://, rediss://, unix://, "
    "valkey://, valkeys:// or memory://"
)
"""What a user may give as a store, for a message."""

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}(?:/\d*)?")
_A_SENTINEL = (
    "the URL of a Sentinel: make a client, redis.sentinel.Sentinel([(host, 26379)]).master_for(name), and give "
    "it to RedisStore(client); or redis.asyncio.sentinel.Sentinel, and AsyncRedisStore(client)"
)
_BY_SCHEME = (
    ("memory", "the URL of a MemoryStore, which takes nothing after memory://"),
    (r"(?:(?:rediss?|valkeys?)[+-])?cluster", "the URL of a Cluster, which this version does not support"),
    (r"(?:(?:rediss?|valkeys?)[+-])?sentinels?", _A_SENTINEL),
)
"""Patterns of schemes that no server is connected to by, and what to say of each."""


def driver_url(url: str) -> str:
    """Return the URL with a scheme that redis-py knows.

    Raises:
        InvalidStore: It names no store on a server.
    """
    scheme, _, rest = url.partition("://")
    if rest and scheme in _SCHEMES:
        return f"{_SCHEMES[scheme]}://{rest}"
    raise InvalidStore(f"store must be {EXPECTED}, got {_got(scheme, rest, url)}", store=url)


def _got(scheme: str, rest: str, url: str) -> str:
    if scheme in _SCHEMES and "://" in url:
        lacks = "path, as in unix:///run/redis.sock" if scheme == "unix" else f"host, as in {scheme}://localhost:6379/0"
        return f"{scheme}:// and no more: it lacks a {lacks}"
    for pattern, said in _BY_SCHEME if "://" in url else ():
        if re.fullmatch(pattern, scheme):
            return said
    if rest and scheme.isalnum() and len(scheme) < 20:
        return f"one that begins with {scheme}://"
    if _HOST_AND_PORT.fullmatch(url):
        return "a host and a port without a scheme: write redis:// before it"
    return "other text" if url else "an empty text"
