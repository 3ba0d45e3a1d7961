"""Clients of redis-py: made from a URL, or told from what is none. No message quotes a URL: it may hold a password."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
from redis.exceptions import RedisError

from sluicegate._core.errors import InvalidStore

_QUERIED = {
    "TypeError": "; what follows the question mark has an option that redis-py does not know",
    "ValueError": "; what follows the question mark has a value that redis-py cannot read",
}


def made(kind: Any, url: str, timeout: float, no_retry: object, *, socket_timeout: float | None) -> Any:
    """Make a client of our own, by redis-py's ``from_url``.

    RESP2: under RESP3 redis-py's pools hand out a connection that the server has closed meanwhile, if it has
    maintenance notifications on (8.1); the first call after a restart would be lost.
    """
    settings = {"socket_timeout": socket_timeout, "socket_connect_timeout": timeout, "protocol": 2, "retry": no_retry}
    _check_address(url)
    _refuse_retries(url)
    try:
        client = kind.from_url(url, **settings)
        pool = client.connection_pool
        _check_timeouts(pool.connection_kwargs)
        pool.connection_class(**pool.connection_kwargs)  # an option it does not know would else fail the first call
    except (ValueError, TypeError, RedisError, LookupError) as error:
        # Not what redis-py says of it: that may quote a part of the password.
        why = type(error).__name__
        advice = _QUERIED.get(why, "") if "?" in url else ""
        raise InvalidStore(f"store must be a URL that redis-py can read: it raised {why}{advice}", store=url) from None
    return client


def _check_timeouts(settings: dict[str, Any]) -> None:
    if any((settings.get(name) or 1) <= 0 for name in ("socket_timeout", "socket_connect_timeout")):
        raise ValueError("a time-out below 0")


def _check_address(url: str) -> None:
    """Raise `InvalidStore` for a URL whose parts cannot be told. It quotes none of it."""
    if not isinstance(url, str):
        raise InvalidStore(f"the URL of a store must be text, got one of type {type(url).__name__}", store=url)
    if url.startswith("unix://"):
        return
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


def no_client(expected: str, store: str, came: object) -> InvalidStore:
    # By its type alone: if it is a URL, it may hold a password.
    kind = type(came)
    named = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return InvalidStore(f"client must be a {expected}, got one of type {named}{_advice(store, came)}", store=came)


def _advice(store: str, came: object) -> str:
    if isinstance(came, str):
        return f"; for a URL there is {store}.from_url"
    if isinstance(came, (redis.Redis, redis.asyncio.Redis)):
        return f"; give it to {'RedisStore' if store.startswith('Async') else 'AsyncRedisStore'}"
    if isinstance(came, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        return "; this version does not support clusters"
    return ""


def _refuse_retries(url: str) -> None:
    if any(option.startswith("retry") for option in parse_qs(urlsplit(url).query)):
        raise InvalidStore("store must be a URL without options for retries: no call is sent twice", store=url)
