"""Which keys have a counter of a policy: for people who look, as it goes through all keys of the server."""

from __future__ import annotations

import re
from urllib.parse import unquote

from sluicegate._stores.redis.pipeline.waiter import Effect
from sluicegate._stores.redis.stored_keys import subject

LISTED = Effect("nothing was listed", "nothing was listed")

_SPECIAL = re.compile(r"([\\*?\[\]^])")
_STORED = re.compile(r"\{(?P<first>[^}]*)\}:(?P<rest>.*)", re.DOTALL)


def pattern(prefix: str, namespace: str) -> str:
    """Return what SCAN has to match: the keys of all counters of a namespace, and perhaps others."""
    return f"{_literal(prefix)}{{*}}:{_literal(namespace)}*"


def values_of(stored: str, prefix: str, namespace: str) -> tuple[str, ...] | None:
    """Return the values that a stored key counts by; None if it is of another namespace, or shared.

    A value that is stored as a digest is returned as that, a ``~`` and 64 hexadecimal digits.
    """
    found = _STORED.fullmatch(stored.removeprefix(prefix))
    if found is None or found["first"] == "*":
        return None
    own, *others = found["rest"].split(",")
    return tuple(map(_value, (found["first"], *others))) if own == namespace else None


def _value(text: str) -> str:
    value = "" if text == "%" else unquote(text)
    return value if subject(value) == text else text


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
