"""The capacity of a memory store: whether a fresh key gets a state of its own, or has to share one.

The store calls it while holding the lock.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Protocol

_SEARCH = 32  # keys and namespaces searched for an idle key before a fresh one has to share a state


class Table(Protocol):
    """What the capacity needs of a key table."""

    @property
    def states(self) -> Sized:
        """The keys that it holds."""

    def next_sweep_ns(self) -> int:
        """Return the time from which there may be something to free."""

    def sweep_early(self, now_ns: int, steps: int) -> int:
        """Visit keys that are due, and those that are due soon, and free the idle ones. Returns the steps left."""


class Capacity:
    """Room for ``max_keys`` keys in all ``tables`` together.

    Attributes:
        is_full: Whether a key has ever found no room.
        promised: How many fresh keys of the current request were given room and have no state yet.
        shared: Whether the current request has a charge in a shared state.
    """

    __slots__ = ("_max_keys", "_tables", "is_full", "promised", "shared")

    def __init__(self, max_keys: int, tables: Sequence[Table]) -> None:
        self._tables = tables
        self.is_full = self.shared = False
        self.promised = 0
        self._max_keys = max_keys

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
        if len(self) + self.promised >= self._max_keys:
            return False
        self.promised += 1
        return True
