"""The calendar window: a fixed window's count between the edges of a calendar. Same rule as ``calendar_window.lua``.

Lua knows no time zones. The caller sends the edges around its estimate of the server's time, and the script picks the
window by the server's clock; when none of them fits, the script reports a clock mismatch and is called again.
"""

from __future__ import annotations

from sluicegate._algorithms.fixed_window import CALENDAR_TIME, decide, expires_at_ns, mark, repair, settle, trim
from sluicegate._core import calendar
from sluicegate._core.policy import CalendarWindow

__all__ = ["CALENDAR_TIME", "NAME", "arguments", "decide", "expires_at_ns", "mark", "repair", "settle", "trim"]

NAME = CalendarWindow.algorithm


def arguments(policy: CalendarWindow, cost: int, now_us: int) -> tuple[int, ...]:
    """Return the ARGV of ``calendar_window.lua``."""
    return cost, policy.limit, *calendar.edges(policy.cycle, now_us)
