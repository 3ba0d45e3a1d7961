"""Counters in this process: thread-safe, bounded, with no thread of their own.

Calls take turns (`Bench.hold`) of a few microseconds, and never across I/O (longer by some 200 ns an entry once, when a
log of single units meets its first dearer request, or a stepped clock; and some 0.1 ms, or 0.2 with 200 namespaces,
where a fresh key looks for a place in a full store). Idle keys are given back a few at a time by the calls that come
anyway (`_Table.sweep`), so there is no pause and no background thread. When the store holds `max_keys` and all of them
are live, a fresh key is counted in one of a fixed set of shared states, chosen by a keyed hash and given back as keys
are: never over its limit, perhaps under, and a throttled key is never freed to make room for one that somebody sprays.

How it lies in memory: each namespace (an algorithm, a name and a window) has a `_Table`. That is a dict from what is
held of a key, itself or the digest of a long one, to its state, which the algorithm's own file describes; and a ring of
lists, in which each key stands once, under the time when it may be idle. A block lies around the state. For a sliding
window a key takes some 150 bytes beside its text, and 8 to 12 more for each further request of one unit.

A request takes the shortest of three ways that give the same answer: `quick`, which is the whole of ``allow`` in one
function; `step`, twice for each charge but the last; and `_whole_answer`, for all that is rare.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from types import TracebackType
from typing import Any, Self, cast

from sluicegate._algorithms import BY_NAME, Allow, Bench, State, States
from sluicegate._core.clock import FURTHEST_US, Clock
from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.errors import short_repr
from sluicegate._core.keys import CounterKey, Digest, key_bytes, memory_key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter
from sluicegate._stores.base import Answer, Request
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork

logger = logging.getLogger(__name__)

_SLOTS = 64  # of a window: a key is given back at most a 64th of its window late
_SHARED = 1024  # states for the keys that found no room, for each namespace
_STEP = 16  # keys looked at in one turn: what giving back can add to a call
_TURN_NS = 1_000_000  # between two turns, where all calls are quick ones
_SEARCH = 32  # keys and namespaces looked at for a place before a fresh key has to share
_CROWDED = (
    "all %d keys of this memory store are live: fresh keys share counters from now on, and may be denied early; "
    "raise max_keys, or limit what a key can be"
)


class MemoryStore(ProcessLocal):
    """Counters in this process's memory, decided one call after the other. No dependency, no I/O.

    For one process only: with several workers each would count by itself. Names of policies are to be few: what is kept
    for each is kept until the store is closed. A request from a signal's handler, of the very key whose request it
    interrupted, may be allowed beside that one; and it may be forgotten, if it is of an idle key that was just being
    given back.

    Args:
        clock: What the time is read from; by default the process's monotonic clock, which no step reaches. (Windows
            that begin at a date begin where that clock says so, as set by the host's own when the store is made. A
            clock of your own is taken to count from 1970.)
        max_keys: How many keys are held at most, 1 or more. Beyond it idle keys go first; when all are live, fresh
            keys share a fixed set of counters (``overflowed`` counts the requests, a warning is logged once).

    Attributes:
        overflowed: Requests so far with a charge that was counted in a shared state.
        repaired: States so far that a clock step had left in the future, and that were brought back (G8).
    """

    def __init__(self, *, clock: Clock | None = None, max_keys: int = 1_000_000) -> None:
        if not isinstance(max_keys, int) or isinstance(max_keys, bool) or max_keys < 1:
            raise ValueError(f"max_keys must be a whole number of 1 or more, got {max_keys!r}")
        if clock is not None and not callable(getattr(clock, "now_us", None)):
            raise TypeError(f"clock must have a method now_us(), as sluicegate.testing.ManualClock has, got {clock!r}")
        self.overflowed = 0
        self._crowded = self._told = False
        self._max_keys = max_keys
        ticks = time.monotonic_ns if clock is None else _nanoseconds(clock)
        self._bench = Bench(ticks, steady=clock is None)
        renew_after_fork(self._bench)
        self._origin_ns = time.time_ns() - ticks() if clock is None else 0
        self._tables: dict[str, _Table] = {}
        self._turns: list[_Table] = []  # the same, for who is not in the turn: a list only grows at its end
        self._first: _Table | None = None  # the one that is due first
        self._swept_ns = self._due_ns = 0  # idle keys were last looked for, and can next be found

    def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """Decide a batch; see `sluicegate._stores.Store.decide`. Never raises a `StoreError`."""
        answers = self._bench.hold(self._decide, (requests, charging))
        if self._crowded and not self._told:
            self._told = True  # not in the turn: what a log handler does takes its time, and may ask a limiter
            logger.warning(_CROWDED, self._max_keys)
        return answers

    def forget(self, counters: Sequence[Counter]) -> None:
        """See `sluicegate._stores.Store.forget`. A counter that is shared for want of room stays: others are in it."""
        self._bench.hold(self._forget, counters)

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """See `sluicegate._stores.Store.block`. A blocked key has a place of its own, also where there is no room."""
        self._bench.hold(self._block, (counters, span_us * 1000))

    def bind(self, policy: Policy, request: Callable[[Any, Any], Request]) -> Allow:
        """Return ``allow(key, cost)`` for one policy that counts by a plain key: as `decide` answers, in one step.

        ``request`` makes the request of a key and a cost, and checks both.
        """

        def slow(key: str, cost: int = 1) -> bool:
            ((verdict,),) = cast(list[list[Verdict]], self.decide((request(key, cost),)))
            return verdict.allowed

        if type(self).decide is not MemoryStore.decide:
            return slow
        table = self._bench.hold(self._table, policy)
        return table.algorithm.quick(policy, table.states, self._bench, slow) or slow

    def close(self) -> None:
        """Forget all keys."""
        self._bench.hold(self._clear, self._turns)

    @property
    def repaired(self) -> int:
        return sum(table.repaired for table in tuple(self._turns))

    def __len__(self) -> int:
        """Count the keys held, idle ones that were not given back yet included."""
        return sum(len(table.states) for table in tuple(self._turns))

    def __bool__(self) -> bool:
        return True  # an empty store is a store all the same

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What follows is called in a turn.

    def _decide(self, asked: tuple[Sequence[Request], bool]) -> list[Answer]:
        requests, charging = asked
        now_ns = self._bench.ticks()
        if not self._swept_ns <= now_ns < self._due_ns:
            self._sweep(now_ns, 2 * sum(map(len, requests)))
        return [self._answer(request, now_ns, charging) for request in requests]

    def _answer(self, request: Request, now_ns: int, charging: bool) -> list[Verdict]:
        # The last charge is entered when it is looked at, if there was room for all before it; then these are.
        allowed, last = 0, len(request) - 1 if charging else -1
        verdicts = []
        for policy, key, cost in request:
            table = self._tables.get(policy.namespace) or self._table(policy)
            at_ns = now_ns + table.origin_ns
            verdict = table.algorithm.step(table.states.get(key), policy, at_ns, cost, allowed == last)
            if verdict is None:
                return self._whole_answer(request, now_ns, charging)
            allowed += verdict[0]
            verdicts.append(verdict)
        if allowed > last > 0:
            for n in range(last):
                policy, key, cost = request[n]
                table = self._tables[policy.namespace]
                entered = table.algorithm.step(table.states[key], policy, now_ns + table.origin_ns, cost, True)
                verdicts[n] = cast(Verdict, entered)
        return verdicts

    def _whole_answer(self, request: Request, now_ns: int, charging: bool) -> list[Verdict]:
        places: list[_Place] = []
        verdicts: list[Verdict] = []
        fits, crowded = charging, False
        for policy, key, cost in request:
            table = self._tables.get(policy.namespace) or self._table(policy)
            algorithm, states, name, at_ns = table.algorithm, table.states, key, now_ns + table.origin_ns
            state, left_ns = states.get(key), 0
            if state is None:  # fresh, forgotten, or held by its digest
                states, name = self._place(table, memory_key(key), at_ns, places)
                state = states.get(name)
                crowded = crowded or states is table.shared
            place = table, states, name, at_ns
            if type(state) is _Blocked:
                state, left_ns = self._blocked(place, state, charging)
            if charging and state is not None and algorithm.mend(state, policy, at_ns):
                table.repaired += 1
            verdict = algorithm.look(state, policy, at_ns, cost)
            if left_ns:
                verdict = _under(-(-left_ns // 1000), verdict)
            if not verdict[0]:
                fits = False
            places.append(place)
            verdicts.append(verdict)
        if charging and crowded:
            self.overflowed += 1
        if fits:
            for n, (policy, _, cost) in enumerate(request):
                verdicts[n] = _charge(places[n], policy, cost, verdicts[n])
        return verdicts

    def _forget(self, counters: Sequence[Counter]) -> None:
        for policy, key in counters:
            self._table(policy).forget(memory_key(key))

    def _block(self, asked: tuple[Sequence[Counter], int]) -> None:
        counters, span_ns = asked
        now_ns = self._bench.ticks()
        for policy, key in counters:
            self._table(policy).block(memory_key(key), now_ns, span_ns)

    def _clear(self, tables: Sequence[_Table]) -> None:
        for table in tables:
            table.clear()

    def _blocked(self, place: _Place, blocked: _Blocked, charging: bool) -> tuple[State | None, int]:
        """Return the state under a block, and how much of the block is to come, ns; 0 when it is over."""
        _, states, name, now_ns = place
        left_ns = max(blocked.until_ns - now_ns, 0)
        if charging and not left_ns:
            states[name] = blocked.state
        return blocked.state, left_ns

    def _place(
        self, table: _Table, name: CounterKey | Digest, now_ns: int, taken: Sequence[_Place]
    ) -> tuple[States, Any]:
        """Find where a key is counted that seems to have no state. ``taken``: the other places of its request."""
        if name in table.states:
            return table.states, name
        # While its shared state is live, it may hold units of this very key: a state of its own would forget them.
        if table.shares(name, now_ns) or not self._room(now_ns - table.origin_ns, taken):
            return table.shared, table.share(name)
        return table.states, name

    def _room(self, now_ns: int, taken: Sequence[_Place]) -> bool:
        if self._fits(taken):
            return True
        left = _SEARCH
        for table in sorted(self._turns, key=_Table.due_at):
            before = len(table.states)
            left = table.search(now_ns, left) - 1
            if len(table.states) < before and self._fits(taken):
                return True
            if left <= 0:
                break
        self._crowded = True
        return False

    def _fits(self, taken: Sequence[_Place]) -> bool:
        # Anew after each search: it may have given back an idle key that this request is about to charge.
        promised = sum(states is table.states and name not in states for table, states, name, _ in taken)
        return len(self) + promised < self._max_keys

    def _sweep(self, now_ns: int, charges: int) -> None:
        """Give back a few idle keys of the namespace that is due for longest: more than the call can bring."""
        if self._first:
            if now_ns >= self._swept_ns:  # else the clock was stepped back, and which is first is to be seen
                self._first.sweep(now_ns, max(charges, _STEP))
            self._rest(now_ns)

    def _rest(self, now_ns: int) -> None:
        """Sweep no more until a slot of a ring is over, and then that ring."""
        if now_ns < self._swept_ns:  # a ring that is ahead now is never first, and nobody else would bring it back
            for table in self._turns:
                table.follow(now_ns)
        self._swept_ns = now_ns
        self._first = min(self._turns, key=_Table.due_at)
        self._due_ns = self._first.due_at()
        self._bench.wake_ns = max(self._due_ns, now_ns + _TURN_NS)

    def _table(self, policy: Policy) -> _Table:
        table = self._tables.get(policy.namespace)
        if table is None:
            now_ns = self._bench.ticks()
            table = self._tables[policy.namespace] = _Table(policy, now_ns, self._origin_ns)
            self._turns.append(table)
            self._rest(now_ns)
        return table


def _nanoseconds(clock: Clock) -> Callable[[], int]:
    """Return a clock of one's own in ns. What it reads is checked here, before anything is charged by it."""

    def ticks() -> int:
        now_us = clock.now_us()
        if not isinstance(now_us, int) or not -FURTHEST_US <= now_us <= FURTHEST_US:
            raise ValueError(
                f"clock.now_us() must be a whole number from {-FURTHEST_US} to {FURTHEST_US}, in microseconds, "
                f"got {short_repr(now_us)}"
            )
        return now_us * 1000

    return ticks


