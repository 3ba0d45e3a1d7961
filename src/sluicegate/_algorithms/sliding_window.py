"""The exact sliding window: a log of what was allowed, and what may be taken from it. Twin of ``sliding_window.lua``.

An entry with stamp s has left at s + window: windows are half-open, (t - window, t]. A request of any cost is one
entry. While each is of one unit (`Units`) a log is its stamps and no more, for what is in a window is then a count of
them; with the first dearer one (`Totals`) each has the total of all units up to and with it, too, and what is in a
window is a difference of two totals.

Nothing here reads a clock or knows of keys. Times are whole nanoseconds on the store's clock; they may step back, and
stamps then stay at the newest one, so that the log stays sorted: units are held longer, and never too many allowed.
With buckets a stamp is rounded up, to less than a grain ahead of the clock that made it.

The logs in memory say the same as those on Redis, in arrays in place of pages; the tests hold them against each other.
`look` changes nothing; `charge` is called only for what `look` allowed, at the same time. Whatever changes a log is one
call into C, or leaves units held too long until it is done: a signal may end it between any two.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from sluicegate._algorithms import Allow, Bench, States
from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import SlidingWindow

if TYPE_CHECKING:
    _Array = array[int]
else:
    _Array = array

NAME = SlidingWindow.algorithm
CALENDAR_TIME = False


class Units(_Array):
    """A log in which each entry is one unit: the head, then a stamp for each, rising, as the clock read: not rounded.

    The head is the place of the oldest entry not known to have left: the quick way does not look for it. An array and
    nothing around it, 8 bytes an entry: that is what a store in memory is made of.
    """

    __slots__ = ()

    @classmethod
    def of(cls, stamp: int) -> Self:
        return cls("q", (1, stamp))

    def newest(self) -> int:
        return self[-1]

    def read(self, cutoff: int) -> tuple[int, int, int]:
        """Return the newest stamp, the place of the oldest not left by ``cutoff``, and the units from there on."""
        head = self[0]
        if self[head] <= cutoff:
            head = bisect_right(self, cutoff, head)
        return self[-1], head, len(self) - head

    def leaving(self, head: int, units: int) -> int:
        """Return the stamp with which so many units from ``head`` on have left."""
        return self[head + units - 1]

    def add(self, stamp: int, _: int) -> None:
        self.append(stamp)

    def cut(self, head: int) -> bool:
        """Forget what is before ``head``, and tell whether the rest was moved up.

        It is once a third has left: so each entry is moved twice on average.
        """
        if 3 * head <= len(self):
            self[0] = head
            return False
        self[0] = 1
        del self[1:head]
        return True

    def shift(self, back: int, latest: int) -> None:
        """Move all stamps back, and none to later than ``latest``."""
        self[1:] = array("q", [min(stamp - back, latest) for stamp in self[1:]])

    def __deepcopy__(self, _: object) -> Self:
        return type(self)("q", self)


class Totals:
    """A log with entries of any cost: pairs of a stamp, rising, and the total of all units up to and with that entry.

    They lie in one array, after a pair of the head, as in `Units`, and the total of all that was before the first
    entry. It has no length, so that the quick way leaves it alone.
    """

    __slots__ = ("pairs",)

    def __init__(self, stamps: Sequence[int]) -> None:
        """Make one of entries that are one unit each."""
        self.pairs = array("q", (1, 0))
        for total, stamp in enumerate(stamps, 1):
            self.pairs.extend((stamp, total))

    @classmethod
    def of(cls, stamp: int, units: int) -> Self:
        log = cls((stamp,))
        log.pairs[-1] = units
        return log

    def newest(self) -> int:
        return self.pairs[-2]

    def read(self, cutoff: int) -> tuple[int, int, int]:
        pairs = self.pairs
        head = pairs[0]
        if pairs[2 * head] <= cutoff:
            head = bisect_right(range(len(pairs) // 2), cutoff, head, key=lambda place: pairs[2 * place])
        return pairs[-2], head, pairs[-1] - pairs[2 * head - 1]

    def leaving(self, head: int, units: int) -> int:
        pairs = self.pairs
        total = pairs[2 * head - 1] + units
        return pairs[2 * bisect_left(range(len(pairs) // 2), total, head, key=lambda place: pairs[2 * place + 1])]

    def add(self, stamp: int, units: int) -> None:
        pairs = self.pairs
        total = pairs[-1] + units
        if stamp == pairs[-2]:  # one entry for all of one stamp
            pairs[-1] = total
        else:
            pairs.extend((stamp, total))

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
        """Return the log without totals, if it needs none any more.

        Then no stamp is ahead of a steady clock: one that buckets had rounded up would have this charge in its entry.
        """
        pairs = self.pairs
        entries = len(pairs) // 2 - 1
        return Units("q", (pairs[0], *pairs[2::2])) if pairs[-1] - pairs[1] == entries else None

    def shift(self, back: int, latest: int) -> None:
        pairs = self.pairs
        pairs[2::2] = array("q", [min(stamp - back, latest) for stamp in pairs[2::2]])


Log = Units | Totals
"""What is kept of one key. Never empty: it is made by its first charge."""


def arguments(policy: SlidingWindow, cost: int, _: int) -> tuple[int, ...]:
    """Return what the Lua twin lists under ARGV, in its order."""
    return cost, policy.limit, policy.window_us, policy.grain_us


def idle_at(log: Log, policy: SlidingWindow) -> int:
    """Return the time, ns, from which the log says nothing any more and may be dropped."""
    return log.newest() + policy.window_us * 1000


def mend(log: Log, policy: SlidingWindow, now_ns: int) -> bool:
    """Shift a log that a clock step left more than one window ahead, so that its newest entry is now (G8).

    The others are moved back by no more than the clock was, also where the newest stamp was rounded up.

    Returns:
        Whether it had to be done.
    """
    stepped = _stepped(log.newest(), policy, now_ns)
    if not stepped:
        return False
    log.shift(stepped, now_ns)
    return True


def _stepped(newest: int, policy: SlidingWindow, now_ns: int) -> int:
    """Return by how much the clock was stepped back, at least, since it made a stamp; 0 for no more than a window."""
    stepped = newest - now_ns - (policy.grain_us - 1) * 1000
    return stepped if stepped > policy.window_us * 1000 else 0


def trim(log: Log, policy: SlidingWindow, now_ns: int) -> None:
    """Cut what has left the window, but for the newest entry: a log is never empty."""
    _, head, _ = log.read(min(now_ns - policy.window_us * 1000, log.newest() - 1))
    log.cut(head)


def look(log: Log | None, policy: SlidingWindow, now_ns: int, cost: int) -> Verdict:
    """Judge a charge of ``cost`` units, 1 or more, and change nothing."""
    limit = policy.limit
    if log is None:
        return verdict_of((True, limit, 0, 0)) if cost <= limit else verdict_of((False, limit, NEVER, 0))
    window_ns = policy.window_us * 1000
    cutoff = now_ns - window_ns
    newest, head, used = log.read(cutoff)
    stepped = _stepped(newest, policy, now_ns)
    if stepped:  # as if repaired: the log moved back is the clock moved on
        cutoff += stepped
        _, head, used = log.read(cutoff)
        newest = cutoff + window_ns
    reset_after_us = -((cutoff - newest) // 1000) if newest > cutoff else 0
    room = limit - used
    if cost <= room:
        return verdict_of((True, room, 0, reset_after_us))
    remaining = max(room, 0)
    if cost > limit:
        return verdict_of((False, remaining, NEVER, reset_after_us))
    left_at = min(log.leaving(head, cost - room), newest)
    return verdict_of((False, remaining, -((cutoff - left_at) // 1000), reset_after_us))


def charge(log: Log | None, policy: SlidingWindow, now_ns: int, cost: int) -> tuple[Log, int]:
    """Enter ``cost`` units that `look` allowed at ``now_ns``.

    Returns:
        The log, another one where that before could not hold it, and its ``reset_after_us``.
    """
    stamp, cutoff = now_ns, now_ns - policy.window_us * 1000
    if policy.buckets is not None:
        grain_ns = policy.grain_us * 1000
        stamp = -(-now_ns // grain_ns) * grain_ns
    if log is None:
        log = Units.of(stamp) if cost == 1 and policy.buckets is None else Totals.of(stamp, cost)
    else:
        newest, head, _ = log.read(cutoff)
        stamp = max(stamp, newest)
        if type(log) is Units and (cost > 1 or policy.buckets is not None):
            log = Totals(log[1:])
        log.add(stamp, cost)
        if log.cut(head) and type(log) is Totals and policy.buckets is None:
            log = log.units() or log
    return log, -((cutoff - stamp) // 1000)


def step(log: Log | None, policy: SlidingWindow, now_ns: int, cost: int, enter: bool) -> Verdict | None:
    """Return what `mend`, `look` and, if ``enter``, `charge` come to; None where it takes all three.

    Speed alone is its reason: for a log of single units, an exact window, a cost of 1 and a clock that moves on, all of
    it is in a few numbers.
    """
    if type(log) is not Units or cost != 1 or policy.buckets is not None:
        return None
    newest, cutoff = log[-1], now_ns - policy.window_us * 1000
    if newest > now_ns:
        return None
    head = log[0]
    if log[head] <= cutoff:
        head = bisect_right(log, cutoff, head)
    room = policy.limit - len(log) + head
    if room <= 0:
        wait_us = -((cutoff - log[head - room]) // 1000)
        return verdict_of((False, 0, wait_us, -((cutoff - newest) // 1000)))
    if not enter:
        return verdict_of((True, room, 0, -((cutoff - newest) // 1000) if newest > cutoff else 0))
    log.append(now_ns)
    if head != log[0]:
        log.cut(head)
    return verdict_of((True, room - 1, 0, policy.window_us))


def quick(policy: SlidingWindow, logs: States, bench: Bench, slow: Allow) -> Allow | None:
    """Return `step` without a verdict, and with what is around it in a store.

    It serves what `step` does, and leaves the rest to ``slow``, which gives the same answers. There is room for a unit
    where the log has fewer entries than the limit, or the oldest of so many has left: of single units nothing else need
    be known. What has left is cut when it is a third of the log, and before that is left to `trim`.
    """
    if policy.buckets is not None:
        return None
    limit, window_ns, one = policy.limit, policy.window_us * 1000, 1
    most = limit + limit // 2 + 8
    ticks, steady, free, give = bench.ticks, bench.steady, bench.free, bench.free.append

    def allow(key: str, cost: int = 1) -> bool:
        me = get_ident()
        try:
            del free[0]
            bench.owner = me
            try:
                log: Any = logs[key]
                entries = len(log) - 1
                now = ticks()
                if cost is one and now < bench.wake_ns and (steady or log[-1] <= now):
                    if entries < limit:
                        log.append(now)
                        return True
                    if log[-limit] > now - window_ns:
                        return False
                    log.append(now)
                    if entries > most:
                        log.cut(entries + 2 - limit)
                    return True
            finally:  # inside of the except: CPython 3.12 handles signals at the end of that
                bench.owner = None
                give(None)
        except (IndexError, KeyError, TypeError):
            pass  # another call has the turn; a fresh key; one that is no key; or a state without a length
        return slow(key, cost)

    return allow
