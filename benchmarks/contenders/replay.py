"""One request of Sluicegate sent very often: what it sends to the server once is kept, and sent again as it is.

A million requests, each a call of its own, fill a log as traffic does; in batches they would share their times.
"""

from __future__ import annotations

import socket
from typing import Any

import hiredis
import redis
from batches import one

from sluicegate import RedisStore, SlidingWindow
from sluicegate.proof.servers import Server

_AT_ONCE = 1_000


class _Keeping(redis.Connection):
    """A connection that keeps what was sent last."""

    sent = b""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        type(self).sent = command if isinstance(command, bytes) else b"".join(command)
        super().send_packed_command(command, check_health)


def requests(server: Server, database: int, policy: SlidingWindow, key: str, count: int) -> None:
    """Ask for so many units of a key, one a call; what is denied is denied."""
    if count < 1:
        return
    pool = redis.ConnectionPool(connection_class=_Keeping, port=server.port, db=database, protocol=2, socket_timeout=60)
    with redis.Redis(connection_pool=pool) as client, RedisStore(client, timeout=60) as store:
        store.decide(one(policy, key, commit=False))  # so that the server has the script
        store.decide(one(policy, key))
        call = _Keeping.sent
    pool.disconnect()
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        _send(wire, hiredis.pack_command(("SELECT", str(database))), 1)
        left = count - 1
        while left:
            some = min(left, _AT_ONCE)
            _send(wire, call, some)
            left -= some


def _send(wire: socket.socket, call: bytes, count: int) -> None:
    wire.sendall(call * count)
    reader, left = hiredis.Reader(), count
    while left:
        reader.feed(wire.recv(65_536))
        while (reply := reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            left -= 1
