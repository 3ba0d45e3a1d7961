"""Counters in this process: thread-safe, bounded, with no thread of their own.

A lock guards all of it, held for microseconds and never across I/O (longer by some 30 ns an entry once, when a log of
single units meets its first dearer request, or a stepped clock). Idle keys are given back a few at a time by the
calls that come anyway (`_Table.sweep`), so there is no pause and no background thread. When the store holds `max_keys`
and all of them are live, a fresh key is counted in one of a fixed set of shared states, chosen by a keyed hash: never
over its limit, perhaps under, and a throttled key is never freed to make room for one that somebody sprays.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Sequence
from threading import RLock
from types import TracebackType
from typing import Any, NamedTuple, Self

from headgate.algorithms import BY_NAME, Allow, Bench, States
from headgate.clock import Clock
from headgate.decision import Verdict
from headgate.keys import Digest, checked_key, held
from headgate.policy import SlidingWindow, checked_cost
from headgate.store.forking import renew_after_fork
from headgate.store.protocol import Answer, Charge, Request

logger = logging.getLogger(__name__)

_SLOTS = 64  # of a window: a key is given back at most a 64th of its window late
_SHARED = 1024  # states for the keys that found no room, for each namespace
_STEP = 16  # keys looked at in one turn: what giving back can add to a call
_TURN_US = 1_000  # between two turns, where all calls are quick ones
_SEARCH = 64  # keys looked at for a place before a fresh key has to share
_CROWDED = (
    "all %d keys of this memory store are live: fresh keys share counters from now on, and may be denied early; "
    "raise max_keys, or limit what a key can be"
)


class MemoryStore:
    """Counters in this process's memory, decided under one lock. No dependency, no I/O.

    For one process only: with several workers each would count by itself.

    Args:
        clock: What the time is read from; by default the process's monotonic clock, which no step reaches.
        max_keys: How many keys are held at most, 1 or more. Beyond it idle keys go first; when all are live, fresh
            keys share a fixed set of counters (``overflowed`` counts the requests, a warning is logged once).

    Attributes:
        overflowed: Requests so far with a charge that was counted in a shared state.
        mended: States so far that a clock step had left in the future, and that were shifted back (G8).
    """

    def __init__(self, *, clock: Clock | None = None, max_keys: int = 1_000_000) -> None:
        if not isinstance(max_keys, int) or isinstance(max_keys, bool) or max_keys < 1:
            raise ValueError(f"max_keys must be a whole number of 1 or more, got {max_keys!r}")
        if clock is not None and not callable(getattr(clock, "now_us", None)):
            raise TypeError(f"clock must have a method now_us(), as headgate.testing.ManualClock has, got {clock!r}")
        self.overflowed = 0
        self.mended = 0
        self._crowded = self._told = False
        self._max_keys = max_keys
        # Reentrant: a signal's handler or a finalizer may ask while this thread is in here, and must not hang.
        self._lock = RLock()
        renew_after_fork(self)
        self._tables: dict[str, _Table] = {}
        self._served = 0
        self._bench = Bench(self._lock, clock.now_us, 1) if clock else Bench(self._lock, time.monotonic_ns, 1000)

    def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """Decide a batch; see `headgate.store.Store.decide`. Never raises a `StoreError`."""
        return list(self._verdicts(requests, charging=charging))

    def _verdicts(self, requests: Sequence[Request], *, charging: bool = True) -> list[list[Verdict]]:
        with self._lock:
            now_us = self._now_us()
            self._sweep(now_us)
            verdicts = [self._decide(request, now_us, charging) for request in requests]
        if self._crowded and not self._told:
            self._told = True  # not under the lock: what a log handler does takes its time, and may ask a limiter
            logger.warning(_CROWDED, self._max_keys)
        return verdicts

    def forget(self, policy: SlidingWindow, key: str) -> None:
        """Drop the counter of ``key`` under ``policy``. A key that shares its counter keeps it: it is not its own."""
        with self._lock:
            self._table(policy).forget(held(key))

    def bind(self, policy: SlidingWindow) -> Allow:
        """Return ``allow(key, cost)`` for one policy: the same answers as `decide`, in one step.

        It checks key and cost itself, and raises `InvalidKey` and `InvalidCost`.
        """

        def slow(key: str, cost: int = 1) -> bool:
            ((verdict,),) = self._verdicts(((Charge(policy, checked_key(key), checked_cost(cost)),),))
            return verdict.allowed

        with self._lock:
            table = self._table(policy)
        return table.algorithm.quick(policy, table.states, self._bench, slow) or slow

    def close(self) -> None:
        """Forget all keys."""
        with self._lock:
            for table in self._tables.values():
                table.clear()

    def __len__(self) -> int:
        """Count the keys held, idle ones that were not given back yet included."""
        with self._lock:
            return sum(len(table.states) for table in self._tables.values())

    def __bool__(self) -> bool:
        return True  # an empty store is a store all the same

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Renew the lock: a thread that is not in this process may have held it."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library does it

    # What follows is called with the lock held.

    def _now_us(self) -> int:
        return self._bench.ticks() // self._bench.ticks_per_us

    def _decide(self, request: Request, now_us: int, charging: bool) -> list[Verdict]:
        places: list[_Place] = []
        verdicts: list[Verdict] = []
        fresh = 0
        for policy, key, cost in request:
            place = self._place(policy, key, now_us, fresh)
            fresh += place.fresh
            algorithm, state = place.table.algorithm, place.states.get(place.name)
            if charging and state is not None:
                self.mended += algorithm.mend(state, policy, now_us)
            places.append(place)
            verdicts.append(algorithm.look(state, policy, now_us, cost))
        if not charging:
            return verdicts
        self.overflowed += any(place.shared for place in places)
        if not all(verdict.allowed for verdict in verdicts):
            return verdicts
        return [
            place.charge(policy, now_us, cost, verdict)
            for place, (policy, _, cost), verdict in zip(places, request, verdicts, strict=True)
        ]

    def _place(self, policy: SlidingWindow, key: str, now_us: int, fresh: int) -> _Place:
        """Find where a key is counted. ``fresh`` places were promised to this request already."""
        table = self._table(policy)
        name = held(key)
        if name in table.states:
            return _Place(table, table.states, name)
        # While its shared state is live, it may hold units of this very key: a state of its own would forget them.
        if table.shares(name, now_us) or not self._room(now_us, fresh):
            return _Place(table, table.shared, table.share(name))
        return _Place(table, table.states, name)

    def _room(self, now_us: int, fresh: int) -> bool:
        most = self._max_keys - fresh
        if len(self) < most:
            return True
        for table in self._tables.values():
            table.sweep(now_us, _SEARCH, early=True)
            if len(self) < most:
                return True
        self._crowded = True
        return False

    def _sweep(self, now_us: int) -> None:
        """Give back a few idle keys of one namespace, the next one at each turn."""
        self._bench.wake_us = now_us + _TURN_US
        tables = list(self._tables.values())
        if tables:
            self._served = (self._served + 1) % len(tables)
            tables[self._served].sweep(now_us, _STEP)

    def _table(self, policy: SlidingWindow) -> _Table:
        table = self._tables.get(policy.namespace)
        if table is None:
            table = self._tables[policy.namespace] = _Table(policy, self._now_us())
        return table


class _Table:
    """The states of one namespace, and the ring that finds the idle ones.

    A slot of the ring lists the keys that could be idle by then, a 64th of a window wide; each key is in one slot. When
    a slot is over, its keys are given back or, if charged since, entered where they are due now: so a key is looked at
    about once a window, whatever its traffic, and all keys due at once are still taken a few at a time.
    """

    __slots__ = ("_due", "_policy", "_ring", "_secret", "_slot", "_width_us", "algorithm", "shared", "states")

    def __init__(self, policy: SlidingWindow, now_us: int) -> None:
        self.algorithm = BY_NAME[policy.algorithm]
        self.states: States = {}
        self.shared: States = {}
        self._policy = policy
        self._secret = secrets.token_bytes(16)
        self._width_us = max(1, policy.window_us // _SLOTS)
        self._slot = now_us // self._width_us
        self._ring: list[list[str | Digest]] = [[] for _ in range(_SLOTS + 2)]
        self._due: list[str | Digest] = []

    def enter(self, name: str | Digest, at_us: int) -> None:
        """List a key in the slot in which it could be idle."""
        self._ring[at_us // self._width_us % len(self._ring)].append(name)

    def sweep(self, now_us: int, steps: int, *, early: bool = False) -> None:
        """Look at up to ``steps`` keys (or empty slots) that are due, and give back the idle ones.

        ``early`` looks into the slot that is not over yet, too: for when a place is needed at once.
        """
        idle_at = self.algorithm.idle_at
        for _ in range(steps):
            if not self._due and not self._next_slot(now_us, early):
                return
            if self._due:
                name = self._due.pop()
                state = self.states[name]
                at_us = now_us if state is None else idle_at(state, self._policy)
                if at_us > now_us + 2 * self._policy.window_us and self.algorithm.mend(state, self._policy, now_us):
                    at_us = idle_at(state, self._policy)  # the clock was stepped
                if at_us > now_us:
                    self.algorithm.trim(state, self._policy, now_us)
                    self.enter(name, at_us)
                else:
                    del self.states[name]

    def _next_slot(self, now_us: int, early: bool) -> bool:
        current = now_us // self._width_us
        # One round of the ring sees every key: whole rounds are passed over after a silence, and gone back after a step
        # of the clock, so that each slot has its turn whatever the pace of the calls.
        behind, round_ = current - self._slot, len(self._ring)
        if not -round_ <= behind <= 2 * round_:
            self._slot += behind // round_ * round_ - round_
        if self._slot > current or (self._slot == current and not early):
            return False
        place = self._slot % len(self._ring)
        self._due, self._ring[place] = self._ring[place], []
        self._slot += self._slot < current
        return True

    def forget(self, name: str | Digest) -> None:
        # Its place in the ring stays, so the key stays with it: `sweep` gives back both.
        if name in self.states:
            self.states[name] = None

    def clear(self) -> None:
        self.states.clear()
        self.shared.clear()
        self._due.clear()
        for slot in self._ring:
            slot.clear()

    def share(self, name: str | Digest) -> int:
        """Name the shared state of a key; keyed, so that nobody outside can aim at another key's."""
        raw = name.value if isinstance(name, Digest) else name.encode()
        digest = hashlib.blake2b(raw, key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest) % _SHARED

    def shares(self, name: str | Digest, now_us: int) -> bool:
        """Tell whether a key without a state of its own has a live shared one."""
        if not self.shared:
            return False
        state = self.shared.get(self.share(name))
        return state is not None and self.algorithm.idle_at(state, self._policy) > now_us


class _Place(NamedTuple):
    """Where one charge is counted."""

    table: _Table
    states: States
    name: Any  # what is held of the key, or the number of a shared state

    @property
    def shared(self) -> bool:
        return self.states is self.table.shared

    @property
    def fresh(self) -> bool:
        return not self.shared and self.name not in self.states

    def charge(self, policy: SlidingWindow, now_us: int, cost: int, seen: Verdict) -> Verdict:
        """Enter what was allowed, and say what the state is after it."""
        fresh = self.fresh
        state = self.table.algorithm.charge(self.states.get(self.name), policy, now_us, cost)
        self.states[self.name] = state
        idle_at_us = self.table.algorithm.idle_at(state, policy)
        if fresh:
            self.table.enter(self.name, idle_at_us)
        return Verdict(True, seen.remaining - cost, 0, idle_at_us - now_us)
