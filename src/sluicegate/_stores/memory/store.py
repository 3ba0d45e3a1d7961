"""Counters in this process's memory: thread-safe, bounded, without a thread of their own.

Every call holds the lock for a few microseconds, and never across I/O. (Longer, once, by some 200 ns an entry when a
log of single units meets its first cost above 1, its first reservation or a clock step; by some 50 ns for each entry
that came after a charge that is settled; and by 0.1 to 0.2 ms when a fresh key looks for
room in a full store.) Idle keys are freed a few at a time by the calls that come anyway, so there is no pause and no
background thread.

A store that holds ``max_keys`` live keys counts fresh keys in a fixed set of overflow states, which they share by a
keyed hash: never over the limit, perhaps under. A throttled key is never freed to make room for sprayed keys.

Each namespace (an algorithm, a name and a window) has a `KeyTable`. For a sliding window a key takes some 150 bytes
beside its text, and 8 to 12 more for each further request of one unit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from sluicegate._core.clock import FURTHEST_US, Clock
from sluicegate._core.decision import Verdict
from sluicegate._core.errors import short_repr
from sluicegate._core.keys import memory_key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter, Request, Settlement
from sluicegate._stores.base import Reserved
from sluicegate._stores.memory.capacity import Capacity
from sluicegate._stores.memory.key_table import KeyTable
from sluicegate._stores.memory.lock import Lock
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork

logger = logging.getLogger(__name__)

_STEPS = 16  # keys visited by one call: what freeing can add to it
_SWEEP_NS = 1_000_000  # between two sweeps, where all calls take the fast path
_FULL = (
    "all %d keys of this memory store are live: fresh keys share counters from now on, and may be denied early; "
    "raise max_keys, or limit what a key can be"
)


class MemoryStore(ProcessLocal):
    """Counters in this process's memory. No dependency, no I/O.

    For one process only: several workers would each count by themselves. Use few policy names: what is kept for each
    lives as long as the store. A request made by a signal handler, for the very key whose request it interrupts,
    may be allowed beside that one, and may be forgotten if the key was idle and just being freed.

    Args:
        clock: What the time is read from; by default the process's monotonic clock, which never steps. (Windows on the
            calendar then follow the host's clock as it was set when the store was made. A clock of your own is taken to
            count from 1970.)
        max_keys: The most keys to hold, 1 or more, blocked keys not included. Beyond it idle keys are freed first; when
            all are live, fresh keys share a fixed set of counters (``overflowed`` counts those requests, and a warning
            is logged once).

    Raises:
        ValueError: ``max_keys`` is not a whole number of 1 or more.
        TypeError: ``clock`` has no method ``now_us``.

    Attributes:
        clock: As given.
        overflowed: Requests so far with a charge on a counter that keys share for want of room.
        repaired: States so far that a clock step had left in the future, and that were moved back (G8).
    """

    def __init__(self, *, clock: Clock | None = None, max_keys: int = 1_000_000) -> None:
        if not isinstance(max_keys, int) or isinstance(max_keys, bool) or max_keys < 1:
            raise ValueError(f"max_keys must be a whole number of 1 or more, got {max_keys!r}")
        if clock is not None and not callable(getattr(clock, "now_us", None)):
            raise TypeError(f"clock must have a method now_us(), as sluicegate.testing.ManualClock has, got {clock!r}")
        self.clock = clock
        self.overflowed = 0
        self._warned = False
        self._max_keys = max_keys
        # The fast path shares these four.
        self._lock = Lock()
        self._now_ns = time.monotonic_ns if clock is None else _nanoseconds(clock)
        self._steady = clock is None
        self._sweep_due_ns = 0
        self._since_1970_ns = time.time_ns() - self._now_ns() if clock is None else 0
        self._tables: dict[str, KeyTable] = {}
        self._in_order: list[KeyTable] = []  # the same tables, for readers without the lock: it only grows at its end
        self._capacity = Capacity(max_keys, self._in_order)
        self._next: KeyTable | None = None  # the table that is due first
        self._swept_ns = self._due_ns = 0  # when idle keys were last looked for, and when there can next be one
        renew_after_fork(self._lock)

    def decide(self, request: Request) -> list[Verdict]:
        """Decide one request; see `sluicegate.stores.Store.decide`. Never raises a `StoreError`."""
        verdicts = self._lock.run_locked(self._decide, request)
        if self._capacity.is_full and not self._warned:
            self._warn()
        return verdicts

    def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Decide requests in order; see `sluicegate.stores.ReservingStore.decide_line`. Never raises a `StoreError`."""
        answers = self._lock.run_locked(self._decide_line, requests)
        if self._capacity.is_full and not self._warned:
            self._warn()
        return answers

    def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:  # noqa: ARG002
        """Settle charges; see `sluicegate.stores.ReservingStore.settle`. Never raises a `StoreError`."""
        return self._lock.run_locked(self._settle, settlements)

    def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters; see `sluicegate.stores.Store.forget`. A counter that keys share for want of room stays."""
        self._lock.run_locked(self._forget, counters)

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Block counters; see `sluicegate.stores.Store.block`. A blocked key has its own state, even in a full one."""
        self._lock.run_locked(self._block, (counters, span_us * 1000))

    def keys(self, policy: Policy) -> list[tuple[str, ...]]:
        """Return the values that the counters of a policy count by, of each counter. Long ones are left out."""
        states = self._table_of(policy).states
        return [(name,) if isinstance(name, str) else name for name in list(states) if isinstance(name, (str, tuple))]

    def close(self) -> None:
        """Forget all keys. Safe to call twice; the store stays usable."""
        self._lock.run_locked(self._clear, None)

    async def aclose(self) -> None:
        """Forget all keys, as `close` does: so a program can hold this store where another one is for tasks."""
        self.close()

    @property
    def repaired(self) -> int:
        return sum(table.repaired for table in tuple(self._in_order))

    def __len__(self) -> int:
        """Return the number of keys held, including idle ones that were not freed yet."""
        return len(self._capacity)

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _warn(self) -> None:
        """Log that the store is full. Not under the lock: a log handler takes its time, and may call a limiter."""
        self._warned = True
        logger.warning(_FULL, self._max_keys)

    def _table_of(self, policy: Policy) -> KeyTable:
        """Return the table that a policy's counters are in."""
        return self._lock.run_locked(self._table, policy)

    # All of what follows runs under the lock.

    def _decide(self, request: Request) -> list[Verdict]:
        charges, commit, _, reserves = request
        now_ns = self._now_ns()
        if not self._swept_ns <= now_ns < self._due_ns:
            self._sweep(now_ns, 2 * len(charges))
        # All charges are checked before any is entered. The last is checked and entered in one step, if all before it
        # fit; they are entered then.
        places = self._capacity.places
        places.clear()
        verdicts: list[Verdict] = []
        last, allowed = len(charges) - 1 if commit else -1, 0
        for charge in charges:
            table = self._tables.get(charge.policy.namespace) or self._table(charge.policy)
            states, name = table.states, charge.key
            if name not in states:
                states, name = table.find(memory_key(name), now_ns, self._capacity)
            places.append((table, states, name))
            verdict = table.decide(states, name, charge, now_ns, allowed == last, commit)
            allowed += verdict[0]
            verdicts.append(verdict)
        if allowed > last > 0:
            for index in range(last):
                table, states, name = places[index]
                verdicts[index] = table.decide(states, name, charges[index], now_ns, True, False)
        if self._capacity.is_full and commit:
            self.overflowed += any(states is table.overflow for table, states, _ in places)
        if reserves and commit and allowed == len(charges):
            return Reserved(verdicts, [table.mark(states, name) for table, states, name in places])
        return verdicts

    def _decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        answers = []
        for request in requests:
            answer = self._decide(request)
            answers.append(answer)
            if type(answer) is not Reserved:
                break
        return answers

    def _settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        now_ns = self._now_ns()
        return [self._table(each.policy).settle(memory_key(each.key), each, now_ns) for each in settlements]

    def _sweep(self, now_ns: int, steps: int) -> None:
        """Free idle keys of the namespace that is due first: at least two a charge, so that freeing keeps up."""
        if self._next:
            if now_ns >= self._swept_ns:  # else the clock went back: find out below which table is due first
                self._next.sweep(now_ns, max(steps, _STEPS))
            self._plan_sweep(now_ns)

    def _plan_sweep(self, now_ns: int) -> None:
        """Choose the table to sweep next, and the time before which nothing is due."""
        if now_ns < self._swept_ns:  # a wheel that is ahead now is never due first: nothing else would turn it back
            for table in self._in_order:
                table.follow(now_ns)
        self._swept_ns = now_ns
        self._next = min(self._in_order, key=KeyTable.next_sweep_ns)
        self._due_ns = self._next.next_sweep_ns()
        self._sweep_due_ns = max(self._due_ns, now_ns + _SWEEP_NS)

    def _table(self, policy: Policy) -> KeyTable:
        table = self._tables.get(policy.namespace)
        if table is None:
            now_ns = self._now_ns()
            table = KeyTable(policy, now_ns, self._since_1970_ns, self._steady)
            self._tables[policy.namespace] = table
            self._in_order.append(table)
            self._plan_sweep(now_ns)
        return table

    def _forget(self, counters: Sequence[Counter]) -> None:
        for policy, key in counters:
            self._table(policy).forget(memory_key(key))

    def _block(self, given: tuple[Sequence[Counter], int]) -> None:
        counters, span_ns = given
        now_ns = self._now_ns()
        for policy, key in counters:
            self._table(policy).block(memory_key(key), now_ns, span_ns)

    def _clear(self, _: None) -> None:
        for table in self._in_order:
            table.clear()


def _nanoseconds(clock: Clock) -> Callable[[], int]:
    """Return a user's clock in nanoseconds. Its reading is checked here, before anything is charged by it."""

    def now_ns() -> int:
        now_us = clock.now_us()
        if not isinstance(now_us, int) or not -FURTHEST_US <= now_us <= FURTHEST_US:
            raise ValueError(
                f"clock.now_us() must be a whole number from {-FURTHEST_US} to {FURTHEST_US}, in microseconds, "
                f"got {short_repr(now_us)}"
            )
        return now_us * 1000

    return now_ns
