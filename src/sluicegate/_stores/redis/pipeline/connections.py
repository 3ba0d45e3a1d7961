"""Connections that threads borrow from redis-py's pools without waiting."""

from __future__ import annotations

import os
import time
from typing import Any

from sluicegate._stores.redis.failures import FAILURES


def idle_connection(pool: Any) -> Any | None:
    """Borrow a connection that is idle in the pool and ready for a command. Returns None if there is none.

    ``pool.get_connection()`` connects if it has to, for as long as the client's own settings let it. So look first, and
    hold the pool's lock until the connection is ours: otherwise another thread could take it in between.

    This uses two private names of redis-py's `ConnectionPool`. A pool without them, such as a `BlockingConnectionPool`,
    has no connection to offer here.
    """
    lock = getattr(pool, "_lock", None)
    if lock is None or not lock.acquire(blocking=False):
        return None
    try:
        idle = getattr(pool, "_available_connections", None)
        # In a child that was forked, they are still the parent's.
        if idle and pool.pid == os.getpid() and is_ready(idle[-1]):
            return pool.get_connection()
    except FAILURES:
        pass
    finally:
        lock.release()
    return None


def is_ready(connection: Any) -> bool:
    """Tell whether a connection can be used at once: open, nothing to read on it, and no ping due. Never waits."""
    return is_open(connection) and not is_ping_due(connection)


def is_open(connection: Any) -> bool:
    """Tell whether a connection is open, and nothing has come on it while it was idle. Never waits."""
    try:
        # In this order: on a closed connection `can_read` connects.
        return connection.is_connected and not connection.should_reconnect() and not connection.can_read()
    except FAILURES:
        return False


def is_ping_due(connection: Any) -> bool:
    """Tell whether the client's ``health_check_interval`` asks for a ping before the next command."""
    return bool(getattr(connection, "health_check_interval", 0)) and time.monotonic() > connection.next_health_check
