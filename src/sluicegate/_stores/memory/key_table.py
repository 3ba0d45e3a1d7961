"""The key table: the states of one namespace (an algorithm, a name and a window), and when they expire.

The store calls it while holding the lock.
"""

from __future__ import annotations

import hashlib
import secrets
from copy import deepcopy
from typing import Any

from sluicegate._algorithms import BY_NAME, State
from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.keys import CounterKey, Digest, key_bytes
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Mark, Settlement
from sluicegate._stores.memory.capacity import Capacity
from sluicegate._stores.memory.timing_wheel import TimingWheel

_OVERFLOW = 1024  # states of a table for the keys that find the store full

States = dict[Any, State | None]
"""States by key (or the digest of a long one, or the number of an overflow state); None for one that was forgotten."""

_Name = CounterKey | Digest | int


class Blocked:
    """A state under a block: until ``until_ns`` every request is denied. It takes the state's place in the table.

    It has no length, so the fast path cannot mistake it for a log.
    """

    __slots__ = ("state", "until_ns")

    def __init__(self, state: State | None, until_ns: int) -> None:
        self.state = state
        self.until_ns = until_ns


class KeyTable:
    """The states of one namespace, and when they expire.

    Times given to its methods are those of the store's clock; states are kept in the algorithm's own time, which counts
    from 1970 where windows lie on the calendar.

    Args:
        policy: One of the namespace. Others of it may differ in their limit.
        now_ns: The time.
        since_1970_ns: What to add to the store's clock for the time since 1970.
        steady: Whether the store's clock never steps.

    Attributes:
        states: The states that keys have of their own.
        overflow: The states, by number, of keys that found the store full and share them. A key's is chosen by a keyed
            hash, so that nobody outside can aim at another key's.
        repaired: States so far that a clock step had left in the future (G8).
    """

    __slots__ = (
        "_algorithm",
        "_offset_ns",
        "_policy",
        "_secret",
        "_steady",
        "_wheel",
        "overflow",
        "repaired",
        "states",
    )

    def __init__(self, policy: Policy, now_ns: int, since_1970_ns: int, steady: bool) -> None:
        self.states: States = {}
        self.overflow: States = {}
        self.repaired = 0
        self._algorithm = BY_NAME[policy.algorithm]
        self._policy = policy
        self._offset_ns = since_1970_ns if self._algorithm.CALENDAR_TIME else 0
        self._steady = steady
        self._secret = secrets.token_bytes(16)
        self._wheel: TimingWheel[_Name] = TimingWheel(policy.window_ns, now_ns + self._offset_ns)

    def find(self, name: CounterKey | Digest, now_ns: int, capacity: Capacity) -> tuple[States, Any]:
        """Return where a key is counted that has no state, or is long: in its own state, or in an overflow state.

        Returns:
            The table's own states or its overflow, and the name of the state in them.
        """
        if name in self.states:
            return self.states, name
        # While an overflow state is live it may hold units of this very key; a state of its own would forget them.
        if self._overflows(name, now_ns + self._offset_ns) or not capacity.has_room(now_ns):
            return self.overflow, self._overflow_number(name)
        return self.states, name

    def decide(self, states: States, name: _Name, charge: Charge, now_ns: int, commit: bool, repair: bool) -> Verdict:
        """Decide one charge, at its place.

        Args:
            states: Its own states, or the overflow.
            name: The state in them.
            charge: The policy and the cost.
            now_ns: The time.
            commit: Whether to enter the charge if it is allowed.
            repair: Whether to repair a state that a clock step left in the future, and to lift a block that is over.
                Without this and ``commit`` nothing changes.
        """
        policy, _, cost = charge
        at_ns = now_ns + self._offset_ns
        state = states.get(name)
        if type(state) is Blocked:
            if state.until_ns > at_ns:
                return self._decide_blocked(state, charge, at_ns, commit, repair)
            state = state.state
            if repair:
                states[name] = state
        repair = repair and state is not None
        if repair and not self._steady:
            self._repair(state, policy, at_ns)
        decided, verdict = self._algorithm.decide(state, policy, at_ns, cost, commit)
        if repair and self._steady and not verdict[0]:
            self._repair(state, policy, at_ns)  # no clock step, but it may have to be kept for longer under this policy
        if decided is not state:
            if state is None and name not in states:
                self._wheel.schedule(name, self._algorithm.expires_at_ns(decided, policy))
            states[name] = decided
        return verdict

    def mark(self, states: States, name: _Name) -> Mark:
        """Return where the charge is that was just entered in a state."""
        states[name], mark = self._algorithm.mark(states[name])
        return mark

    def settle(self, name: CounterKey | Digest, settlement: Settlement, now_ns: int) -> bool:
        """Make a charge what it turned out to be, be it in a state of its own or in an overflow state.

        Returns whether it was there.
        """
        if self._settle_in(self.states, name, settlement, now_ns + self._offset_ns):
            return True
        if not self.overflow:
            return False
        return self._settle_in(self.overflow, self._overflow_number(name), settlement, now_ns + self._offset_ns)

    def _settle_in(self, states: States, name: _Name, settlement: Settlement, at_ns: int) -> bool:
        policy, _, cost, mark, actual = settlement
        state = states.get(name)
        blocked = state if type(state) is Blocked else None
        if blocked is not None:
            state = blocked.state
        if state is None:
            return False
        settled, is_there = self._algorithm.settle(state, policy, at_ns, cost, mark, actual)
        if settled is not state:
            if blocked is not None:
                blocked.state = settled
            else:
                states[name] = settled
        return is_there

    def block(self, name: CounterKey | Digest, now_ns: int, span_ns: int) -> None:
        """Block a key until ``span_ns`` from now, in place of any block before; 0 lifts it."""
        at_ns = now_ns + self._offset_ns
        state, fresh = self.states.get(name), name not in self.states
        if type(state) is Blocked:
            state = state.state
        if not span_ns:
            if not fresh:
                self.states[name] = state
            return
        if fresh and self._overflows(name, at_ns):
            state = deepcopy(
                self.overflow[self._overflow_number(name)]
            )  # it may hold units of this key: never forget them
        if fresh:
            self._wheel.schedule(name, at_ns + span_ns)
        self.states[name] = Blocked(state, at_ns + span_ns)

    def forget(self, name: CounterKey | Digest) -> None:
        """Drop a key's state. Its place in the wheel stays, and so the key does; `sweep` frees both."""
        if name in self.states:
            self.states[name] = None

    def next_sweep_ns(self) -> int:
        """Return the time from which there may be something to free."""
        return self._wheel.next_due_ns() - self._offset_ns

    def sweep(self, now_ns: int, steps: int) -> None:
        """Visit up to ``steps`` keys that are due, and free the idle ones."""
        self._wheel.visit(now_ns + self._offset_ns, steps, self._expire)

    def sweep_early(self, now_ns: int, steps: int) -> int:
        """Visit also keys that are due soon. Returns how many steps are left."""
        return self._wheel.visit_early(now_ns + self._offset_ns, steps, self._expire)

    def follow(self, now_ns: int) -> None:
        """Turn the wheel back after a clock that has stepped back."""
        self._wheel.follow(now_ns + self._offset_ns)

    def clear(self) -> None:
        self.states.clear()
        self.overflow.clear()
        self._wheel.clear()

    def _overflow_number(self, name: CounterKey | Digest) -> int:
        """Return the number of the overflow state for a key."""
        digest = hashlib.blake2b(key_bytes(name), key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest) % _OVERFLOW

    def _overflows(self, name: CounterKey | Digest, at_ns: int) -> bool:
        """Return whether a key without a state of its own has a live overflow state."""
        if not self.overflow:
            return False
        state = self.overflow.get(self._overflow_number(name))
        return state is not None and self._algorithm.expires_at_ns(state, self._policy) > at_ns

    def _decide_blocked(self, blocked: Blocked, charge: Charge, at_ns: int, commit: bool, repair: bool) -> Verdict:
        """Deny a charge under a block until both the block and the policy allow it, unless it is a forced one."""
        state, (policy, _, cost) = blocked.state, charge
        if repair and state is not None:
            self._repair(state, policy, at_ns)
        if policy.forced:
            blocked.state, verdict = self._algorithm.decide(state, policy, at_ns, cost, commit)
            return verdict
        _, (_, _, wait_us, reset_after_us) = self._algorithm.decide(state, policy, at_ns, cost, False)
        left_us = -((at_ns - blocked.until_ns) // 1000)
        return verdict_of(
            (False, 0, NEVER if wait_us == NEVER else max(wait_us, left_us), max(reset_after_us, left_us))
        )

    def _repair(self, state: State, policy: Policy, at_ns: int) -> bool:
        repaired = self._algorithm.repair(state, policy, at_ns)
        self.repaired += repaired
        return repaired

    def _expire(self, name: _Name, at_ns: int) -> int | None:
        """Free a state if it is idle and return None, or return when to look at it again."""
        states = self.overflow if isinstance(name, int) else self.states
        if name not in states:  # a signal interrupted its first charge between the schedule and the state
            return None
        expires_at_ns = self._trimmed(states[name], at_ns)
        if expires_at_ns > at_ns:
            return expires_at_ns
        del states[name]
        return None

    def _trimmed(self, state: State | None, at_ns: int) -> int:
        """Trim a state, and return the time from which it may be dropped."""
        blocked_until_ns = at_ns
        if type(state) is Blocked:
            blocked_until_ns, state = state.until_ns, state.state
        if state is None:
            return blocked_until_ns
        expires_at_ns = self._algorithm.expires_at_ns(state, self._policy)
        if expires_at_ns > at_ns + 2 * self._policy.window_ns and self._repair(state, self._policy, at_ns):
            expires_at_ns = self._algorithm.expires_at_ns(state, self._policy)
        if expires_at_ns > at_ns:
            self._algorithm.trim(state, self._policy, at_ns)
        return max(expires_at_ns, blocked_until_ns)
