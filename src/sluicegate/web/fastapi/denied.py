"""The exception that ends a request which is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from sluicegate.web.answers import Refusal

if TYPE_CHECKING:
    from sluicegate.web.fastapi.rate_limits import RateLimits


class Denied(HTTPException):
    """Raised to end a request: over a limit (429), without a decision (503), or without a valid key (400).

    It is answered without a handler of the app's. A handler of your own for it, or for its status, comes first.

    Attributes:
        refusal: Why.
        owner: The limits that refused it.
    """

    def __init__(self, refusal: Refusal, owner: RateLimits) -> None:
        super().__init__(refusal.status, refusal.problem.detail, dict(refusal.headers))
        self.refusal = refusal
        self.owner = owner
