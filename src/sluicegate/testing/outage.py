"""What a `FailingStore` has for limiters that decide without it: a fleet of one, which counts by the store's clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluicegate._core.clock import Clock
from sluicegate._core.keys import CounterKey, memory_key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge
from sluicegate._stores.fleet import Fleet
from sluicegate._stores.health import Health
from sluicegate._stores.known import Known
from sluicegate._stores.local import MAX_KEYS, Local
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.outage import Outage


def outage_by(clock: Clock | None, now_ns: Callable[[], int]) -> Outage:
    """Return the parts of a store that decide in an outage.

    Args:
        clock: The store's, as it was given.
        now_ns: Reads it, nanoseconds.
    """
    fleet = Fleet()
    fleet.learn(1, ())
    return Outage(Health(), fleet, _LocalByClock(fleet, clock, now_ns))


class _LocalByClock(Local):
    """Counts by the clock of the store: otherwise a test that moves it would not see units come back in an outage."""

    def __init__(self, fleet: Fleet, clock: Clock | None, now_ns: Callable[[], int]) -> None:
        self._clock = clock
        super().__init__(fleet)
        self.known = _KnownByClock(now_ns)

    def _start(self) -> None:
        super()._start()
        self._memory = MemoryStore(clock=self._clock, max_keys=MAX_KEYS)


class _KnownByClock(Known):
    """What the store last answered, and until when by its clock."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        super().__init__()
        self._now_ns = now_ns

    def learn(self, requests: Sequence[tuple[Charge, ...]], answers: Sequence[object]) -> None:
        now_ns = self._now_ns()
        for charges, verdicts in zip(requests, answers, strict=True):
            assert isinstance(verdicts, list)  # noqa: S101 - of the store in memory
            for (policy, key, _), verdict in zip(charges, verdicts, strict=True):
                used = policy.burst - verdict.remaining
                self._young[policy.namespace, memory_key(key)] = used, verdict.reset_after_us, now_ns

    def used(self, policy: Policy, key: CounterKey) -> int:
        units, reset_after_us, replied_ns = self._young.get((policy.namespace, memory_key(key)), (0, 0, 0))
        return max(units, 0) if self._now_ns() < replied_ns + reset_after_us * 1000 else 0
