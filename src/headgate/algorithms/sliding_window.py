"""The exact sliding window: a cumulative log, and what may be taken from it. Twin of ``sliding_window.lua``.

The log has one entry for each allowed request: its stamp, and the total of all units ever allowed, its own included.
What is in the window is then a difference of two totals: the last one, and the base, the total of what has left. A
request of any cost is one entry. An entry with stamp s has left at s + window: windows
are half-open, (t - window, t].

Nothing here reads a clock or knows of keys. Times are whole microseconds on the store's clock; they may step back, and
stamps then stay at the newest one, so that the log stays sorted: units are held longer, and never too many allowed.

The one in memory is the same as the one on Redis, in two arrays in place of pages; the tests hold them against each
other. `look` changes nothing; `charge` is called only for what `look` allowed, at the same time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from headgate.algorithms import Allow, Bench, States
from headgate.decision import NEVER, Verdict
from headgate.policy import SlidingWindow

NAME = SlidingWindow.algorithm


class Log:
    """The cumulative log of one key. Never empty: it is made by its first charge.

    Attributes:
        stamps: Microseconds, rising; one for each entry, those before ``head`` having left.
        totals: Units allowed up to and with each entry. None while each entry is one unit: its place then says it.
        head: Place of the oldest entry that had not left when the log was last cut.
        base: The total of what had left by then.
        first: ``stamps[head]``.
        newest: ``stamps[-1]``.
        total: All units ever allowed.
    """

    __slots__ = ("base", "first", "head", "newest", "stamps", "total", "totals")

    def __init__(self, stamp: int, cost: int) -> None:
        self.stamps = array("q", (stamp,))
        self.totals = None if cost == 1 else array("q", (cost,))
        self.head = 0
        self.base = 0
        self.first = self.newest = stamp
        self.total = cost


def arguments(policy: SlidingWindow, cost: int) -> tuple[int, ...]:
    """Return what the Lua twin lists under ARGV, in its order."""
    return cost, policy.limit, policy.window_us, policy.grain_us


def idle_at(log: Log, policy: SlidingWindow) -> int:
    """Return the time, µs, from which the log says nothing any more and may be dropped."""
    return log.newest + policy.window_us


def mend(log: Log, policy: SlidingWindow, now_us: int) -> bool:
    """Shift a log that a clock step left more than one window ahead, so that its newest entry is now (G8).

    Returns:
        Whether it had to be done.
    """
    ahead = log.newest - now_us
    if ahead <= policy.window_us:
        return False
    log.stamps = array("q", (stamp - ahead for stamp in log.stamps))
    log.first -= ahead
    log.newest = now_us
    return True


def trim(log: Log, policy: SlidingWindow, now_us: int) -> None:
    """Cut what has left the window, but for the newest entry: a log is never empty."""
    head, base = _aged(log, min(now_us - policy.window_us, log.newest - 1))
    _cut(log, head, base)


def look(log: Log | None, policy: SlidingWindow, now_us: int, cost: int) -> Verdict:
    """Judge a charge of ``cost`` units, 1 or more, and change nothing."""
    limit, window_us = policy.limit, policy.window_us
    if log is None:
        return Verdict(True, limit, 0, 0) if cost <= limit else Verdict(False, limit, NEVER, 0)
    if log.newest > now_us + window_us:
        now_us = log.newest  # as if mended: the log moved back is the clock moved on
    head, base = _aged(log, now_us - window_us)
    used = log.total - base
    remaining = max(limit - used, 0)
    reset_after_us = max(log.newest + window_us - now_us, 0)
    need = used + cost - limit  # units that would have to leave first
    if need <= 0:
        return Verdict(True, remaining, 0, reset_after_us)
    if cost > limit:
        return Verdict(False, remaining, NEVER, reset_after_us)
    leaving = head + need - 1 if log.totals is None else bisect_left(log.totals, base + need, head)
    return Verdict(False, remaining, log.stamps[leaving] + window_us - now_us, reset_after_us)


def charge(log: Log | None, policy: SlidingWindow, now_us: int, cost: int) -> Log:
    """Enter ``cost`` units that `look` allowed at ``now_us``. Returns the log, a new one where there was none."""
    stamp = -(-now_us // policy.grain_us) * policy.grain_us
    if log is None:
        return Log(stamp, cost)
    head, base = _aged(log, now_us - policy.window_us)
    if log.totals is None and (cost > 1 or policy.buckets):
        log.totals = array("q", range(log.total - len(log.stamps) + 1, log.total + 1))
    log.total += cost
    if log.totals is None:
        log.newest = max(stamp, log.newest)
        log.stamps.append(log.newest)
    elif stamp <= log.newest:  # one entry for all of one stamp
        log.totals[-1] = log.total
    else:
        log.newest = stamp
        log.totals.append(log.total)
        log.stamps.append(stamp)
    _cut(log, head, base)
    return log


def _aged(log: Log, cutoff: int) -> tuple[int, int]:
    """Return the place of the oldest entry that has not left by ``cutoff``, and the total of all before it."""
    if log.first > cutoff:
        return log.head, log.base
    head = bisect_right(log.stamps, cutoff, log.head)
    return head, log.base + head - log.head if log.totals is None else log.totals[head - 1]


def _cut(log: Log, head: int, base: int) -> None:
    if head > len(log.stamps) // 2:
        # Moved only once half is dead weight: so each entry is moved at most once, on average.
        del log.stamps[:head]
        if log.totals is not None:
            del log.totals[:head]
        head = 0
    log.head = head
    log.base = base
    log.first = log.stamps[head]


def quick(policy: SlidingWindow, logs: States, bench: Bench, slow: Allow) -> Allow | None:
    """Return `look` and `charge` in one step.

    Speed alone is its reason: it serves a known key, an exact window, a cost of 1 and a clock that moves on, and leaves
    everything else to ``slow``, which gives the same answers. It cuts what has left only when the log seems full: until
    then that is left to `trim`.
    """
    if policy.buckets is not None:
        return None
    limit, window_us, one = policy.limit, policy.window_us, 1
    lock, ticks, ticks_per_us = bench.lock, bench.ticks, bench.ticks_per_us

    def allow(key: str, cost: int = 1) -> bool:
        with lock:
            try:
                log = logs[key]
            except (KeyError, TypeError):  # fresh; or unhashable, so no key at all, and `slow` says so
                log = None
            now = ticks() // ticks_per_us
            if log is not None and cost is one and log.newest <= now < bench.wake_us:
                total = log.total + 1
                full = total - log.base > limit
                if full:
                    cutoff = now - window_us
                    if log.first > cutoff:
                        return False
                    if log.newest > cutoff:
                        _cut(log, *_aged(log, cutoff))
                        full = total - log.base > limit
                if not full:
                    # The total first, the stamp last: a signal may end this at any call, and then a unit is held too
                    # long. The other way round one too many would be allowed.
                    log.total = total
                    log.newest = now
                    if log.totals is not None:
                        log.totals.append(total)
                    log.stamps.append(now)
                    return True
        return slow(key, cost)

    return allow