class _Blocked:
    """A state under a block: until then all is denied. It lies in the state's place.

    It has no length, so that the quick way through an algorithm leaves it alone.
    """

    __slots__ = ("state", "until_ns")

    def __init__(self, state: State | None, until_ns: int) -> None:
        self.state = state
        self.until_ns = until_ns


def _under(left_us: int, verdict: Verdict) -> Verdict:
    """Return what a verdict becomes while a block has ``left_us`` to come: denied, and no sooner than both allow."""
    _, _, retry_after_us, reset_after_us = verdict
    wait_us = NEVER if retry_after_us == NEVER else max(retry_after_us, left_us)
    return verdict_of((False, 0, wait_us, max(reset_after_us, left_us)))


class _Table:
    """The states of one namespace, and the ring that finds the idle ones.

    A slot of the ring lists the keys that could be idle by then, a 64th of a window wide; each key is in one slot. When
    a slot is over, its keys are given back or, if charged since, entered where they are due now: so a key is looked at
    about once a window, whatever its traffic, and all keys due at once are still taken a few at a time. Shared states
    are listed there, too, by their numbers.
    """

    __slots__ = (
        "_due",
        "_policy",
        "_ring",
        "_secret",
        "_slot",
        "_width_ns",
        "algorithm",
        "origin_ns",
        "repaired",
        "shared",
        "states",
    )

    def __init__(self, policy: Policy, now_ns: int, origin_ns: int) -> None:
        self.algorithm = BY_NAME[policy.algorithm]
        self.states: States = {}
        self.shared: States = {}
        self.repaired = 0
        # What the clock reads plus this is the time that states are kept by: dated ones count from 1970.
        self.origin_ns = origin_ns if self.algorithm.CALENDAR_TIME else 0
        self._policy = policy
        self._secret = secrets.token_bytes(16)
        self._width_ns = max(1, policy.window_us * 1000 // _SLOTS)
        self._slot = (now_ns + self.origin_ns) // self._width_ns
        self._ring: list[list[_Name]] = [[] for _ in range(_SLOTS + 2)]
        self._due: list[_Name] = []

    def enter(self, name: _Name, at_ns: int) -> None:
        """List a key in the slot in which it could be idle. Before it has a state: one not listed is held for good."""
        self._ring[at_ns // self._width_ns % len(self._ring)].append(name)

    def due_at(self) -> int:
        """Return the time, ns on the store's clock, from which there may be something to give back."""
        return (self._slot + (not self._due)) * self._width_ns - self.origin_ns

    def search(self, clock_ns: int, steps: int) -> int:
        """Do as `sweep` does, and then look into the slot that is not over yet: for when a place is needed at once."""
        left = self.sweep(clock_ns, steps)
        if not left:
            return 0
        self._take_slot()
        return self.sweep(clock_ns, left)

    def sweep(self, clock_ns: int, steps: int) -> int:
        """Look at up to ``steps`` keys that are due, and give back the idle ones.

        Returns:
            How many steps are left.
        """
        now_ns = clock_ns + self.origin_ns
        while steps and (self._due or self._next_slot(clock_ns)):
            steps -= 1
            name = self._due[-1]
            del self._due[-1]  # no call, as in `Bench`: a signal ends it before the two or in what is tried
            try:
                self._settle(name, now_ns)
            except BaseException:
                self.enter(name, now_ns)
                raise
        return steps

    def _settle(self, name: _Name, now_ns: int) -> None:
        """Give back a state if it is idle, and list it anew if it is not."""
        states = self.shared if isinstance(name, int) else self.states
        if name in states:  # or a signal ended its first charge between the list and the state
            at_ns = self._tidy(states[name], now_ns)
            if at_ns > now_ns:
                self.enter(name, at_ns)
            else:
                del states[name]

    def _tidy(self, state: State | None, now_ns: int) -> int:
        """Trim a state, and return the time from which it may be dropped."""
        blocked_ns = now_ns
        if isinstance(state, _Blocked):
            blocked_ns = state.until_ns
            state = state.state
        if state is None:
            return blocked_ns
        at_ns = self.algorithm.idle_at(state, self._policy)
        if at_ns > now_ns + 2000 * self._policy.window_us and self.algorithm.mend(state, self._policy, now_ns):
            self.repaired += 1
            at_ns = self.algorithm.idle_at(state, self._policy)  # the clock was stepped
        if at_ns > now_ns:
            self.algorithm.trim(state, self._policy, now_ns)
        return max(at_ns, blocked_ns)

    def _next_slot(self, clock_ns: int) -> bool:
        """Take the keys of the next slot that is over and has any; tell whether there is one."""
        for _ in range(self.follow(clock_ns)):
            self._take_slot()
            self._slot += 1
            if self._due:
                return True
        return False

    def _take_slot(self) -> None:
        place = self._slot % len(self._ring)
        if self._ring[place] and not self._due:  # which a signal's handler may have filled
            self._due, self._ring[place] = self._ring[place], []

    def follow(self, clock_ns: int) -> int:
        """Stay near the clock, and return how many slots are over that were not looked into.

        One round of the ring sees every key: whole rounds are passed over after a silence, and gone back after a step
        of the clock, so that each slot has its turn whatever the pace of the calls.
        """
        behind, round_ = (clock_ns + self.origin_ns) // self._width_ns - self._slot, len(self._ring)
        if not -round_ <= behind <= 2 * round_:
            ahead = behind // round_ * round_ - round_
            self._slot += ahead
            behind -= ahead
        return behind

    def block(self, name: CounterKey | Digest, clock_ns: int, span_ns: int) -> None:
        """Put a block on a key until ``span_ns`` from now, in place of any before; 0 takes it off."""
        now_ns = clock_ns + self.origin_ns
        state, fresh = self.states.get(name), name not in self.states
        if isinstance(state, _Blocked):
            state = state.state
        if not span_ns:
            if not fresh:
                self.states[name] = state
            return
        if fresh and self.shares(name, now_ns):
            state = deepcopy(self.shared[self.share(name)])  # which may hold units of this key: never forget them
        if fresh:
            self.enter(name, now_ns + span_ns)
        self.states[name] = _Blocked(state, now_ns + span_ns)

    def forget(self, name: CounterKey | Digest) -> None:
        # Its place in the ring stays, so the key stays with it: `sweep` gives back both.
        if name in self.states:
            self.states[name] = None

    def clear(self) -> None:
        self.states.clear()
        self.shared.clear()
        self._due.clear()
        for slot in self._ring:
            slot.clear()

    def share(self, name: CounterKey | Digest) -> int:
        """Name the shared state of a key; keyed, so that nobody outside can aim at another key's."""
        digest = hashlib.blake2b(key_bytes(name), key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest) % _SHARED

    def shares(self, name: CounterKey | Digest, now_ns: int) -> bool:
        """Tell whether a key without a state of its own has a live shared one."""
        if not self.shared:
            return False
        state = self.shared.get(self.share(name))
        return state is not None and self.algorithm.idle_at(state, self._policy) > now_ns


_Name = CounterKey | Digest | int
"""What a ring lists: what is held of a key, or the number of a shared state."""

_Place = tuple[_Table, States, Any, int]
"""Where one charge is counted: its table, the table's own or shared states, what is held of the key (or the number of a
shared state), and the time as that table counts it. A bare tuple: it is made for each charge."""


def _charge(place: _Place, policy: Policy, cost: int, verdict: Verdict) -> Verdict:
    """Enter what was allowed, and say what the state is after it."""
    table, states, name, now_ns = place
    before = states.get(name)
    charged = table.algorithm.step(before, policy, now_ns, cost, True)
    if charged is not None:
        return charged
    state, reset_after_us = table.algorithm.charge(before, policy, now_ns, cost)
    if state is not before:
        if before is None and name not in states:
            table.enter(name, table.algorithm.idle_at(state, policy))
        states[name] = state
    return verdict_of((True, verdict.remaining - cost, 0, reset_after_us))
