"""The calendar window: the count of a fixed window, between the edges of a calendar. Twin of ``calendar_window.lua``.

Lua knows no time zones: the sender names the edges around what it takes the store's clock to read, and the script picks
by the clock itself. Where it reads something else altogether, the script says so, and is asked again.
"""

from __future__ import annotations

from sluicegate._algorithms.fixed_window import CALENDAR_TIME, charge, idle_at, look, mend, quick, step, trim
from sluicegate._core import calendar
from sluicegate._core.policy import CalendarWindow

__all__ = ["CALENDAR_TIME", "NAME", "arguments", "charge", "idle_at", "look", "mend", "quick", "step", "trim"]

NAME = CalendarWindow.algorithm


def arguments(policy: CalendarWindow, cost: int, about_us: int) -> tuple[int, ...]:
    """Return what the Lua twin lists under ARGV, in its order."""
    return cost, policy.limit, *calendar.edges(policy.every, policy.timezone, about_us)
