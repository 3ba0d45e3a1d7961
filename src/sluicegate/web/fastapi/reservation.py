"""What `RateLimits.reserve` gives an endpoint: a charge whose amount it settles before its response ends."""

from __future__ import annotations

from collections.abc import Mapping

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidCost, ReservationError, short_repr
from sluicegate._core.policies import Cost
from sluicegate._core.policy import MAX_UNITS
from sluicegate.web.fastapi.limit import Limit
from sluicegate.web.fastapi.route_exchange import RouteExchange


class Reservation:
    """A charge that the endpoint settles. It may be called in any thread, so sync endpoints can use it, too.

    What is noted is sent before the last byte of the response.
    """

    def __init__(self, exchange: RouteExchange, limit: Limit) -> None:
        self._exchange = exchange
        self._names = exchange.policies_of(limit)

    @property
    def decision(self) -> Decision:
        """The decision on the estimate."""
        decision: Decision = self._exchange.decision  # type: ignore[assignment] # it was made
        return decision

    def settle(self, actual: Cost) -> None:
        """Note what was used: it becomes the charge. The last call counts.

        Args:
            actual: Units, a whole number from 0 to 10^11; or a mapping from policy names to such numbers.

        Raises:
            InvalidCost: Not such a number, or for an unknown policy. Nothing was noted.
            ReservationError: The response has ended. Nothing was noted.
        """
        if self._exchange.is_over:
            raise ReservationError("the response has ended, nothing was noted: settle before its last byte")
        units = dict(actual) if isinstance(actual, Mapping) else dict.fromkeys(self._names, actual)
        for name, each in units.items():
            if (
                name not in self._names
                or isinstance(each, bool)
                or not isinstance(each, int)
                or not 0 <= each <= MAX_UNITS
            ):
                raise InvalidCost(
                    actual,
                    message=f"what was used must be a whole number from 0 to {MAX_UNITS}, or a mapping to such numbers "
                    f"from {', '.join(self._names)}, got {short_repr(actual)}",
                )
        for name, each in units.items():
            self._exchange.settle(name, each)

    def cancel(self) -> None:
        """Give the whole estimate back, as ``settle(0)`` does."""
        self.settle(0)
