"""What the service learns from its limits: each decision and each event of the store, for its metrics and /readyz."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from app.config import ENDPOINTS, MAX_UNITS, Settings
from app.metrics import Metrics
from app.start import join_workers
from sluicegate import AsyncLimiter, Decision, SlidingWindow, StoreError, StoreEvent
from sluicegate.stores import AsyncStore
from sluicegate.web.fastapi import Refusal

# Taken from to prove that the store can be written. Its limit is never reached, as a denial would write nothing. By its
# name it meets no user's counter, and it is one stored key of at most two entries, which expires within seconds.
PROBE = SlidingWindow(MAX_UNITS, window=1, buckets=1, name="readyz", shared=True)


class Watch:
    """Counts what is decided, and knows whether the service is ready.

    Args:
        settings: The settings of the service.
        store: The store of its limits.
    """

    def __init__(self, settings: Settings, store: AsyncStore) -> None:
        self._settings = settings
        self._mode = settings.rate_limit_on_outage
        self._is_proven = False  # whether the store has taken a write
        self._store = store
        self._probe = AsyncLimiter(PROBE, store=store, on_outage="raise", deadline=settings.rate_limit_deadline_seconds)

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics, made in the process that serves: a server may load the service, then fork its workers."""
        join_workers(self._settings)
        metrics = Metrics((policy for path in ENDPOINTS for policy in self._settings.policies(path)), self._store)
        if not self._settings.store:
            metrics.note_store(up=True)  # memory is never down
        return metrics

    def on_decision(self, decision: Decision, seconds: float) -> None:
        """Count a decision on a request, and note what it says of the store."""
        if decision.source == "bypass":
            return
        self._note(decision)
        if decision.source == "fallback":
            if self._mode == "closed":
                return  # to fail closed is no decision: the request is not over any limit
            self.metrics.count_fallback(self._mode)
        self.metrics.count_decision(decision, seconds)

    def on_denied(self, request: Any, refusal: Refusal) -> None:
        """Count a request that was refused without a decision. The answer stays the usual one."""
        if refusal.status == 503:
            self.metrics.count_error(self._settings.policies(request.scope["route"].path))

    def on_event(self, event: StoreEvent) -> None:
        """Count what happened to the store."""
        self.metrics.count_event(event)

    async def check(self) -> dict[str, str]:
        """Return the state of the service, if it is ready: decisions can be made, with the store or without it.

        With the store means that it takes what a request needs, a write. Nothing is taken from any user for that.

        Raises:
            StoreError: It is not ready: the store fails, and requests are not decided without it; or it refuses in a
                way that lasts until somebody changes a setting, and has never taken a write.
        """
        if self._settings.rate_limit_enabled and not (self._is_proven and self._probe.statistics().mode == "store"):
            try:
                self._note(await self._probe.take("readyz"))
            except StoreError as error:
                if self._mode in ("closed", "raise") or (error.lasts and not self._is_proven):
                    raise
                return {"status": "ready", "store": "down", "mode": self._mode}
        return {"status": "ready"}

    async def aclose(self) -> None:
        """Close the probe, and the store."""
        await self._probe.aclose()
        await self._store.aclose()

    def _note(self, decision: Decision) -> None:
        if decision.source == "store":
            self._is_proven |= decision.allowed  # a denial writes nothing
            self.metrics.note_store(up=True)
        else:
            self.metrics.follow()
