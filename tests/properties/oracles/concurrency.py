"""Concurrency by brute force: the permits of all leases that have not ended are at most the limit."""

from __future__ import annotations

from properties.oracles.oracle import Oracle
from sluicegate import Concurrency


class ConcurrencyOracle(Oracle):
    """All leases by their marks: when each ends, and its permits."""

    def __init__(self) -> None:
        self.leases: dict[object, tuple[int, int]] = {}

    @property
    def newest(self) -> int:
        return max((ends for ends, _ in self.leases.values()), default=0)

    def level(self, policy: Concurrency, at: int) -> int:
        return sum(permits for ends, permits in self.leases.values() if ends > at)

    def spans(self, policy: Concurrency, now: int) -> list[int]:
        return sorted({0, *(max(ends - now, 0) for ends, _ in self.leases.values())})

    def charge(self, policy: Concurrency, now: int, cost: int) -> None:
        # No sooner than any other: when the clock steps back, leases still end in the order in which they were made.
        self._mark = object()
        self.leases = {**self.leases, self._mark: (max(now + policy.window_us, self.newest), cost)}

    def mark(self) -> object:
        return self._mark

    def settle(self, policy: Concurrency, now: int, cost: int, mark: object, actual: int) -> bool:
        if self.leases.get(mark, (now, 0))[0] <= now:
            return False
        if actual:
            self._bring_back(policy, now)
            self.leases = {**self.leases, mark: (max(now + policy.window_us, self.newest), cost)}
        else:
            self.leases = {other: lease for other, lease in self.leases.items() if other is not mark}
        return True

    def repair(self, policy: Concurrency, now: int) -> None:
        # A lease that has ended stays so when the clock steps back behind its end.
        self.leases = {mark: lease for mark, lease in self.leases.items() if lease[0] > now}
        self._bring_back(policy, now)

    def _bring_back(self, policy: Concurrency, now: int) -> None:
        if self.newest - now > 2 * policy.window_us:
            latest = now + policy.window_us
            self.leases = {mark: (min(ends, latest), permits) for mark, (ends, permits) in self.leases.items()}
