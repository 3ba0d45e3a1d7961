"""redis-py's clients: made from a URL, or checked. No message quotes a URL, as it may hold a password."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
from redis.exceptions import RedisError

from sluicegate._core.errors import InvalidStore

_QUERY_ADVICE = {
    "TypeError": "; the part after the question mark has an option that redis-py does not know",
    "ValueError": "; the part after the question mark has a value that redis-py cannot read",
}


def from_url(kind: Any, url: str, timeout: float, no_retry: object, *, socket_timeout: float | None) -> Any:
    """Make a client by redis-py's ``from_url``.

    It uses RESP2. Under RESP3 with maintenance notifications, redis-py's pool (8.1) hands out connections that the
    server has closed meanwhile: the first call after a restart would be lost.

    Args:
        kind: The class of the client.
        url: The server's.
        timeout: Seconds to connect.
        no_retry: A retry policy of the class's own kind that does not retry.
        socket_timeout: Seconds for each read and write; None for no limit.

    Raises:
        InvalidStore: The URL cannot be read.
    """
    settings = {"socket_timeout": socket_timeout, "socket_connect_timeout": timeout, "protocol": 2, "retry": no_retry}
    _check_address(url)
    _refuse_retries(url)
    try:
        client = kind.from_url(url, **settings)
        pool = client.connection_pool
        _check_timeouts(pool.connection_kwargs)
        pool.connection_class(**pool.connection_kwargs)  # otherwise an unknown option fails the first call
    except (ValueError, TypeError, RedisError, LookupError) as error:
        # Without redis-py's own message: it may quote part of the password.
        why = type(error).__name__
        advice = _QUERY_ADVICE.get(why, "") if "?" in url else ""
        raise InvalidStore(f"store must be a URL that redis-py can read: it raised {why}{advice}", store=url) from None
    return client


def _check_timeouts(settings: dict[str, Any]) -> None:
    if any((settings.get(name) or 1) <= 0 for name in ("socket_timeout", "socket_connect_timeout")):
        raise ValueError("a time-out below 0")


def _check_address(url: str) -> None:
    """Raise `InvalidStore` for a URL whose parts cannot be told apart."""
    if not isinstance(url, str):
        raise InvalidStore(f"url must be a str, got one of type {type(url).__name__}", store=url)
    if url.startswith("unix://"):
        return
    # redis-py silently takes a database that is not a number for database 0.
    try:
        parts = urlsplit(url)
        readable = parts.port != 0 and re.fullmatch(r"/?\d*", parts.path)
    except ValueError:
        readable = False
    if not readable:
        raise InvalidStore(
            "store must be a URL such as redis://user:password@host:6379/0, with a port from 1 to 65535 and a database "
            "number; percent-encode everything in a password but letters and digits",
            store=url,
        )


def wrong_client(expected: str, store: str, value: object) -> InvalidStore:
    """Return the error for a value that is not a client of the expected class."""
    # It names the type alone: if the value is a URL, it may hold a password.
    kind = type(value)
    named = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return InvalidStore(f"client must be a {expected}, got one of type {named}{_advice(store, value)}", store=value)


def _advice(store: str, value: object) -> str:
    if isinstance(value, str):
        return f"; for a URL there is {store}.from_url"
    if isinstance(value, (redis.Redis, redis.asyncio.Redis)):
        return f"; give it to {'RedisStore' if store.startswith('Async') else 'AsyncRedisStore'}"
    if isinstance(value, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        return "; this version does not support clusters"
    return ""


def _refuse_retries(url: str) -> None:
    if any(option.startswith("retry") for option in parse_qs(urlsplit(url).query)):
        raise InvalidStore("store must be a URL without options for retries: no call is sent twice", store=url)
