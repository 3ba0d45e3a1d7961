"""Rate limits in FastAPI: ``RateLimits``, and who a client is. This file only re-exports."""

try:
    import fastapi as _fastapi  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "sluicegate.web.fastapi needs FastAPI: pip install 'sluicegate[fastapi]'", name="fastapi"
    ) from error

from sluicegate.web.answers import Refusal
from sluicegate.web.ban import Ban
from sluicegate.web.banned import Banned
from sluicegate.web.fastapi.denied import Denied
from sluicegate.web.fastapi.find import rate_limits_of
from sluicegate.web.fastapi.rate_limits import RateLimits
from sluicegate.web.fastapi.reservation import Reservation
from sluicegate.web.fastapi.table import LimitInForce, RouteLimits
from sluicegate.web.identity import ClientAddress, client_address, cookie, header, user

__all__ = [
    "Ban",
    "Banned",
    "ClientAddress",
    "Denied",
    "LimitInForce",
    "RateLimits",
    "Refusal",
    "Reservation",
    "RouteLimits",
    "client_address",
    "cookie",
    "header",
    "rate_limits_of",
    "user",
]
