"""Clients of redis-py: made from a URL, or told from what is none. No message quotes a URL: it may hold a password."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import RedisError

from headgate.errors import InvalidStore


def made(kind: Any, url: str, timeout: float, no_retry: object, *, socket_timeout: float | None) -> Any:
    """Make a client of our own, by redis-py's ``from_url``.

    RESP2: under RESP3 redis-py's pools hand out a connection that the server has closed meanwhile, if it has
    maintenance notifications on (8.1); the first call after a restart would be lost.
    """
    settings = {"socket_timeout": socket_timeout, "socket_connect_timeout": timeout, "protocol": 2, "retry": no_retry}
    _check_address(url)
    try:
        _refuse_retries(url)
        client = kind.from_url(url, **settings)
        pool = client.connection_pool
        _check_timeouts(pool.connection_kwargs)
        pool.connection_class(**pool.connection_kwargs)  # an option it does not know would else fail the first call
    except (ValueError, TypeError, RedisError, LookupError) as error:
        # Not what redis-py says of it: that may quote a part of the password.
        why = type(error).__name__
        raise InvalidStore(
            f"store must be a URL that redis-py can read, without options for retries: it raised {why}", store=url
        ) from None
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
    advice = f"; for a URL there is {store}.from_url" if isinstance(came, str) else ""
    return InvalidStore(f"client must be a {expected}, got one of type {type(came).__name__}{advice}", store=came)


def _refuse_retries(url: str) -> None:
    if any(option.startswith("retry") for option in parse_qs(urlsplit(url).query)):
        raise ValueError("it asks for retries, and no call is sent twice")
