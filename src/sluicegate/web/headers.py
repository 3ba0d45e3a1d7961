"""Response fields that tell a client its limits: RateLimit-Policy, RateLimit and Retry-After.

Source: the draft named in `DRAFT`, sections "RateLimit-Policy Field" and "RateLimit Field"; RFC 9651 for their syntax,
which `http_sf` writes; RFC 9110, section 10.2.3, and RFC 6585, section 4, for Retry-After.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

try:
    import http_sf
except ImportError as error:  # pragma: no cover
    raise ImportError("sluicegate.web needs http-sf: pip install 'sluicegate[fastapi]'", name="http_sf") from error

from sluicegate._core.decision import Decision
from sluicegate._core.policy import Policy

# Pinned: it is not an RFC yet, and revisions have changed both the names and the form of the fields.
DRAFT = "draft-ietf-httpapi-ratelimit-headers-11"

MAX_INTEGER = 999_999_999_999_999
"""The largest Integer of a structured field (RFC 9651, section 3.3.1)."""


def fields(decision: Decision, policies: Iterable[Policy]) -> dict[str, str]:
    """Return the response fields for a decision, by name; Retry-After only on a denial that will end.

    If limits differ by key, a policy's quota is the limit of the decision; a limit of 0 is a quota of 0. If no policy
    applied (the limiter is off, or the key is exempt) there are no fields: a client is not shown limits that do not
    apply to it.

    Args:
        decision: A limiter's decision.
        policies: The policies of that limiter, in order.

    Raises:
        ValueError: The decision was not made by these policies, in this order.
    """
    if decision.source == "bypass":
        return {}
    parts, policies = decision.decisions, tuple(policies)
    if [part.policy for part in parts] != [policy.name for policy in policies]:
        raise ValueError(
            f"policies must be those of the limiter that decided, {', '.join(part.policy for part in parts)}; got "
            f"{', '.join(policy.name for policy in policies) or 'none'}"
        )
    quotas: http_sf.ListType = [
        (policy.name, _quota(policy, part.limit)) for policy, part in zip(policies, parts, strict=True)
    ]
    named = {"RateLimit-Policy": http_sf.ser(quotas), "RateLimit": rate_limit(decision)}
    wait = retry_after(decision)
    return {**named, "Retry-After": str(wait)} if wait else named


def rate_limit_policy(policies: Iterable[Policy]) -> str:
    """Return the value of RateLimit-Policy: for each policy its quota ``q`` in a window of ``w`` whole seconds.

    A window of a second or more is rounded up to ``w``, and ``q`` is the limit: a client that spreads it evenly is not
    denied. A shorter window becomes one second, and ``q`` the units that the limit yields in it, rounded down: 10 in
    0.25 s is ``q=40;w=1``. Taking all of them at once may be denied; the ``r`` of `rate_limit` says how many can be
    taken at once. A calendar window has the ``w`` of the longest one: 31 days for a month.

    A `Concurrency` limits no window: its ``q`` is in units of ``concurrent-requests``, and has no ``w``.
    """
    items: http_sf.ListType = [(policy.name, _quota(policy, policy.limit)) for policy in policies]
    return http_sf.ser(items)


def rate_limit(decision: Decision) -> str:
    """Return the value of RateLimit: for each policy the units remaining, ``r``, and if it denies, ``t``.

    ``t`` is the wait until more can be taken: for a cost of 1, exactly until the next unit is free; for a higher cost,
    until all of it fits. If it never will, or if the policy allows, there is no ``t`` (it is optional): the next unit
    may be free long before ``reset_after``, when all are, and too long a ``t`` would keep an obedient client waiting.
    """
    items: http_sf.ListType = [(part.policy, _service(part)) for part in decision.decisions]
    return http_sf.ser(items)


def retry_after(decision: Decision) -> int | None:
    """Return the whole seconds until the same request could be allowed; 0 if it was, None if it never can be.

    Rounded up, and at least 1 on a denial: a client that came back sooner would be denied again. With several policies
    it is the longest wait, so no ``t`` of `rate_limit` is longer.
    """
    if decision.allowed:
        return 0
    return None if math.isinf(decision.retry_after) else max(1, math.ceil(decision.retry_after))


def string(name: str) -> str:
    """Return a name as a String of a structured field, quoted."""
    return http_sf.ser((name, {}))


def _quota(policy: Policy, limit: int) -> dict[str, http_sf.types.BareItemType]:
    if policy.lends:
        return {"q": limit, "qu": "concurrent-requests"}
    if policy.window_us >= 1_000_000:
        return {"q": limit, "w": -(-policy.window_us // 1_000_000)}
    return {"q": min(limit * 1_000_000 // policy.window_us, MAX_INTEGER), "w": 1}


def _service(part: Decision) -> dict[str, http_sf.types.BareItemType]:
    wait = retry_after(part)
    return {"r": part.remaining, "t": wait} if wait else {"r": part.remaining}
