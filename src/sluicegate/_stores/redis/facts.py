"""What a store asks a server about itself before it does anything there."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, NamedTuple

from sluicegate._stores.redis.failures import REFUSALS, first_word
from sluicegate._stores.redis.pipeline.waiter import Alone, Command


class Facts(NamedTuple):
    """What a server is like.

    Attributes:
        is_cluster: Whether it is a node of a cluster.
        policy: What it does when its ``maxmemory`` is full, ``maxmemory-policy``.
    """

    is_cluster: bool = False
    policy: str = "noeviction"

    @property
    def evicts(self) -> bool:
        """Whether it may evict counters. All of them have a TTL, so each policy but ``noeviction`` may.

        Also while it has no ``maxmemory``: the policy is not the usual one, so somebody means to set one.
        """
        return self.policy != "noeviction"


def look() -> Generator[Command, Any, Facts]:
    """Ask the server what it is like. What it does not tell is taken to be the usual: no decision fails for that.

    Meanwhile no other batch is sent: a later one, which need not ask, would overtake it.
    """
    try:
        info = _text((yield Alone(["INFO", "cluster", "memory"])))
    except REFUSALS as refusal:
        if first_word(refusal) not in ("NOPERM", "ERR"):  # then it would refuse all else, too
            raise
        return (yield from _look_without_info())
    fields = dict(re.findall(r"^(\w+):([\w-]+)", info, re.MULTILINE))
    return Facts(
        is_cluster=fields.get("cluster_enabled") == "1",
        policy=fields.get("maxmemory_policy", "noeviction"),
    )


def _look_without_info() -> Generator[Command, Any, Facts]:
    """Ask a server that does not let its user call ``INFO``. Every user may call ``HELLO``."""
    try:
        hello = yield Alone(["HELLO"])
    except REFUSALS:
        return Facts()
    if isinstance(hello, list):  # RESP2 has no mappings: it is names and values in turn
        hello = dict(zip(map(_text, hello[::2]), hello[1::2], strict=False))
    pairs = hello.items() if isinstance(hello, dict) else ()
    return Facts(is_cluster=("mode", "cluster") in [(_text(name), _text(value)) for name, value in pairs])


def _text(word: Any) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
