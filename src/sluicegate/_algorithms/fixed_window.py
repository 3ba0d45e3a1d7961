"""The fixed window: a count that starts anew at each edge. The same rule as ``fixed_window.lua``.

The edges come from the policy: multiples of its window here, the calendar's in ``calendar_window.py``, which shares
this rule. A count keeps the edges between which it was made, so that it resets exactly when ``reset_after`` said.

In any span as long as the window up to twice the limit is allowed: all of it just before an edge, and again just after.

Times count from 1970. When the clock steps back behind the start of a count, the count goes on until its own end, or
until the end of the window after the current one if that is sooner. Units are held longer and never too many are
allowed: a whole window still lies between the previous count and the next.
"""

from __future__ import annotations

from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import MOST_DEBT, CalendarWindow, FixedWindow
from sluicegate._core.request import Mark

NAME = FixedWindow.algorithm
CALENDAR_TIME = True

Edged = FixedWindow | CalendarWindow


class Count:
    """The units allowed to one key in the window from ``start_ns`` to ``end_ns``, nanoseconds since 1970.

    A charge in it is marked by its ``generation``, which a repair ends.
    """

    __slots__ = ("end_ns", "generation", "start_ns", "used")

    def __init__(self, start_ns: int, end_ns: int, used: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.used = used
        self.generation: object | None = None


def decide(count: Count | None, policy: Edged, now_ns: int, cost: int, commit: bool) -> tuple[Count | None, Verdict]:
    """Allow or deny ``cost`` units in the window of ``now_ns``."""
    used = 0
    if count is not None and count.start_ns <= now_ns < count.end_ns:
        used, end_ns = count.used, count.end_ns
    else:
        start_ns, end_ns = _edges_ns(policy, now_ns)
        if count is not None and now_ns < count.end_ns:  # the clock stepped back
            used = count.used
            # Further ahead than the next window: as if repaired.
            end_ns = _edges_ns(policy, end_ns)[1] if count.start_ns > end_ns else count.end_ns
    room, left_us = policy.limit - used, -((now_ns - end_ns) // 1000)
    if cost > room or not commit:
        reset_after_us = left_us if used else 0
        if cost <= room:
            return count, verdict_of((True, room, 0, reset_after_us))
        return count, verdict_of((False, max(room, 0), NEVER if cost > policy.limit else left_us, reset_after_us))
    if count is None or now_ns >= count.end_ns:
        count = Count(start_ns, end_ns, cost)
    else:
        count.used += cost
    return count, verdict_of((True, room - cost, 0, left_us))


def mark(count: Count) -> tuple[Count, Mark]:
    """Return the count, and its generation."""
    if count.generation is None:
        count.generation = object()
    return count, count.generation


def settle(count: Count, _: Edged, now_ns: int, cost: int, mark: Mark, actual: int) -> tuple[Count, bool]:
    """Correct the count, if it is the one that was charged and its window is not over."""
    if count.generation is not mark or now_ns >= count.end_ns:
        return count, False
    count.used = (
        max(count.used + actual - cost, 0)
        if actual < cost
        else max(count.used, min(count.used + actual - cost, MOST_DEBT))
    )
    return count, True


def repair(count: Count, policy: Edged, now_ns: int) -> bool:
    """Move a count that a clock step left further ahead than the next window into the next window (G8).

    Not into the current one: it may be about to end, and the window before the count's was perhaps just as full.
    """
    if count.start_ns <= now_ns:
        return False
    _, next_ns = _edges_ns(policy, now_ns)
    if count.start_ns <= next_ns:
        return False
    count.start_ns, count.end_ns = _edges_ns(policy, next_ns)
    count.generation = None
    return True


def trim(count: Count, policy: Edged, now_ns: int) -> None:
    """Do nothing: a count has one size."""


def expires_at_ns(count: Count, _: Edged) -> int:
    """Return the end of the count's window."""
    return count.end_ns


def arguments(policy: FixedWindow, cost: int, _: int) -> tuple[int, ...]:
    """Return the ARGV of ``fixed_window.lua``."""
    return cost, policy.limit, policy.window_us


def _edges_ns(policy: Edged, now_ns: int) -> tuple[int, int]:
    start_us, end_us = policy.edges(now_ns // 1000)
    return start_us * 1000, end_us * 1000
