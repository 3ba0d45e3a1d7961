"""The fast path of ``take``: one unit of one policy, for a key that the store holds, without a request around it.

Everything else goes the ordinary way, which gives the same answers (the tests compare them) in twice the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy
from sluicegate._core.request import charge_of

if TYPE_CHECKING:
    from sluicegate._stores.memory.store import MemoryStore

FastTake = Callable[[Any, Any], Verdict | None]
"""Takes a key and a cost; returns the verdict on them, or None if they go the ordinary way and nothing was taken."""


def fast_take(policy: Policy, store: MemoryStore) -> FastTake:
    """Return the fast path for a policy that counts by a plain key."""
    run_locked, clock_ns, table, one = store._lock.run_locked, store._now_ns, store._table_of(policy), 1

    def take(key: Any, cost: Any) -> Verdict | None:
        return run_locked(locked, key) if cost is one and type(key) is str else None

    def locked(key: str) -> Verdict | None:
        states = table.states
        if key not in states:  # a fresh one, for which there may be no room, or a long one, which is held by its digest
            return None
        now_ns = clock_ns()
        if not store._swept_ns <= now_ns < store._due_ns:  # there may be keys to free, or the clock stepped back
            return None
        return table.decide(states, key, charge_of((policy, key, 1)), now_ns, True, True)

    return take
