"""Keys: which text is valid, and what a process keeps of a counter's key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate._core.errors import InvalidKey, type_repr

Key = str | Mapping[str, str]
"""What to count under: any text, or for policies that count by attributes a mapping with their values."""


class _NoKey(Mapping[str, str]):
    """An empty mapping. Unlike a dict it is hashable, so that users can look it up: ``limits=plans.get``."""

    __slots__ = ()

    def __getitem__(self, attribute: str) -> str:
        raise KeyError(attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return hash(())

    def __repr__(self) -> str:
        return "{}"


NO_KEY: Final = _NoKey()
"""The key of a call without one: it has no attributes, so it serves shared policies alone."""

CounterKey = str | tuple[str, ...]
"""The key of one counter: a text, several texts in order, or () for a counter that all keys share."""

_LONGEST = 256


def checked_key(key: str, attribute: str | None = None) -> str:
    """Return ``key``, or the value of an ``attribute``, as a plain str; raise `InvalidKey` if it is not valid text.

    Any text is a key: empty, with separators, braces or NULs, a megabyte. A lone surrogate is refused: it has no UTF-8
    form, so two stores could not agree on it. A subclass of str (an enum member, say) becomes plain str, as str() and
    format() may each write it differently.
    """
    if not isinstance(key, str):
        said = f"{_what(attribute)} must be a str, got {type_repr(key)}{_as_text(key, attribute)}"
        raise InvalidKey(said, attribute=attribute)
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"{_what(attribute)} must be valid Unicode text, got one with a lone surrogate at {error.start}",
                attribute=attribute,
            ) from None
    return str.__str__(key)


_AS_TEXT = {
    "bool": "",
    "int": "str({})",
    "UUID": "str({})",
    "IPv4Address": "str({})",
    "IPv6Address": "str({})",
    "bytes": "{}.decode()",
    "bytearray": "{}.decode()",
    "Enum": "{}.value",
}
"""How values that people count by become text, by the names of their classes: few programs import them all."""


def _as_text(value: object, attribute: str | None) -> str:
    """Return the advice for a key, or the value of an attribute, that is not text."""
    form = next((_AS_TEXT[each.__name__] for each in type(value).__mro__ if each.__name__ in _AS_TEXT), "")
    given = "key" if attribute is None else f'key["{attribute}"]'
    return f"; write {form.format(given)}" if form else ""


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
