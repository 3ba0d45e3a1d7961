"""The gate: a limiter for each limited endpoint, all on one store, with their metrics and the state of the store."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter

from app.config import ENDPOINTS, Settings
from sluicegate import AsyncLimiter, Decision, Policy, StoreError, open_async_store

logger = logging.getLogger(__name__)


class Gate:
    """The limiters of the service.

    The policies of a user and of all users have the same names in every limiter, so each is one counter for all
    endpoints. The policies of the endpoint are decided together with them, all or nothing.

    Attributes:
        ready: Whether the store has answered once. It stays True: a later outage hits all instances alike, and is not a
            reason to take each of them out of service.
        registry: The metrics. Keys are not labels: there are too many, and they identify users.
    """

    def __init__(self, settings: Settings) -> None:
        self.ready = False
        self.registry = CollectorRegistry()
        self._is_down = False
        self._store = open_async_store(settings.store)
        self._limiters = {
            path: AsyncLimiter(*settings.policies(path), store=self._store, enabled=settings.rate_limit_enabled)
            for path in ENDPOINTS
        }
        self._decisions = Counter(
            "sluicegate_decisions",
            "Requests by policy and outcome: allowed by all policies, denied by this one, or error: no decision.",
            ("policy", "outcome"),
            registry=self.registry,
        )
        # Made in advance, so that a counter without events is a 0, and not a missing series.
        for limiter in self._limiters.values():
            for policy in limiter.policies:
                for outcome in ("allowed", "denied", "error"):
                    self._decisions.labels(policy.name, outcome)

    def policies(self, path: str) -> tuple[Policy, ...]:
        """Return the policies that a request to this endpoint has to pass."""
        return self._limiters[path].policies

    async def take(self, path: str, key: str) -> Decision:
        """Decide one request to this endpoint. Raises the errors of `AsyncLimiter.take`."""
        limiter = self._limiters[path]
        try:
            decision = await limiter.take(key)
        except StoreError as error:
            for policy in limiter.policies:
                self._decisions.labels(policy.name, "error").inc()
            self._note_failure(error)
            raise
        if decision.source != "bypass":
            self._count(decision)
            self._note_answer()
        return decision

    async def check(self) -> None:
        """Call the store, unless it has answered already. Nothing is taken. Raises `StoreError` if it does not answer.

        With the limits off the store is not called, as no request needs it.
        """
        if not self.ready:
            await next(iter(self._limiters.values())).peek("readyz")
            self._note_answer()

    async def aclose(self) -> None:
        """Close the limiters and the store."""
        for limiter in self._limiters.values():
            await limiter.aclose()
        await self._store.aclose()

    def _count(self, decision: Decision) -> None:
        outcome = "allowed" if decision.allowed else "denied"
        for part in decision.decisions:
            # In a denied request, a policy that had room was not charged: it counts nothing.
            if part.allowed == decision.allowed:
                self._decisions.labels(part.policy, outcome).inc()

    def _note_answer(self) -> None:
        self.ready = True
        if self._is_down:
            self._is_down = False
            logger.warning("the store is up again")

    def _note_failure(self, error: StoreError) -> None:
        # Once for an outage, not for each request. Only the first part of the message: the address is in the rest.
        if not self._is_down:
            self._is_down = True
            logger.warning("the store is down, %s: %s", error.reason, str(error).partition(": ")[0])
