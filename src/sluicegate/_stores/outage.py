"""What a limiter needs of its store for an outage: its health, its fleet, and counters of this instance alone."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from sluicegate._stores.fleet import Fleet
from sluicegate._stores.health import Health
from sluicegate._stores.local import Local


class Outage(NamedTuple):
    """The parts of a store that stay when its server is gone. All limiters on one store share them.

    Attributes:
        health: Whether the server is up, and what happened to it.
        fleet: Who else counts there.
        local: What this instance has allowed by itself.
        repays: Whether the store takes out of ``local`` what is owed to it.
    """

    health: Health
    fleet: Fleet
    local: Local
    repays: bool = True


_of_others: WeakKeyDictionary[object, Outage] = WeakKeyDictionary()


def outage_of(store: object) -> Outage:
    """Return the parts of a store. A user's own has none: it gets some, without a breaker and without a fleet."""
    found = getattr(store, "outage", None)
    if isinstance(found, Outage):
        return found
    try:
        return _of_others.setdefault(store, _alone())
    except TypeError:  # it cannot be hashed, or not be referred to weakly: then each limiter has its own
        return _alone()


def _alone() -> Outage:
    fleet = Fleet()
    return Outage(Health(), fleet, Local(fleet), repays=False)
