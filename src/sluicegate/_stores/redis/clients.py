"""redis-py's clients: made from a URL, or checked. No message quotes a URL, as it may hold a password."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection as AsyncAbstractConnection
from redis.asyncio.connection import SSLConnection
from redis.connection import AbstractConnection
from redis.exceptions import RedisError

from sluicegate._core.errors import InvalidStore, meant
from sluicegate._stores.urls import driver_url

_OPTIONS = (
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval", "max_connections"),
    *("db", "client_name", "username", "password", "protocol", "encoding"),
    *("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"),
)
"""Options that are often in URLs, to find the one that was meant; redis-py knows more."""

_OF_THE_STORE = ("timeout", "prefix", "denial_ttl", "max_waiting")
"""Arguments of a store's ``from_url``, which people write into the URL."""


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
    if not isinstance(url, str):
        raise InvalidStore(f"url must be a str, got one of type {type(url).__name__}", store=url)
    url = driver_url(url)
    _check_address(url)
    _refuse_retries(url)
    try:
        client = kind.from_url(url, **settings)
        pool = client.connection_pool
        _check_timeouts(pool.connection_kwargs)
        pool.connection_class(**pool.connection_kwargs)  # otherwise an unknown option fails the first call
    except (ValueError, TypeError, RedisError, LookupError) as error:
        # Without redis-py's own message: it may quote part of the password.
        why = (_option_advice(kind, url, error) if "?" in url else "") or f"it raised {type(error).__name__}"
        raise InvalidStore(f"store must be a URL that redis-py can read: {why}", store=url) from None
    return client


class _TlsConnection(SSLConnection):
    """redis-py's, which shares one TLS context with the others of its pool, made outside of the event loop.

    redis-py makes one for each connection (8.1). It reads all certificate authorities of the system, which takes 25 ms
    that the event loop would stand still.
    """

    async def _connect(self) -> None:
        if self.ssl_context.context is None:
            await asyncio.get_running_loop().run_in_executor(None, self.ssl_context.get)
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except ssl.SSLCertVerificationError:
            self.ssl_context.context = None  # the file of the authority may have been replaced meanwhile
            raise


def share_tls_context(pool: Any) -> None:
    """Let the connections of an async pool of the store's own share a TLS context, if they use TLS."""
    if pool.connection_class is not SSLConnection:
        return
    shared: list[Any] = []

    class OfOnePool(_TlsConnection):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            shared.append(self.ssl_context)
            del shared[1:]
            self.ssl_context = shared[0]

    pool.connection_class = OfOnePool


def _option_advice(kind: Any, url: str, error: Exception) -> str:
    """Name the wrong option of a URL, and never its value."""
    store = "AsyncRedisStore" if issubclass(kind, redis.asyncio.Redis) else "RedisStore"
    found = re.search(r"(?:unexpected keyword argument|Invalid value for) '(\w+)'", str(error))
    name = found[1] if found and "@" not in urlsplit(url).query else ""  # otherwise it may be part of a password
    if isinstance(error, TypeError):
        if name in _OF_THE_STORE:
            return f"it has no option {name}, which is an argument: write {store}.from_url(url, {name}=...)"
        return f"it has no option {name or 'of one of the names after the question mark'}{meant(name, _OPTIONS)}"
    if isinstance(error, ValueError):
        return f"it cannot read the value of {name or 'an option after the question mark'}"
    return ""


def _check_timeouts(settings: dict[str, Any]) -> None:
    if any((settings.get(name) or 1) <= 0 for name in ("socket_timeout", "socket_connect_timeout")):
        raise ValueError("a time-out below 0")


def _check_address(url: str) -> None:
    """Raise `InvalidStore` for a URL whose parts cannot be told apart."""
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


def check_is_real(expected: str, client: Any) -> None:
    """Raise `InvalidStore` for a client whose pool is not redis-py's."""
    pool = getattr(client, "connection_pool", None)
    kinds = (redis.ConnectionPool, redis.asyncio.ConnectionPool)
    connections = (AbstractConnection, AsyncAbstractConnection)
    kind = getattr(pool, "connection_class", None)
    if not (isinstance(pool, kinds) and isinstance(kind, type) and issubclass(kind, connections)):
        raise not_real(expected, client)


def not_real(expected: str, client: Any) -> InvalidStore:
    """Return the error for a client that connects to no server."""
    return InvalidStore(
        f"client must be a {expected} that connects to a real server, got {_kind(client)}, which seems to imitate one: "
        f"use a server, or a MemoryStore in tests",
        store=client,
    )


def wrong_client(expected: str, store: str, value: object) -> InvalidStore:
    """Return the error for a value that is not a client of the expected class."""
    return InvalidStore(f"client must be a {expected}, got {_kind(value)}{_advice(store, value)}", store=value)


def _kind(value: object) -> str:
    """Name a value by its type alone: if it is a URL, it may hold a password."""
    kind = type(value)
    named = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"one of type {named}"


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
