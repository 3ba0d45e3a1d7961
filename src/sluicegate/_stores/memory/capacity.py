"""The capacity of a memory store: whether a fresh key gets a state of its own, or has to share one.

The store calls it while holding the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluicegate._stores.memory.key_table import KeyTable

_SEARCH = 32  # keys and namespaces searched for an idle key before a fresh one has to share a state


class Capacity:
    """Room for ``max_keys`` keys in all tables together.

    Attributes:
        tables: The tables.
        is_full: Whether a key has ever found no room.
        promised: How many fresh keys of the current request were given room and have no state yet.
        shared: Whether the current request has a charge in a shared state.
    """

    __slots__ = ("_max_keys", "is_full", "promised", "shared", "tables")

    def __init__(self, max_keys: int) -> None:
        self.tables: list[KeyTable] = []
        self.is_full = self.shared = False
        self.promised = 0
        self._max_keys = max_keys

    def __len__(self) -> int:
        """Return the number of keys held, including idle ones that were not freed yet."""
        return sum([len(table.states) for table in self.tables])

    def has_room(self, now_ns: int) -> bool:
        """Return whether there is room for a fresh key. If there is none, look for an idle key to free."""
        if self._fits():
            return True
        steps = _SEARCH
        for table in sorted(self.tables, key=lambda table: table.next_sweep_ns()):
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
