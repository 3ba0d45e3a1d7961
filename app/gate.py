"""The gate: a limiter for each limited endpoint, all on one store, with their metrics and the state of the store."""

from __future__ import annotations

import logging
import time

from app.config import ENDPOINTS, MAX_UNITS, Settings
from app.metrics import Metrics
from sluicegate import AsyncLimiter, Decision, Policy, SlidingWindow, StoreError, open_async_store

logger = logging.getLogger(__name__)

# Taken from to prove that the store can be written. Its limit is never reached, as a denial would write nothing. By its
# name it meets no user's counter, and it is one stored key of at most two entries, which expires within seconds.
PROBE = SlidingWindow(MAX_UNITS, window=1, buckets=1, name="readyz", shared=True)

# What fails one request, and says nothing of the server: a key of another type, say.
_NOT_OF_THE_SERVER = {"other-data", "queue-full", "script-failed", "clock-stepped"}


class Gate:
    """The limiters of the service.

    The policies of a user and of all users have the same names in every limiter, so each is one counter for all
    endpoints. The policies of the endpoint are decided together with them, all or nothing.

    Attributes:
        ready: Whether the store has taken a write once, or the limits are off. It stays True: a later outage hits all
            instances alike, and is not a reason to take each of them out of service.
        metrics: What the service counts.
    """

    def __init__(self, settings: Settings) -> None:
        self.ready = not settings.rate_limit_enabled
        self._is_down = False
        self._store = open_async_store(settings.store)
        self._limiters = {
            path: AsyncLimiter(*settings.policies(path), store=self._store, enabled=settings.rate_limit_enabled)
            for path in ENDPOINTS
        }
        self._probe = AsyncLimiter(PROBE, store=self._store)
        policies = [policy for limiter in self._limiters.values() for policy in limiter.policies]
        self.metrics = Metrics(policies, self._store)
        if not settings.store:
            self.metrics.note_store(up=True)  # memory is never down

    def policies(self, path: str) -> tuple[Policy, ...]:
        """Return the policies that a request to this endpoint has to pass."""
        return self._limiters[path].policies

    async def take(self, path: str, key: str) -> Decision:
        """Decide one request to this endpoint. Raises the errors of `AsyncLimiter.take`."""
        limiter = self._limiters[path]
        began_at = time.perf_counter()
        try:
            decision = await self._take(limiter, key)
        except StoreError:
            self.metrics.count_error(limiter.policies)
            raise
        if decision.source != "bypass":
            self.metrics.count_decision(decision, time.perf_counter() - began_at)
        return decision

    async def check(self) -> None:
        """Prove once that the store takes what a request needs: a write. Nothing is taken from any user.

        Raises:
            StoreError: It does not.
        """
        if not self.ready:
            await self._take(self._probe, "readyz")

    async def aclose(self) -> None:
        """Close the limiters and the store."""
        for limiter in (*self._limiters.values(), self._probe):
            await limiter.aclose()
        await self._store.aclose()

    async def _take(self, limiter: AsyncLimiter, key: str) -> Decision:
        """Take one unit, and note what that says of the store."""
        try:
            decision = await limiter.take(key)
        except StoreError as error:
            if error.reason not in _NOT_OF_THE_SERVER:
                self._note_failure(error)
                self.metrics.note_store(up=False)
            raise
        if decision.source == "store":
            self.ready |= decision.allowed  # a denial writes nothing
            self._note_answer()
            self.metrics.note_store(up=True)
        else:
            self.metrics.follow()
        return decision

    def _note_answer(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.warning("the store is up again")

    def _note_failure(self, error: StoreError) -> None:
        # Once for an outage, not for each request. Only the first part of the message: the address is in the rest.
        if not self._is_down:
            self._is_down = True
            logger.warning("the store is down, %s: %s", error.reason, str(error).partition(": ")[0])
