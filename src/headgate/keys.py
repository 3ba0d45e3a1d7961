"""Keys: which text may be one, and how it is written where a store shares one space with others."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from headgate.errors import InvalidKey, shown

_PLAIN = re.compile(r"[A-Za-z0-9._@:/+=-]{1,128}\Z")
_UNSAFE = re.compile(rb"[^A-Za-z0-9._@:/+=-]")
_LONGEST = 256


def checked_key(key: str) -> str:
    """Return ``key``; raise `InvalidKey` unless it is text that UTF-8 can carry.

    Any text is a key: empty, with separators, braces or NULs, a megabyte. A lone surrogate is refused: it has no
    bytes, so two stores could not agree on what it is.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"key must be a str, got {shown(key)}")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"key must be text that UTF-8 can carry, got {shown(key)} with a lone surrogate at {error.start}"
            ) from None
    return key


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a long key. Of a type of its own, so that nothing a user can pass is equal to it."""

    value: bytes


def held(key: str) -> str | Digest:
    """Return what a process keeps of a checked key: itself, or the digest of a long one, so that memory is bounded."""
    return key if len(key) <= _LONGEST else Digest(hashlib.sha256(key.encode()).digest())


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


def stored_key(prefix: str, namespace: str, key: str) -> str:
    """Name the Redis key of one policy's counter for one key.

    The subject is the hash tag, so that all policies of one subject lie in one slot of a cluster.
    """
    return f"{prefix}{{{subject(key)}}}:{namespace}"
