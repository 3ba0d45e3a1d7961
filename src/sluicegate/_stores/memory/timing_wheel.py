"""A timing wheel: finds the keys whose time has come, a few at a time, without a thread or a sorted structure.

The wheel is a ring of slots, each a 64th of the policy's window wide, and every key is listed in exactly one slot: the
one in which it could expire. When a slot is over, its keys are visited. A key that has expired is gone; one that was
charged meanwhile is listed again where it is due now. So each key is visited about once a window, whatever its traffic,
and keys that are all due at once are still visited a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_SLOTS = 64  # of a window: a key is visited at most a 64th of its window late

_Name = TypeVar("_Name")


class TimingWheel(Generic[_Name]):
    """Names, each listed under the time at which it is due.

    Args:
        window_ns: The span within which most names are due.
        now_ns: The time.
    """

    __slots__ = ("_pending", "_slot", "_slots", "_width_ns")

    def __init__(self, window_ns: int, now_ns: int) -> None:
        self._width_ns = max(1, window_ns // _SLOTS)
        self._slot = now_ns // self._width_ns  # the first slot not visited yet, counted from time 0
        self._slots: list[list[_Name]] = [[] for _ in range(_SLOTS + 2)]
        self._pending: list[_Name] = []  # taken from slots that are over, still to be visited

    def schedule(self, name: _Name, at_ns: int) -> None:
        """List a name. Call this before storing its state: a key that is not listed is never freed."""
        self._slots[at_ns // self._width_ns % len(self._slots)].append(name)

    def next_due_ns(self) -> int:
        """Return the time from which there may be a name to visit."""
        return (self._slot + (not self._pending)) * self._width_ns

    def visit(self, now_ns: int, steps: int, expire: Callable[[_Name, int], int | None]) -> int:
        """Visit up to ``steps`` names that are due.

        Args:
            now_ns: The time.
            steps: How many names to visit at most.
            expire: Called with a name and the time. Drops the key if it has expired and returns None, or returns the
                time at which it is due next.

        Returns:
            How many steps are left.
        """
        while steps and (self._pending or self._next_slot(now_ns)):
            steps -= 1
            name = self._pending[-1]
            del self._pending[-1]  # not pop(): a call would let a signal in between taking the name and the try
            try:
                at_ns = expire(name, now_ns)
            except BaseException:
                self.schedule(name, now_ns)
                raise
            if at_ns is not None:
                self.schedule(name, at_ns)
        return steps

    def visit_early(self, now_ns: int, steps: int, expire: Callable[[_Name, int], int | None]) -> int:
        """Do as `visit` does, then visit the slot that is not over yet, too: for when memory is needed at once."""
        steps = self.visit(now_ns, steps, expire)
        if steps:
            self._take_slot()
            steps = self.visit(now_ns, steps, expire)
        return steps

    def follow(self, now_ns: int) -> int:
        """Stay near the clock, and return how many slots are over and not visited yet.

        Every name is seen in one round, so whole rounds are skipped after a silence, and the wheel turns back by whole
        rounds after the clock stepped back: each slot has its turn, whatever the pace of the calls.
        """
        behind, round_ = now_ns // self._width_ns - self._slot, len(self._slots)
        if not -round_ <= behind <= 2 * round_:
            skipped = behind // round_ * round_ - round_
            self._slot += skipped
            behind -= skipped
        return behind

    def clear(self) -> None:
        self._pending.clear()
        for slot in self._slots:
            slot.clear()

    def _next_slot(self, now_ns: int) -> bool:
        """Take the names of the next slot that is over and has any. Returns whether there is one."""
        for _ in range(self.follow(now_ns)):
            self._take_slot()
            self._slot += 1
            if self._pending:
                return True
        return False

    def _take_slot(self) -> None:
        index = self._slot % len(self._slots)
        if self._slots[index] and not self._pending:  # a signal handler may have filled it
            self._pending, self._slots[index] = self._slots[index], []
