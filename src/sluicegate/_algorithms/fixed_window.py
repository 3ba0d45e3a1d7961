"""The fixed window: a count that begins anew at each edge. Twin of ``fixed_window.lua``.

The edges are the policy's: multiples of its span here, and those of the calendar in ``calendar_window.py``, which
shares this file's count. The count keeps the edges it was made between, so that it is over when it was said to be.

In any span as long as the window up to twice the limit is allowed: all of it just before an edge, and again after it.

Nothing here reads a clock; times count from 1970. When it steps back behind the start of a count, that count goes on
until its own end, or that of the window after now's if this is sooner: units are held longer, and never too many
allowed. For between what was taken under the count before, and what may be taken under the next, there still is a whole
window.
"""

from __future__ import annotations

from sluicegate._algorithms import Allow, Bench, States
from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import CalendarWindow, FixedWindow

NAME = FixedWindow.algorithm
CALENDAR_TIME = True

Edged = FixedWindow | CalendarWindow


class Count:
    """What was allowed to one key in the window from ``start`` to ``end``, nanoseconds since 1970."""

    __slots__ = ("end", "start", "used")

    def __init__(self, start: int, end: int, used: int) -> None:
        self.start = start
        self.end = end
        self.used = used


def arguments(policy: FixedWindow, cost: int, _: int) -> tuple[int, ...]:
    """Return what the Lua twin lists under ARGV, in its order."""
    return cost, policy.limit, policy.window_us


def idle_at(count: Count, _: Edged) -> int:
    """Return the time, ns, from which the count says nothing any more."""
    return count.end


def mend(count: Count, policy: Edged, now_ns: int) -> bool:
    """Bring a count that a clock step left further ahead than the window after now's into that one (G8).

    Not into that of now, which may end at once: the window before the count's was perhaps as full, and just before.

    Returns:
        Whether it had to be done.
    """
    if count.start <= now_ns:
        return False
    _, next_ns = _edges(policy, now_ns)
    if count.start <= next_ns:
        return False
    count.start, count.end = _edges(policy, next_ns)
    return True


def trim(count: Count, policy: Edged, now_ns: int) -> None:
    """Do nothing: a count is of one size."""


def look(count: Count | None, policy: Edged, now_ns: int, cost: int) -> Verdict:
    """Judge a charge of ``cost`` units, 1 or more, and change nothing."""
    limit = policy.limit
    # Asked for also where nothing is used: if they cannot be told, that is known before anything is charged.
    _, end = _edges(policy, now_ns)
    if count is None or now_ns >= count.end:
        used = 0
    else:
        used, end = count.used, _edges(policy, end)[1] if count.start > end else count.end  # as if repaired
    remaining, left_us = max(limit - used, 0), -((now_ns - end) // 1000)
    reset_after_us = left_us if used else 0
    if used + cost <= limit:
        return verdict_of((True, remaining, 0, reset_after_us))
    return verdict_of((False, remaining, NEVER if cost > limit else left_us, reset_after_us))


def charge(count: Count | None, policy: Edged, now_ns: int, cost: int) -> tuple[Count, int]:
    """Count ``cost`` units that `look` allowed at ``now_ns``. Returns the count and its ``reset_after_us``."""
    if count is None or now_ns >= count.end:
        count = Count(*_edges(policy, now_ns), cost)
    else:
        count.used += cost
    return count, -((now_ns - count.end) // 1000)


def _edges(policy: Edged, now_ns: int) -> tuple[int, int]:
    start_us, end_us = policy.edges(now_ns // 1000)
    return start_us * 1000, end_us * 1000


def step(count: Count | None, policy: Edged, now_ns: int, cost: int, enter: bool) -> Verdict | None:
    """Return what `mend`, `look` and, if ``enter``, `charge` come to; None where it takes all three.

    Speed alone is its reason: it serves a count whose window it is.
    """
    if type(count) is not Count or not count.start <= now_ns < count.end:
        return None
    limit, left_us = policy.limit, -((now_ns - count.end) // 1000)
    room = limit - count.used
    if cost > room:
        return verdict_of((False, max(room, 0), NEVER if cost > limit else left_us, left_us))
    if not enter:
        return verdict_of((True, room, 0, left_us if count.used else 0))
    count.used += cost
    return verdict_of((True, room - cost, 0, left_us))


def quick(policy: Edged, counts: States, bench: Bench, slow: Allow) -> Allow | None:
    """Return None: it has no quicker way."""
