"""The gate: a limiter for each limited endpoint, all on one store; what they decided, and whether the store answers."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter

from app.config import ENDPOINTS, Settings
from sluicegate import AsyncLimiter, Decision, Policy, StoreError, open_async_store

logger = logging.getLogger(__name__)


class Gate:
    """The limiters as the service uses them.

    The policies of the user and of all users have one name on each of them, so they count together; with them those of
    the endpoint are decided, all or nothing.

    Attributes:
        ready: Whether the store has answered once. It stays so: an outage that meets all instances alike is no reason
            to take each of them out of service.
        registry: The metrics. None of them has a key for a label: there are too many, and they are users.
    """

    def __init__(self, settings: Settings) -> None:
        self.ready = False
        self.registry = CollectorRegistry()
        self._away = False
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
        # So that a rate of 0 is a 0, and not a series that is missing.
        for limiter in self._limiters.values():
            for policy in limiter.policies:
                for outcome in ("allowed", "denied", "error"):
                    self._decisions.labels(policy.name, outcome)

    def policies(self, path: str) -> tuple[Policy, ...]:
        """Return the policies that a request to this endpoint has to pass."""
        return self._limiters[path].policies

    async def take(self, path: str, key: str) -> Decision:
        """Decide one request to this endpoint. Raises what `AsyncLimiter.take` does."""
        limiter = self._limiters[path]
        try:
            decision = await limiter.take(key)
        except StoreError as error:
            for policy in limiter.policies:
                self._decisions.labels(policy.name, "error").inc()
            self._lost(error)
            raise
        if decision.source != "bypass":
            self._count(decision)
            self._answered()
        return decision

    async def check(self) -> None:
        """Ask the store, if it has not answered yet; nothing is taken. Raises `StoreError` if it does not answer.

        With the limits off it is not asked, as no request needs it.
        """
        if not self.ready:
            await next(iter(self._limiters.values())).peek("readyz")
            self._answered()

    async def aclose(self) -> None:
        """Close the limiters and the store."""
        for limiter in self._limiters.values():
            await limiter.aclose()
        await self._store.aclose()

    def _count(self, decision: Decision) -> None:
        outcome = "allowed" if decision.allowed else "denied"
        for part in decision.decisions:
            # A policy that had room in a denied request was not charged: nothing happened to it.
            if part.allowed == decision.allowed:
                self._decisions.labels(part.policy, outcome).inc()

    def _answered(self) -> None:
        self.ready = True
        if self._away:
            self._away = False
            logger.warning("the store answers again")

    def _lost(self, error: StoreError) -> None:
        # Once for an outage, not for each request; and never the message, which says where the store is.
        if not self._away:
            self._away = True
            logger.warning("no answer from the store: %s, %s", type(error).__name__, type(error.__cause__).__name__)
