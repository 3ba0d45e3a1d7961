"""The metrics of the service, for Prometheus: of this process, or of all the workers of one server together."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from app.workers import Place
from sluicegate import Decision, Policy, StoreEvent

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the directory where the workers write what they count."""

_BUCKETS = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)


def share(place: Place) -> None:
    """Count together with the other workers, in files of their common directory; call it before a `Metrics` is made.

    Who sets the variable has chosen a directory: then prometheus_client has set itself up, with a file for each process
    id. Here the files are those of the worker's place. A worker that replaces another goes on where that one ended, and
    there are never more files than there were workers at a time.
    """
    if DIRECTORY not in os.environ:
        os.environ[DIRECTORY] = str(place.directory)
        values.ValueClass = values.MultiProcessValue(lambda: place.number)  # type: ignore[no-untyped-call]


class Metrics:
    """What the service counts. Keys are not labels: there are too many, and they identify users.

    Args:
        policies: The policies to count decisions by, in any order; some may come several times.
        store: The store, whose own counts are followed, if it has any.
    """

    def __init__(self, policies: Iterable[Policy], store: object) -> None:
        self._directory = os.environ.get(DIRECTORY)
        if self._directory:
            Path(self._directory).mkdir(parents=True, exist_ok=True)
        self._registry = registry = CollectorRegistry()
        self._decisions = Counter(
            "sluicegate_decisions",
            "Requests by policy and outcome: allowed by all policies, denied by this one, or error: no decision.",
            ("policy", "outcome"),
            registry=registry,
        )
        self._durations = Histogram(
            "sluicegate_decision_duration_seconds",
            "Time to decide a request, by source: the store, denial-cache for a remembered denial, or fallback without "
            "the store.",
            ("source",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._fallbacks = Counter(
            "sluicegate_fallback_decisions",
            "Requests decided without the store while it was down or slow, by mode: local or open.",
            ("mode",),
            registry=registry,
        )
        self._events = Counter(
            "sluicegate_store_events",
            "What happened to the store: down, up, state-lost (all counters), failed-over (perhaps the last ones).",
            ("kind",),
            registry=registry,
        )
        # There is one store for all workers, so what any of them found last is the truth.
        self._store_up = Gauge(
            "sluicegate_store_up",
            "Whether the store is up, as its last calls found: 1 or 0.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._followed = [
            _Followed(store, attribute, Counter(name, text, registry=registry))
            for attribute, name, text in (
                ("remembered", "sluicegate_denials_remembered", "Requests denied from memory, without a call."),
                ("repaired", "sluicegate_counters_repaired", "Counters repaired after a step of the store's clock."),
            )
        ]
        # Made in advance, so that a counter without events is a 0, and not a missing series.
        for policy in policies:
            for outcome in ("allowed", "denied", "error"):
                self._decisions.labels(policy.name, outcome)
        for source in ("store", "denial-cache", "fallback"):
            self._durations.labels(source)
        for mode in ("local", "open"):
            self._fallbacks.labels(mode)
        for kind in ("down", "up", "state-lost", "failed-over"):
            self._events.labels(kind)

    def count_decision(self, decision: Decision, seconds: float) -> None:
        """Count a request that was decided, and the time that it took."""
        outcome = "allowed" if decision.allowed else "denied"
        for part in decision.decisions:
            # In a denied request, a policy that had room was not charged: it counts nothing.
            if part.allowed == decision.allowed:
                self._decisions.labels(part.policy, outcome).inc()
        self._durations.labels(decision.source).observe(seconds)

    def count_error(self, policies: Iterable[Policy]) -> None:
        """Count a request without a decision."""
        for policy in policies:
            self._decisions.labels(policy.name, "error").inc()

    def count_fallback(self, mode: str) -> None:
        """Count a request that was decided without the store."""
        self._fallbacks.labels(mode).inc()

    def count_event(self, event: StoreEvent) -> None:
        """Count what happened to the store, and note whether it is up."""
        self._events.labels(event.kind).inc()
        if event.kind in ("down", "up"):
            self._store_up.set(event.kind == "up")

    def note_store(self, up: bool) -> None:
        """Note whether the store answered, and what it has counted itself."""
        self._store_up.set(up)
        self.follow()

    def follow(self) -> None:
        """Take over what the store has counted itself since the last time."""
        for each in self._followed:
            each.follow()

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        if not (self._directory and Path(self._directory).is_dir()):  # it may have been cleaned away
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, self._directory)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class _Followed:
    """A counter of what the store counts: only what is added to a counter of our own is shared with other workers."""

    def __init__(self, store: object, attribute: str, counter: Counter) -> None:
        self._store = store
        self._attribute = attribute
        self._counter = counter
        self._seen = 0

    def follow(self) -> None:
        now = getattr(self._store, self._attribute, 0)
        self._counter.inc(now - self._seen)
        self._seen = now
