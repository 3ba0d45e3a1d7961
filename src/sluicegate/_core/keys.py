"""Keys: which text is valid, and how a counter's key is written in memory and on a server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate._core.errors import InvalidKey, short_repr

Key = str | Mapping[str, str]
"""What to count under: any text, or for policies that count by attributes a mapping with their values."""

CounterKey = str | tuple[str, ...]
"""The key of one counter: a text, several texts in order, or () for a counter that all keys share."""

_PLAIN = re.compile(r"[A-Za-z0-9._@:/+=-]{1,128}\Z")
_PLAIN_LINES = re.compile(r"(?:[A-Za-z0-9._@:/+=-]{1,128}+\n)*+[A-Za-z0-9._@:/+=-]{1,128}+\Z")
_UNSAFE = re.compile(rb"[^A-Za-z0-9._@:/+=-]")
_LONGEST = 256


def checked_key(key: str, attribute: str | None = None) -> str:
    """Return ``key``, or the value of an ``attribute``, as a plain str; raise `InvalidKey` if it is not valid text.

    Any text is a key: empty, with separators, braces or NULs, a megabyte. A lone surrogate is refused: it has no UTF-8
    form, so two stores could not agree on it. A subclass of str (an enum member, say) becomes plain str, as str() and
    format() may each write it differently.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"{_what(attribute)} must be a str, got {short_repr(key)}", attribute=attribute)
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"{_what(attribute)} must be valid Unicode text, got {short_repr(key)} with a lone surrogate at "
                f"{error.start}",
                attribute=attribute,
            ) from None
    return str.__str__(key)


def _what(attribute: str | None) -> str:
    return "key" if attribute is None else f"attribute {attribute} of the key"


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a long key. It has its own type, so that no key a user can pass equals it."""

    value: bytes


def memory_key(counter_key: CounterKey) -> CounterKey | Digest:
    """Return what a process stores of a checked key: the key itself, or its digest if it is long, to bound memory."""
    if isinstance(counter_key, str):
        return counter_key if len(counter_key) <= _LONGEST else Digest(hashlib.sha256(counter_key.encode()).digest())
    if sum(map(len, counter_key)) <= _LONGEST:
        return counter_key
    return Digest(hashlib.sha256(key_bytes(counter_key)).digest())


def key_bytes(counter_key: CounterKey | Digest) -> bytes:
    """Return bytes that are different for every counter key."""
    if isinstance(counter_key, Digest):
        return counter_key.value
    if isinstance(counter_key, str):
        return counter_key.encode()
    # A byte that no UTF-8 text begins with, then each part after its length: there is only one way to take it apart.
    return b"\xff" + b"".join(b"%d:%s" % (len(part), part) for part in map(str.encode, counter_key))


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
