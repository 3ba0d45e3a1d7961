"""Windows with edges by brute force: all units that were allowed since the last edge, and the edges found by search."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from properties.oracles.oracle import Oracle
from sluicegate import CalendarWindow, FixedWindow
from sluicegate._core.policy import MOST_DEBT

Edged = FixedWindow | CalendarWindow

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US


class EdgedOracle(Oracle):
    """All that was allowed: (stamp, cost). The window of the newest stamp lasts until its own end."""

    def __init__(self) -> None:
        self.allowed: list[tuple[int, int]] = []
        self.generation = object()

    @property
    def newest(self) -> int:
        return max((stamp for stamp, _ in self.allowed), default=0)

    def level(self, policy: Edged, at: int) -> int:
        start, end = edges(policy, self.newest)
        return sum(units for stamp, units in self.allowed if stamp >= start) if at < end else 0

    def spans(self, policy: Edged, now: int) -> list[int]:
        _, end = edges(policy, self.newest)
        return [0, max(end - now, 0)]

    def charge(self, policy: Edged, now: int, cost: int) -> None:
        if now >= edges(policy, self.newest)[1]:
            self.generation = object()
        self.allowed = [*self.allowed, (max(now, self.newest), cost)]

    def mark(self) -> object:
        return self.generation

    def settle(self, policy: Edged, now: int, cost: int, mark: object, actual: int) -> bool:
        start, end = edges(policy, self.newest)
        if mark is not self.generation or now >= end:
            return False
        used = sum(units for stamp, units in self.allowed if stamp >= start)
        left = max(used + actual - cost, 0) if actual <= cost else max(used, min(used + actual - cost, MOST_DEBT))
        self.allowed = [*self.allowed, (self.newest, left - used)]
        return True

    def repair(self, policy: Edged, now: int) -> None:
        # No clock that stepped back by a window at most is before the window that ends where that of the newest begins.
        start, _ = edges(policy, self.newest)
        before, _ = edges(policy, start - 1)
        if now < before:
            _, next_start = edges(policy, now)
            self.generation = object()
            self.allowed = [(next_start, units) for stamp, units in self.allowed if stamp >= start]


def edges(policy: Edged, at: int) -> tuple[int, int]:
    """Return where the window of an instant begins and ends."""
    if isinstance(policy, FixedWindow):
        start = at // policy.window_us * policy.window_us
        return start, start + policy.window_us
    changes = _changes(policy.every, policy.timezone, policy.day or 1, policy.hour or 0, at // (32 * _DAY_US))
    after = bisect_right(changes, at)
    return changes[after - 1], changes[after]


@cache
def _changes(every: str, timezone: str, day: int, hour: int, part: int) -> list[int]:
    """Return when the zone's clocks showed another hour, day or month, in 32 days and as many before and after.

    Every hour is looked at. So it is right in zones that are whole hours from UTC, and never see one date twice.
    """
    zone, hours = ZoneInfo(timezone), range((part - 1) * 32 * 24, (part + 2) * 32 * 24)
    labels = [_label(every, datetime.fromtimestamp(each * 3600, zone), day, hour) for each in hours]
    return [each * _HOUR_US for each, label, last in zip(hours[1:], labels[1:], labels, strict=False) if label != last]


def _label(every: str, shown: datetime, day: int, hour: int) -> str:
    """Return what is the same all through a window: its hour, or the date or month that began ``hour`` hours ago."""
    if every == "hour":
        return shown.isoformat()[: len("2024-10-27T02:00:00+02:00")]
    date = shown.replace(tzinfo=None) - timedelta(hours=hour)  # what the clock would show, were midnight at that hour
    if every == "day":
        return f"{date:%Y-%m-%d}"
    has_begun = date.day >= day or (date + timedelta(days=1)).day == 1
    return f"{date:%Y-%m}" if has_begun else f"{date - timedelta(days=date.day):%Y-%m}"
