"""What a limiter needs of its store for an outage: its health, its fleet, and counters of this instance alone."""

from __future__ import annotations

from typing import NamedTuple

from sluicegate._stores.fleet import Fleet
from sluicegate._stores.health import Health
from sluicegate._stores.local import Local


class Outage(NamedTuple):
    """The parts of a store that stay when its server is gone. All limiters on one store share them.

    Attributes:
        health: Whether the server is up, and what happened to it.
        fleet: Who else counts there.
        local: What this instance has allowed by itself.
    """

    health: Health
    fleet: Fleet
    local: Local

    @classmethod
    def alone(cls) -> Outage:
        """Return the parts for a store that has none of its own: it knows of no fleet, and has no breaker."""
        fleet = Fleet()
        return cls(Health(), fleet, Local(fleet))


def outage_of(store: object) -> Outage:
    """Return the parts of a store, or new ones."""
    found = getattr(store, "outage", None)
    return found if isinstance(found, Outage) else Outage.alone()
