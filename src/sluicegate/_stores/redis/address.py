"""The server that a pool of redis-py connects to: for a message, and to recognise it however its URL is spelled."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.connection import SSLConnection

_PORT = 6379


def server(pool: Any) -> tuple[str, int, int]:
    """Return the host (or socket), port and database that a pool connects to.

    Who connects, and how, makes no difference: users, passwords and options are left out. Names are not looked up, so
    two names of another machine are two servers.
    """
    settings = pool.connection_kwargs
    database = int(settings.get("db") or 0)
    if path := settings.get("path"):
        return os.path.realpath(path), 0, database
    host = str(settings.get("host") or "localhost").rstrip(".").lower()
    return "localhost" if _is_this_machine(host) else host, int(settings.get("port") or _PORT), database


def _is_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:  # a name
        return host in ("localhost", "ip6-localhost")
    return address.is_loopback or address.is_unspecified


def address(pool: Any) -> str:
    """Return the URL of the server that a pool connects to, for a message: the user, password and options masked."""
    settings = pool.connection_kwargs
    user = "***@" if settings.get("username") or settings.get("password") else ""
    if path := settings.get("path"):
        return f"unix://{user}{path}"
    if service := getattr(pool, "service_name", ""):  # redis-py's Sentinel finds the host anew for each connection
        return f"sentinel://{user}{service}"
    host = settings.get("host") or "localhost"
    secure = "s" if issubclass(pool.connection_class, (SSLConnection, AsyncSSLConnection)) else ""
    return f"redis{secure}://{user}{f'[{host}]' if ':' in host else host}:{settings.get('port') or _PORT}"
