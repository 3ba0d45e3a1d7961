"""Keys that are never limited: from what a user gives as ``exempt=`` to a function of a key."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from sluicegate._core.errors import InvalidPolicy, short_repr, type_repr
from sluicegate._core.keys import Key
from sluicegate._limiter.callbacks import synchronous

Exempt = Container[str] | Mapping[str, Container[str]] | Callable[[Any], object]
"""Plain keys; for keys with attributes, the exempt values of some of them; or a function of a key."""


def exempt_function(given: Exempt | None, attributes: Sequence[str]) -> Callable[[Key], bool] | None:
    """Return a function that tells whether a key is exempt; None if no key is.

    Args:
        given: What the user gave. It is kept and looked into at every call, so it may change at any time.
        attributes: The attributes that the limiter's policies count by.

    Raises:
        InvalidPolicy: It has none of the three forms, or not the form of the limiter's keys.
    """
    if given is None:
        return None
    if callable(given):
        function = synchronous(given, "exempt")
        return lambda key: bool(function(key))
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Container):
        raise InvalidPolicy(f"exempt must be a collection of keys, or a function of a key, got {type_repr(given)}")
    if isinstance(given, Mapping):
        _check_attributes(given, attributes)
        return lambda key: any(key[each] in given.get(each, ()) for each in attributes)  # type: ignore[index]
    if attributes:
        raise InvalidPolicy(
            f"exempt must be a mapping from attributes to values, such as {{{attributes[0]!r}: {{...}}}}, as the keys "
            f"are mappings; got {type_repr(given)}"
        )
    return lambda key: isinstance(key, str) and key in given


def _check_attributes(given: Mapping[str, Container[str]], attributes: Sequence[str]) -> None:
    for attribute, values in given.items():
        if attribute not in attributes:
            expected = ", ".join(attributes) or "none: the keys are plain text"
            raise InvalidPolicy(f"exempt names attribute {short_repr(attribute)}, the policies count by {expected}")
        if isinstance(values, (str, bytes, bytearray)) or not isinstance(values, Container):
            raise InvalidPolicy(f"exempt must have a collection of values for {attribute}, got {type_repr(values)}")
