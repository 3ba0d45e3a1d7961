"""The scripts that decide on a Redis server: their source, their arguments, and how to read what they return. No I/O.

One script decides a batch; its twin only looks, and is marked ``no-writes``. Both are the files ``clock.lua``, one for
each algorithm, and ``decide.lua``, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from headgate import algorithms
from headgate.decision import Verdict
from headgate.errors import StoreUnavailable
from headgate.keys import stored_key
from headgate.store.protocol import Answer, Request

Arguments = list[bytes | str | int]


def _file(name: str) -> str:
    return files("headgate.store").joinpath(name).read_text("utf-8")


class Script:
    """One script: what ``EVAL`` and ``EVALSHA`` need of it.

    Args:
        charging: False for the one that only looks.
        clock: The source of ``now_us``; the server's own ``TIME`` but for tests of the rules.
    """

    def __init__(self, *, charging: bool, clock: str | None = None) -> None:
        # The flags line makes a full server, a replica or a wrong slot refuse the script before it has written.
        parts = [
            "#!lua" if charging else "#!lua flags=no-writes",
            f"local CHARGING, mended = {str(charging).lower()}, 0",
            clock or _file("clock.lua"),
            "local algorithms = {}",
            *(f"algorithms['{name}'] = (function()\n{algorithms.lua(name)}end)()" for name in algorithms.BY_NAME),
            _file("decide.lua"),
        ]
        self.source = "\n".join(parts)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def arguments(prefix: str, requests: Sequence[Request]) -> Arguments:
    """Return what follows the script in a call: the number of keys, KEYS and ARGV as ``decide.lua`` lists them."""
    keys: Arguments = []
    rest: Arguments = []
    for request in requests:
        rest.append(len(request))
        for policy, key, cost in request:
            keys.append(stored_key(prefix, policy.namespace, key).encode())
            rest.append(policy.algorithm)
            rest.extend(algorithms.BY_NAME[policy.algorithm].arguments(policy, cost))
    return [len(keys), *keys, *rest]


def answers(requests: Sequence[Request], reply: list[Any]) -> tuple[int, list[Answer]]:
    """Read what ``decide.lua`` returns for these requests: how many logs it mended, and an answer for each."""
    numbers = iter(reply)
    mended = next(numbers)
    return mended, [_answer(len(request), numbers) for request in requests]


def _answer(charges: int, numbers: Iterator[Any]) -> Answer:
    verdicts = []
    for _ in range(charges):
        allowed = next(numbers)
        if not isinstance(allowed, int):
            return _refused(allowed)
        verdicts.append(Verdict(allowed == 1, next(numbers), next(numbers), next(numbers)))
    return verdicts


def _refused(error: bytes | str) -> StoreUnavailable:
    text = error.decode("utf-8", "replace") if isinstance(error, bytes) else error
    return StoreUnavailable(f"a counter of this request holds something else on the server, nothing was taken: {text}")
