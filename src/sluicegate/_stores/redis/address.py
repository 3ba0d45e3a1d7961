"""Which server a URL names, however it is spelled."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, unquote, urlsplit

_THIS_MACHINE = {"", "localhost", "ip6-localhost", "::1", "0.0.0.0", "::"}  # and 127.0.0.0/8


def server(url: str) -> tuple[str, int, int]:
    """Return the host (or socket), port and database of a URL that redis-py has read.

    Who connects, and how, makes no difference: users, passwords and options are left out. Names are not looked up, so
    two names of another machine are two servers.
    """
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", [""])[0]
    if parts.scheme == "unix":
        return os.path.realpath(unquote(parts.path)), 0, int(database or 0)
    host = (parts.hostname or "").rstrip(".")
    if host in _THIS_MACHINE or host.startswith("127."):
        host = "localhost"
    return host, parts.port or 6379, int(database or parts.path.strip("/") or 0)
