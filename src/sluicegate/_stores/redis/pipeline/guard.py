"""Keeps callers from a server that is down, and takes note of what becomes of their calls."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate._core.errors import StoreError
from sluicegate._stores.health import Health
from sluicegate._stores.redis.diagnoses import NOT_OF_THE_SERVER
from sluicegate._stores.redis.pipeline.waiter import Effect


class Guard:
    """Stands in front of a pipeline.

    Args:
        health: The health of the store.
        start_probing: Called when the breaker has opened, and again if no probe comes.
        overdue: Seconds by which a probe may be late.

    Attributes:
        health: As given.
    """

    __slots__ = ("_overdue", "_start_probing", "health")

    def __init__(self, health: Health, start_probing: Callable[[], None], overdue: float) -> None:
        self.health = health
        self._start_probing = start_probing
        self._overdue = overdue

    def admit(self, effect: Effect) -> int:
        """Return how many failures there have been before this call.

        Raises:
            StoreUnavailable: The breaker is open: no call is made.
        """
        health = self.health
        if health.is_open:
            if health.is_overdue(self._overdue):  # an exception of a signal handler, or no thread to be had
                self._start_probing()
            raise health.error(effect.none)
        return health.failures

    def failed(self, error: StoreError, seen: int, within: float) -> None:
        """Take note of a failed call, which began when there had been ``seen`` failures, and could last ``within``."""
        if error.reason in NOT_OF_THE_SERVER:
            self.health.note_failure_of_one(error)
        elif self.health.failed(error, seen, within):
            self._start_probing()  # before anything that may raise
            self.health.report_down(error)
