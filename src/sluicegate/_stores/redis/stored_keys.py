"""The names of counters on the server. Documented for users in docs/reference/stored-keys.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from sluicegate._core.keys import CounterKey

_PLAIN = re.compile(r"[A-Za-z0-9._@:/+=-]{1,128}\Z")
_PLAIN_LINES = re.compile(r"(?:[A-Za-z0-9._@:/+=-]{1,128}+\n)*+[A-Za-z0-9._@:/+=-]{1,128}+\Z")
_UNSAFE = re.compile(rb"[^A-Za-z0-9._@:/+=-]")
_LONGEST = 256
_HASH_TAG = re.compile(r"[^{]*\{[^}]+\}")


def lies_in_one_slot(prefix: str) -> bool:
    """Tell whether a prefix has a hash tag of its own, which keeps all its keys in one slot of a cluster."""
    return _HASH_TAG.match(prefix) is not None


def subject(key: str) -> str:
    """Return a checked key as the content of a Redis hash tag: printable ASCII, bounded, and unique to the key.

    Bytes outside ``[A-Za-z0-9._@:/+=-]`` become ``%XX``. A key that would be longer than 256 characters becomes ``~``
    and the SHA-256 of the whole key. Neither ``~`` nor a bare ``%`` is written otherwise, so two keys never collide.
    """
    if _PLAIN.match(key):
        return key
    if not key:
        return "%"  # an empty hash tag does not count, and a cluster would spread the subject's keys over its nodes
    raw = key.encode()
    if len(raw) <= _LONGEST:
        escaped = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
        if len(escaped) <= _LONGEST:
            return escaped
    return "~" + hashlib.sha256(raw).hexdigest()


def stored_key(prefix: str, namespace: str, counter_key: CounterKey) -> str:
    """Return the Redis key of one counter.

    The subject is the hash tag, so that all policies of one subject lie in one slot of a cluster. Of several values the
    first is the subject, and the others follow at the end. No subject contains ``*`` or ``,``.
    """
    if isinstance(counter_key, str):
        return f"{prefix}{{{subject(counter_key)}}}:{namespace}"
    if not counter_key:
        return f"{prefix}{{*}}:{namespace}"
    first, *rest = map(subject, counter_key)
    return f"{prefix}{{{first}}}:{','.join([namespace, *rest])}"


def members_key(prefix: str) -> str:
    """Return the Redis key of the fleet's members. No counter's key ends so: each has a namespace with colons."""
    return f"{prefix}{{*}}:members"


def stored_keys(prefix: str, namespace: str, keys: Sequence[CounterKey]) -> list[bytes]:
    """Return the Redis keys of one policy's counters, at least one; for plain keys in a fifth of the time.

    A prefix and a namespace contain no line break.
    """
    try:
        lines = "\n".join(keys)  # type: ignore[arg-type]
    except TypeError:  # keys of several values, or shared ones
        lines = ""
    if _PLAIN_LINES.match(lines) and lines.count("\n") == len(keys) - 1:
        return f"{prefix}{{{lines}}}:{namespace}".replace("\n", f"}}:{namespace}\n{prefix}{{").encode().split(b"\n")
    return [stored_key(prefix, namespace, key).encode() for key in keys]
