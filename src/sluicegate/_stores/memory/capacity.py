"""The capacity of a memory store: whether a fresh key gets a state of its own, or is counted in an overflow state.

The store calls it while holding the lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

_SEARCH = 32  # keys and namespaces searched for an idle key before a fresh one overflows


class Table(Protocol):
    """What the capacity needs of a key table."""

    @property
    def states(self) -> Mapping[Any, Any]:
        """The keys that have a state of their own."""

    def next_sweep_ns(self) -> int:
        """Return the time from which there may be something to free."""

    def sweep_early(self, now_ns: int, steps: int) -> int:
        """Visit keys that are due, and those that are due soon, and free the idle ones. Returns the steps left."""


class Capacity:
    """Room for ``max_keys`` keys in all ``tables`` together.

    Attributes:
        is_full: Whether a key has ever found no room.
        places: Where the charges of the current request are counted, as far as that was found: a table, its own states
            or its overflow, and the name of a state in them.
    """

    __slots__ = ("_max_keys", "_tables", "is_full", "places")

    def __init__(self, max_keys: int, tables: Sequence[Table]) -> None:
        self.is_full = False
        self.places: list[tuple[Any, Any, Any]] = []
        self._max_keys = max_keys
        self._tables = tables

    def __len__(self) -> int:
        """Return the number of keys held, including idle ones that were not freed yet."""
        return sum([len(table.states) for table in self._tables])

    def has_room(self, now_ns: int) -> bool:
        """Return whether there is room for a fresh key. If there is none, look for an idle key to free."""
        if self._fits():
            return True
        steps = _SEARCH
        for table in sorted(self._tables, key=lambda table: table.next_sweep_ns()):
            before = len(table.states)
            steps = table.sweep_early(now_ns, steps) - 1
            if len(table.states) < before and self._fits():
                return True
            if steps <= 0:
                break
        self.is_full = True
        return False

    def _fits(self) -> bool:
        # Keys of this request that have no state yet will get one. Recounted after a search, which may have freed an
        # idle key that the request is about to charge.
        promised = sum(states is table.states and name not in states for table, states, name in self.places)
        return len(self) + promised < self._max_keys
