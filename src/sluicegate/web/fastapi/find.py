"""From an app to the `RateLimits` that limits it, for tools that are given the app alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluicegate._core.errors import InvalidPolicy
from sluicegate.web.fastapi.limit import Limit
from sluicegate.web.fastapi.places import around, sites
from sluicegate.web.fastapi.rate_limits import RateLimits


def rate_limits_of(app: Any) -> RateLimits | None:
    """Return the `RateLimits` of an app; None if it has none. The app need not have started.

    It is found by its lifespan or middleware, if these were given to the app itself, and by any limit on a route. A
    lifespan of the app's own that enters that of the limits does not show.

    Raises:
        InvalidPolicy: There are several: an app can have one.
    """
    found = dict.fromkeys(_owners(app))
    if len(found) > 1:
        raise InvalidPolicy(f"this app has the limits of {len(found)} RateLimits: make them all with one")
    return next(iter(found), None)


def _owners(app: Any) -> Iterator[RateLimits]:
    calls = [call for site in sites(app) for call, _ in site.found]
    for each in (*around(app), *calls):
        # The lifespan and the middleware are methods of it; it is itself a dependency, the default.
        owner = each.owner if isinstance(each, Limit) else getattr(each, "__self__", each)
        if isinstance(owner, RateLimits):
            yield owner
