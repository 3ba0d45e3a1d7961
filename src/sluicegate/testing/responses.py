"""What a response says of limits, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from inspect import isawaitable
from typing import Any

from sluicegate._core.errors import short_repr

_PROBLEM = "application/problem+json"


def assert_limited(response: Any, policy: str | None) -> None:
    """Check that a response is a denial; see `LimitsInTest.assert_limited`."""
    __tracebackhide__ = True
    _check_arguments(response, policy)
    by = "" if policy is None else f" by policy {policy}"
    if response.status_code != 429:
        raise AssertionError(f"expected a 429{by}, got {response.status_code}; {_fields_in_words(response)}")
    if policy is None:
        return
    denied = _denied(response)
    if policy not in denied:
        others = ", ".join(denied) or "a policy that it does not name"
        raise AssertionError(f"expected a 429{by}, got one by {others}; {_fields_in_words(response)}")


def assert_remaining(response: Any, units: int, policy: str | None) -> None:
    """Check how many units remain; see `LimitsInTest.assert_remaining`."""
    __tracebackhide__ = True
    _check_arguments(response, policy)
    if isinstance(units, bool) or not isinstance(units, int) or units < 0:
        raise TypeError(f"units must be a whole number of 0 or more, got {short_repr(units)}")
    items = _items(response)
    name = next(iter(items), None) if policy is None else policy
    expected = f"expected {units} to remain" + ("" if name is None else f" under policy {name}")
    if name not in items:
        raise AssertionError(f"{expected}, got a {response.status_code} without it; {_fields_in_words(response)}")
    remaining = items[name].get("r")
    if remaining != units:
        raise AssertionError(f"{expected}, got {remaining}; {_fields_in_words(response)}")


def _check_arguments(response: Any, policy: object) -> None:
    if isawaitable(response):
        if hasattr(response, "close"):
            response.close()  # or Python would warn, too, that it was never awaited
        raise TypeError("response must be a response, got one that is not there yet: await the call of the client")
    if not hasattr(response, "status_code") or not hasattr(response, "headers"):
        raise TypeError(f"response must have status_code and headers, got one of type {type(response).__name__}")
    if policy is not None and not isinstance(policy, str):
        raise TypeError(f"policy must be the name of a policy, or None, got {short_repr(policy)}")


def _denied(response: Any) -> list[str]:
    """Return the policies that denied a request: those that the document names; without one, those with a wait."""
    if str(response.headers.get("content-type", "")).startswith(_PROBLEM):
        document: Any = None
        with suppress(ValueError):  # the answer to a HEAD has no body
            document = response.json()
        if isinstance(document, Mapping) and isinstance(document.get("violated-policies"), list):
            return [str(name) for name in document["violated-policies"]]
    items = _items(response)
    return [name for name, values in items.items() if "t" in values] or [
        name for name, values in items.items() if values.get("r") == 0
    ]


def _items(response: Any) -> dict[str, Mapping[str, Any]]:
    """Return the parameters of each policy in the RateLimit field, in its order; nothing without the field.

    Raises:
        AssertionError: It is not a list, as it must be.
    """
    import http_sf  # noqa: PLC0415 - it comes with the extra of the web layer

    field = response.headers.get("RateLimit")
    if field is None:
        return {}
    try:
        items: Any = http_sf.parse(field.encode(), tltype="list")
    except ValueError as error:
        raise AssertionError(f"RateLimit must be a list of a structured field, got {short_repr(field)}") from error
    found: dict[str, Mapping[str, Any]] = {}
    for name, values in items:
        found.setdefault(str(name), values)
    return found


def _fields_in_words(response: Any) -> str:
    items = _items(response)
    if not items:
        return "it has no RateLimit field, so it was not limited, or limits are off, or fields=() sends none"
    in_words = [
        f"{name} r={values.get('r')}" + (f" t={values['t']}" if "t" in values else "") for name, values in items.items()
    ]
    return f"its RateLimit: {', '.join(in_words)}"
