"""The servers that a store spreads its counters over."""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """One server, which answers for some of the keys. A store has a pipeline for each; it is the key of a dict.

    Attributes:
        host: Its name or address; empty for the one that the client connects to by its own settings.
        port: Its port; 0 likewise.
    """

    host: str = ""
    port: int = 0


ONLY_NODE = Node()
"""The server of a client that has one, which is every client until clusters are supported."""
