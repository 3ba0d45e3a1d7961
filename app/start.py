"""What the service does and logs when it starts: its limits, settings without effect, and the workers beside it."""

from __future__ import annotations

import logging
import os

from app import workers
from app.config import ENDPOINTS, Settings, strangers
from app.metrics import DIRECTORY, share
from sluicegate import SlidingWindow

server_log = logging.getLogger("uvicorn.error")  # the logger that is set up to show more than warnings


def show_warnings() -> None:
    """Log warnings of the library, like those of the service, where a server shows nothing but its own log."""
    logging.basicConfig(format="%(levelname)s:  %(message)s")
    logging.captureWarnings(True)


def log_settings(settings: Settings) -> None:
    """Log which limits are in force, and which variables have no effect."""
    server_log.info("%s", _summary(settings))
    for name in strangers(os.environ):
        server_log.warning("%s is not a setting of this service", name)
    if "REDIS_URL" in os.environ and not settings.store:
        server_log.warning("REDIS_URL is set but not used: RATE_LIMIT_BACKEND is memory")


def join_workers(settings: Settings) -> None:
    """Join the other workers of this server, if it has any: their metrics are one, but their counts in memory are not.

    The second worker to start warns of that. Without a place among them no worker knows of the others, and each warns.
    """
    server = workers.supervisor()
    if server is None:
        return
    is_to_warn = True
    try:
        place = workers.place(server)
    except OSError as error:
        server_log.warning(
            "this worker cannot find the others of its server: %s. Each has /metrics of its own, unless %s is set to a "
            "directory for all of them",
            error,
            DIRECTORY,
        )
    else:
        share(place)
        is_to_warn = place.number > 1 and place.is_first("warned")
    if is_to_warn and settings.rate_limit_enabled and not settings.store:
        server_log.warning(
            "each worker counts by itself, in its own memory, so N workers allow N times the limit: set "
            "RATE_LIMIT_BACKEND=redis to count together"
        )


def _summary(settings: Settings) -> str:
    if not settings.rate_limit_enabled:
        return "the limits are off: every request is allowed and none is counted"
    where = "on Redis" if settings.store else "in memory, for this process only"
    limits = [_describe(settings.policy, "requests of each user")]
    limits += [_describe(policy, "of all users together") for policy in settings.global_policies]
    limits += [
        _describe(policy, f"of each user on {path}")
        for path in ENDPOINTS
        for policy in settings.endpoint_policies(path)
    ]
    return f"counting {where}: {', '.join(limits)}"


def _describe(policy: SlidingWindow, what: str) -> str:
    window = f"{policy.window:.6f}".rstrip("0").rstrip(".")
    return f"{policy.limit} {what} in any {window} s"
