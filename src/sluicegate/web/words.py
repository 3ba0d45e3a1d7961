"""Limits in words, for people: what a policy allows, and what a limit counts by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sluicegate._core.policy import CalendarWindow, Concurrency, FixedWindow, Policy, TokenBucket, seconds

_UNITS = {"1": "second", "60": "minute", "3600": "hour", "86400": "day", "604800": "week"}


def policy_in_words(policy: Policy) -> str:
    """Return what a policy allows, such as ``100 in any minute``."""
    if isinstance(policy, Concurrency):
        return f"{policy.limit} at once"
    if isinstance(policy, TokenBucket):
        burst = "" if policy.burst == policy.limit else f", {policy.burst} at once"
        return f"{policy.limit} per {_span(policy)}{burst}"
    if isinstance(policy, CalendarWindow):
        return f"{policy.limit} per calendar {policy.cycle.span} in {policy.timezone}"
    if isinstance(policy, FixedWindow):
        return f"{policy.limit} in each {_span(policy)}"
    return f"{policy.limit} in any {_span(policy)}"


def _span(policy: Policy) -> str:
    window = seconds(policy.window_us)
    return _UNITS.get(window, f"{window} s")


def key_in_words(per: object) -> str:
    """Return what a limit counts by: a key of the request, the name of a dependency, or these by attribute."""
    if per is None:
        return "all together"
    if isinstance(per, Mapping):
        return ", ".join(f"{name}: {key_in_words(each)}" for name, each in per.items())
    return function_name(per) if hasattr(per, "__qualname__") else str(per)


def function_name(function: Callable[..., object] | object) -> str:
    """Return the name of a function as it is read in its own module; of a callable object that of its class."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]
