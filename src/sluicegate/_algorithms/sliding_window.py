"""The exact sliding window: a log of what was allowed, and what may still be. The same rule as ``sliding_window.lua``.

An entry with stamp s leaves at s + window: windows are half-open, (t - window, t]. A request of any cost is one entry.
While every entry is one unit (`Units`), the log is its stamps alone, and their number in a window is its units. From
the first cost above 1 on (`Totals`), each entry also holds the total of all units up to and including it, and the
units in a window are a difference of two totals.

The clock may step back. Stamps then stay at the newest one, so that the log stays sorted: units are held longer, and
never too many are allowed. With buckets a stamp is rounded up, to less than a grain ahead of the clock.

The logs in memory and on Redis are equivalent (arrays here, pages there); the tests compare them. Every change to a log
is a single call into C, or leaves units held too long until it is complete: a signal may interrupt between any two.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import MOST_DEBT, SlidingWindow
from sluicegate._core.request import Mark

if TYPE_CHECKING:
    _Array = array[int]
else:
    _Array = array

NAME = SlidingWindow.algorithm
CALENDAR_TIME = False


class Units(_Array):
    """A log in which every entry is one unit: the head, then a stamp for each entry, rising and not rounded.

    The head is the index of the oldest entry not known to have left. A plain array, 8 bytes an entry: a memory store is
    mostly made of these.
    """

    __slots__ = ()

    @classmethod
    def of(cls, stamp_ns: int) -> Self:
        return cls("q", (1, stamp_ns))

    def newest_ns(self) -> int:
        return self[-1]

    def read(self, cutoff_ns: int) -> tuple[int, int, int]:
        """Return the newest stamp, the index of the oldest entry after ``cutoff_ns``, and the units from there on."""
        head = self[0]
        if self[head] <= cutoff_ns:
            head = bisect_right(self, cutoff_ns, head)
        return self[-1], head, len(self) - head

    def leaving_ns(self, head: int, units: int) -> int:
        """Return the stamp of the entry that holds the ``units``-th unit from ``head`` on."""
        return self[head + units - 1]

    def add(self, stamp_ns: int, _: int) -> None:
        self.append(stamp_ns)

    def cut(self, head: int) -> bool:
        """Forget what is before ``head``. Returns whether the rest was moved up, which happens once a third has left.

        So each entry is moved twice on average.
        """
        if 3 * head <= len(self):
            self[0] = head
            return False
        self[0] = 1
        del self[1:head]
        return True

    def shift(self, back_ns: int, latest_ns: int) -> None:
        """Move all stamps back, and none to later than ``latest_ns``."""
        self[1:] = array("q", [min(stamp_ns - back_ns, latest_ns) for stamp_ns in self[1:]])

    def __deepcopy__(self, _: object) -> Self:
        return type(self)("q", self)


class Totals:
    """A log with entries of any cost: pairs of a stamp, rising, and the total of all units up to and including it.

    One array holds them, after a pair of the head (as in `Units`) and the total of everything before the first entry.
    A `Totals` has no length, so the fast path for `Units` cannot mistake it for one.

    Attributes:
        pairs: The array.
        generation: What marks of charges in it refer to, once there are any. A log that was shifted has a new one.
    """

    __slots__ = ("generation", "pairs")

    def __init__(self, stamps: Sequence[int]) -> None:
        """Make a log of one unit for each stamp; equal stamps share an entry, as they do where a charge is settled."""
        self.generation: object | None = None
        self.pairs = array("q", (1, 0))
        for stamp_ns in stamps:
            self.add(stamp_ns, 1)

    @classmethod
    def of(cls, stamp_ns: int, units: int) -> Self:
        log = cls((stamp_ns,))
        log.pairs[-1] = units
        return log

    def newest_ns(self) -> int:
        return self.pairs[-2]

    def read(self, cutoff_ns: int) -> tuple[int, int, int]:
        pairs = self.pairs
        head = pairs[0]
        if pairs[2 * head] <= cutoff_ns:
            head = bisect_right(range(len(pairs) // 2), cutoff_ns, head, key=lambda index: pairs[2 * index])
        return pairs[-2], head, pairs[-1] - pairs[2 * head - 1]

    def leaving_ns(self, head: int, units: int) -> int:
        pairs = self.pairs
        total = pairs[2 * head - 1] + units
        return pairs[2 * bisect_left(range(len(pairs) // 2), total, head, key=lambda index: pairs[2 * index + 1])]

    def add(self, stamp_ns: int, units: int) -> None:
        pairs = self.pairs
        total = pairs[-1] + units
        if stamp_ns == pairs[-2]:  # one entry for all of one stamp
            pairs[-1] = total
        else:
            pairs.extend((stamp_ns, total))

    def cut(self, head: int) -> bool:
        pairs = self.pairs
        if 6 * head <= len(pairs):
            pairs[0] = head
            return False
        pairs[0] = 1
        pairs[1] = pairs[2 * head - 1]
        del pairs[2 : 2 * head]
        return True

    def units(self) -> Units | None:
        """Return the same log without totals, if every entry left is one unit and none is marked.

        Safe where buckets were used before: a stamp that they rounded up past now would have absorbed this charge, and
        its entry would hold two units.
        """
        pairs = self.pairs
        if self.generation is not None:
            return None
        entries = len(pairs) // 2 - 1
        return Units("q", (pairs[0], *pairs[2::2])) if pairs[-1] - pairs[1] == entries else None

    def settle(self, stamp_ns: int, cost: int, actual: int) -> bool:
        """Make a charge of ``cost`` units one of ``actual`` units, in the entry of a stamp.

        All later totals move, and an entry without units goes. Returns whether the charge was there.
        """
        pairs = self.pairs
        head, pairs_held = pairs[0], len(pairs) // 2
        index = bisect_left(range(pairs_held), stamp_ns, head, key=lambda index: pairs[2 * index])
        if index == pairs_held or pairs[2 * index] != stamp_ns:
            return False
        units = pairs[2 * index + 1] - pairs[2 * index - 1]
        if units < cost:
            return False
        more = actual - cost
        if more > 0:
            more = max(min(more, MOST_DEBT - (pairs[-1] - pairs[2 * head - 1])), 0)
        pairs[2 * index + 1 :: 2] = array("q", [total + more for total in pairs[2 * index + 1 :: 2]])
        if units + more == 0:
            del pairs[2 * index : 2 * index + 2]
        return True

    def is_spent(self) -> bool:
        """Return whether no entry is left that may not have left the window."""
        return len(self.pairs) == 2 * self.pairs[0]

    def shift(self, back_ns: int, latest_ns: int) -> None:
        self.generation = None
        pairs = self.pairs
        pairs[2::2] = array("q", [min(stamp_ns - back_ns, latest_ns) for stamp_ns in pairs[2::2]])


Log = Units | Totals
"""What is kept of one key. Never empty: its first charge makes it."""


def decide(log: Log | None, policy: SlidingWindow, now_ns: int, cost: int, commit: bool) -> tuple[Log | None, Verdict]:
    """Allow or deny ``cost`` units in the window that ends at ``now_ns``."""
    cutoff_ns = now_ns - policy.window_ns
    if log is None:
        newest_ns, head, used = cutoff_ns, 0, 0
    else:
        newest_ns, head, used = log.read(cutoff_ns)
        if newest_ns > now_ns and (stepped_ns := _stepped_ns(newest_ns, policy, now_ns)):
            # As if repaired: the log, moved back, reads as this one does with the clock moved on.
            cutoff_ns += stepped_ns
            newest_ns = cutoff_ns + policy.window_ns
            _, head, used = log.read(cutoff_ns)
    room = policy.limit - used
    if cost > room or not commit:
        reset_after_us = -((cutoff_ns - newest_ns) // 1000) if newest_ns > cutoff_ns else 0
        if cost <= room:
            return log, verdict_of((True, room, 0, reset_after_us))
        wait_us = NEVER
        if log is not None and cost <= policy.limit:
            wait_us = -((cutoff_ns - min(log.leaving_ns(head, cost - room), newest_ns)) // 1000)
        return log, verdict_of((False, max(room, 0), wait_us, reset_after_us))
    exact = policy.buckets is None
    stamp_ns = now_ns if exact else -(-now_ns // policy.grain_ns) * policy.grain_ns
    if log is None:
        log = Units.of(stamp_ns) if cost == 1 and exact else Totals.of(stamp_ns, cost)
    else:
        stamp_ns = max(stamp_ns, newest_ns)
        if type(log) is Units and (cost > 1 or not exact):
            log, head = Totals(log[head:]), 1
        log.add(stamp_ns, cost)
        if head > 1 and log.cut(head) and type(log) is Totals and exact:
            log = log.units() or log
    return log, verdict_of((True, room - cost, 0, -((cutoff_ns - stamp_ns) // 1000)))


def mark(log: Log) -> tuple[Log, Mark]:
    """Return the log, with totals, and where its newest entry is. Charges of one stamp share an entry and a mark."""
    if type(log) is Units:
        log = Totals(log[log[0] :])
    assert isinstance(log, Totals)  # noqa: S101 - for the type checker
    if log.generation is None:
        log.generation = object()
    return log, (log.generation, log.newest_ns())


def settle(log: Log, policy: SlidingWindow, now_ns: int, cost: int, mark: Mark, actual: int) -> tuple[Log | None, bool]:
    """Correct a charge where it stands, as long as its entry is in the window."""
    generation, stamp_ns = mark
    if isinstance(log, Units) or log.generation is not generation or stamp_ns <= now_ns - policy.window_ns:
        return log, False
    if not log.settle(stamp_ns, cost, actual):
        return log, False
    return None if log.is_spent() else log, True


def repair(log: Log, policy: SlidingWindow, now_ns: int) -> bool:
    """Shift a log that a clock step left more than a window ahead, so that its newest entry is now (G8).

    The other entries move back by no more than the clock did, even where the newest stamp was rounded up.
    """
    newest_ns = log.newest_ns()
    if newest_ns <= now_ns or not (stepped_ns := _stepped_ns(newest_ns, policy, now_ns)):
        return False
    log.shift(stepped_ns, now_ns)
    return True


def _stepped_ns(newest_ns: int, policy: SlidingWindow, now_ns: int) -> int:
    """Return by how much, at least, the clock stepped back since it made a stamp; 0 if by no more than a window."""
    stepped_ns = newest_ns - now_ns - (policy.grain_ns - 1000)
    return stepped_ns if stepped_ns > policy.window_ns else 0


def trim(log: Log, policy: SlidingWindow, now_ns: int) -> None:
    """Cut the entries that have left the window, except the newest: a log is never empty."""
    _, head, _ = log.read(min(now_ns - policy.window_ns, log.newest_ns() - 1))
    log.cut(head)


def expires_at_ns(log: Log, policy: SlidingWindow) -> int:
    """Return when the newest entry leaves the window."""
    return log.newest_ns() + policy.window_ns


def arguments(policy: SlidingWindow, cost: int, _: int) -> tuple[int, ...]:
    """Return the ARGV of ``sliding_window.lua``."""
    return cost, policy.limit, policy.window_us, policy.grain_us
