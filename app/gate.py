"""The gate: a limiter for each limited endpoint, all on one store, with their metrics and the state of the store."""

from __future__ import annotations

import time

from app.config import ENDPOINTS, MAX_UNITS, Settings
from app.metrics import Metrics
from sluicegate import (
    AsyncLimiter,
    Decision,
    Policy,
    SlidingWindow,
    StoreError,
    StoreEvent,
    StoreUnavailable,
    open_async_store,
)

# Taken from to prove that the store can be written. Its limit is never reached, as a denial would write nothing. By its
# name it meets no user's counter, and it is one stored key of at most two entries, which expires within seconds.
PROBE = SlidingWindow(MAX_UNITS, window=1, buckets=1, name="readyz", shared=True)


class Gate:
    """The limiters of the service.

    The policies of a user and of all users have the same names in every limiter, so each is one counter for all
    endpoints. The policies of the endpoint are decided together with them, all or nothing.

    Attributes:
        metrics: What the service counts.
    """

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.rate_limit_enabled
        self._on_outage = settings.rate_limit_on_outage
        self._is_proven = False  # whether the store has taken a write
        self._store = open_async_store(settings.store, timeout=max(settings.rate_limit_deadline_seconds, 0.5))
        self._limiters = {
            path: AsyncLimiter(
                *settings.policies(path),
                store=self._store,
                enabled=settings.rate_limit_enabled,
                on_outage=settings.rate_limit_on_outage,
                deadline=settings.rate_limit_deadline_seconds,
            )
            for path in ENDPOINTS
        }
        self._probe = AsyncLimiter(
            PROBE,
            store=self._store,
            on_outage="raise",
            deadline=settings.rate_limit_deadline_seconds,
            on_event=self._on_store_event,
        )
        policies = [policy for limiter in self._limiters.values() for policy in limiter.policies]
        self.metrics = Metrics(policies, self._store)
        if not settings.store:
            self.metrics.note_store(up=True)  # memory is never down

    def policies(self, path: str) -> tuple[Policy, ...]:
        """Return the policies that a request to this endpoint has to pass."""
        return self._limiters[path].policies

    async def take(self, path: str, key: str) -> Decision:
        """Decide one request to this endpoint.

        Raises:
            StoreError: The store made no decision, and without it there is none. To fail closed is no decision, either:
                the request is not over any limit.
        """
        limiter = self._limiters[path]
        began_at = time.perf_counter()
        try:
            decision = await self._take(limiter, key)
            if decision.source == "fallback" and self._on_outage == "closed":
                raise StoreUnavailable("the store is down, and every request is denied meanwhile")
        except StoreError:
            self.metrics.count_error(limiter.policies)
            raise
        if decision.source == "fallback":
            self.metrics.count_fallback(self._on_outage)
        if decision.source != "bypass":
            self.metrics.count_decision(decision, time.perf_counter() - began_at)
        return decision

    async def check(self) -> dict[str, str]:
        """Return the state of the service, if it is ready: decisions can be made, with the store or without it.

        With the store means that it takes what a request needs, a write. Nothing is taken from any user for that.

        Raises:
            StoreError: It is not ready: the store fails, and requests are not decided without it; or it refuses in a
                way that lasts until somebody changes a setting, and has never taken a write.
        """
        if self._enabled and not (self._is_proven and self._probe.statistics().mode == "store"):
            try:
                await self._take(self._probe, "readyz")
            except StoreError as error:
                if self._on_outage in ("closed", "raise") or (error.lasts and not self._is_proven):
                    raise
                return {"status": "ready", "store": "down", "mode": self._on_outage}
        return {"status": "ready"}

    async def aclose(self) -> None:
        """Close the limiters and the store."""
        for limiter in (*self._limiters.values(), self._probe):
            await limiter.aclose()
        await self._store.aclose()

    async def _take(self, limiter: AsyncLimiter, key: str) -> Decision:
        """Take one unit, and note what that says of the store."""
        decision = await limiter.take(key)
        if decision.source == "store":
            self._is_proven |= decision.allowed  # a denial writes nothing
            self.metrics.note_store(up=True)
        else:
            self.metrics.follow()
        return decision

    def _on_store_event(self, event: StoreEvent) -> None:
        self.metrics.count_event(event)
