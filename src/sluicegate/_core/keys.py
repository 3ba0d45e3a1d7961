"""Keys: which text may be one, and how it is written where a store shares one space with others.

What a policy counts under is a `CounterKey`: a plain key, or the values of the attributes that it counts by.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate._core.errors import InvalidKey, short_repr

Key = str | Mapping[str, str]
"""Who asks: any text, or for policies that count by attributes the value of each."""

CounterKey = str | tuple[str, ...]
"""What one counter is of: one text, several in their order, or () for a counter that all keys share."""

_PLAIN = re.compile(r"[A-Za-z0-9._@:/+=-]{1,128}\Z")
_PLAIN_LINES = re.compile(r"(?:[A-Za-z0-9._@:/+=-]{1,128}+\n)*+[A-Za-z0-9._@:/+=-]{1,128}+\Z")
_UNSAFE = re.compile(rb"[^A-Za-z0-9._@:/+=-]")
_LONGEST = 256


def checked_key(key: str, attribute: str | None = None) -> str:
    """Return ``key``, or the value of an attribute of one; raise `InvalidKey` unless it is text that UTF-8 can carry.

    Any text is a key: empty, with separators, braces or NULs, a megabyte. A lone surrogate is refused: it has no
    bytes, so two stores could not agree on what it is. Text of a class of its own is returned as plain text: an enum's
    members, say, are written in one way here and in another one there.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"{_what(attribute)} must be a str, got {short_repr(key)}", attribute=attribute)
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"{_what(attribute)} must be text that UTF-8 can carry, got {short_repr(key)} with a lone surrogate at "
                f"{error.start}",
                attribute=attribute,
            ) from None
    return str.__str__(key)


def _what(attribute: str | None) -> str:
    return "key" if attribute is None else f"attribute {attribute} of the key"


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a long key. Of a type of its own, so that nothing a user can pass is equal to it."""

    value: bytes


def memory_key(counted: CounterKey) -> CounterKey | Digest:
    """Return what a process keeps of checked keys: them, or the digest of long ones, so that memory is bounded."""
    if isinstance(counted, str):
        return counted if len(counted) <= _LONGEST else Digest(hashlib.sha256(counted.encode()).digest())
    if sum(map(len, counted)) <= _LONGEST:
        return counted
    return Digest(hashlib.sha256(key_bytes(counted)).digest())


def key_bytes(counted: CounterKey | Digest) -> bytes:
    """Return bytes that are different for each counter."""
    if isinstance(counted, Digest):
        return counted.value
    if isinstance(counted, str):
        return counted.encode()
    # After a byte that no text begins with, each with its length before it: they can be taken apart in one way only.
    return b"\xff" + b"".join(b"%d:%s" % (len(part), part) for part in map(str.encode, counted))


def subject(key: str) -> str:
    """Write a checked key as a Redis hash tag's content: printable ASCII, bounded, a different one for each key.

    Bytes outside ``[A-Za-z0-9._@:/+=-]`` become ``%XX``. What would be longer than 256 characters becomes ``~`` and
    the SHA-256 of the whole key: neither ``~`` nor a bare ``%`` is ever written otherwise, so no two forms meet.
    """
    if _PLAIN.match(key):
        return key
    if not key:
        return "%"  # an empty hash tag is none, and Redis would spread one subject over the cluster
    raw = key.encode()
    if len(raw) <= _LONGEST:
        escaped = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
        if len(escaped) <= _LONGEST:
            return escaped
    return "~" + hashlib.sha256(raw).hexdigest()


def stored_key(prefix: str, namespace: str, counted: CounterKey) -> str:
    """Name the Redis key of one counter.

    The subject is the hash tag, so that all policies of one subject lie in one slot of a cluster: it is the first of
    several values, and those after it follow at the end. ``*`` and ``,`` are in no subject.
    """
    if isinstance(counted, str):
        return f"{prefix}{{{subject(counted)}}}:{namespace}"
    if not counted:
        return f"{prefix}{{*}}:{namespace}"
    first, *rest = map(subject, counted)
    return f"{prefix}{{{first}}}:{','.join([namespace, *rest])}"


def stored_keys(prefix: str, namespace: str, keys: Sequence[CounterKey]) -> list[bytes]:
    """Name the Redis keys of one policy's counters, one at least, as `stored_key` does; plain ones cost a fifth.

    The text of a prefix and of a namespace has no line break.
    """
    try:
        lines = "\n".join(keys)  # type: ignore[arg-type]
    except TypeError:  # of several values, or of none
        lines = ""
    if _PLAIN_LINES.match(lines) and lines.count("\n") == len(keys) - 1:
        return f"{prefix}{{{lines}}}:{namespace}".replace("\n", f"}}:{namespace}\n{prefix}{{").encode().split(b"\n")
    return [stored_key(prefix, namespace, key).encode() for key in keys]
