"""Connections that threads borrow from redis-py's pools without waiting."""

from __future__ import annotations

import os
import time
from typing import Any

from redis import BlockingConnectionPool

from sluicegate._stores.redis.clients import not_real
from sluicegate._stores.redis.failures import FAILURES


def idle_connection(pool: Any) -> Any | None:
    """Borrow a connection that is idle in the pool and ready for a command. Returns None if there is none.

    ``pool.get_connection()`` connects if it has to, for as long as the client's own settings let it. So look first, and
    see that no other thread takes the connection in between.

    This uses redis-py's private names for what is in a pool. A pool without them has no connection to offer here.
    """
    try:
        # In a child that was forked, idle connections are the parent's, and its threads may hold the lock for ever.
        if pool.pid != os.getpid():
            return None
        if isinstance(pool, BlockingConnectionPool):
            # It has no lock to hold. `is_ready` lets other threads run, so look again.
            idle = pool.pool.queue
            is_mine = bool(idle) and (last := idle[-1]) is not None and is_ready(last) and idle[-1] is last
            return pool.get_connection() if is_mine else None  # type: ignore[no-untyped-call]
        # By `with` alone: an interrupt just after an `acquire` would leave it locked.
        with pool._lock:  # noqa: SLF001
            idle = pool._available_connections  # noqa: SLF001
            return pool.get_connection() if idle and is_ready(idle[-1]) else None
    except (AttributeError, *FAILURES):
        return None


def is_ready(connection: Any) -> bool:
    """Tell whether a connection can be used at once: it is open, and no ping is due. Never waits."""
    return is_real(connection) and is_open(connection) and not is_ping_due(connection)


def check_is_real(connection: Any) -> None:
    """Raise `InvalidStore` for the connection of a client that only imitates a server."""
    if not is_real(connection):
        raise not_real("redis.Redis", connection)


def is_real(connection: Any) -> bool:
    """Tell whether a connection has a socket, and not something that is only like it."""
    inner = getattr(connection, "_conn", connection)  # redis-py's client-side caching wraps it
    return hasattr(getattr(inner, "_sock", None), "gettimeout")


def is_open(connection: Any) -> bool:
    """Tell whether a connection is open, and nothing has arrived on it while it was idle. Never waits."""
    try:
        # In this order: on a closed connection, `can_read` connects.
        return connection.is_connected and not connection.should_reconnect() and not connection.can_read()
    except FAILURES:
        return False


def is_ping_due(connection: Any) -> bool:
    """Tell whether the client's ``health_check_interval`` asks for a ping before the next command."""
    interval = getattr(connection, "health_check_interval", 0)
    return bool(interval and time.monotonic() > connection.next_health_check)
