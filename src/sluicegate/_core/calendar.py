"""The calendar: when hours, days, weeks, months and years start and end in a time zone. Pure; reads no clock.

A window starts when the zone's clock first shows the start of an hour, a day (midnight), a week (Monday's midnight, ISO
8601), a month or a year (Gregorian), or jumps past it. A `Cycle` may move that start to another weekday, month, day or
hour; a day that a month does not have is its last one. The windows are the spans between these instants in order of
time, so that every instant lies in exactly one, whatever the local clock does:

- a change that skips the start (Sao Paulo until 2018 went from 23:59 to 01:00) starts the window at the change; a
  window that is skipped entirely (the 30th of December 2011 in Apia) does not exist;
- a change back over the start (Havana goes from 00:59 to 00:00) starts no second day, week, month or year: the clock
  has shown that start before. The minutes that are shown again belong to the window that is open;
- an hour whose start is shown twice is two hours.

So a day on which clocks change has 23 or 25 hours in most zones, and a window is found by its instants, never by its
local label.

Instants are whole microseconds since 1970-01-01T00:00Z, without leap seconds. The zones are those of the IANA time
zone database on this machine, read once a process (see `zoneinfo` for where from). Two machines with different releases
of it may disagree on what a government changed in between.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from sluicegate._core.errors import InvalidPolicy, meant, nearest, short_repr

Every = Literal["hour", "day", "week", "month", "year"]
EVERY: tuple[Every, ...] = get_args(Every)
"""The kinds of calendar windows."""

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
"""The weekdays, in the order of `date.weekday`."""

# The arguments that move the start of each kind of window.
_STARTS = {
    "hour": (),
    "day": ("hour",),
    "week": ("weekday", "hour"),
    "month": ("day", "hour"),
    "year": ("month", "day", "hour"),
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR_US = 3600 * 1_000_000
_DAY_US = 24 * _HOUR_US
_SPAN_US = {"hour": _HOUR_US, "day": _DAY_US, "week": 7 * _DAY_US, "month": 31 * _DAY_US, "year": 366 * _DAY_US}

_ZONE = re.compile(r"(?=.{1,64}\Z)[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z")
# Valid names by their form, but not the same zone on every machine, or not a zone at all.
_NO_ZONE = {"localtime", "posixrules", "Factory"}


class Cycle(NamedTuple):
    """The windows of one calendar: how long they are, in which time zone, and where they start.

    Build it with `checked_cycle`. None is the usual start and its only form, so that writing it out makes no other
    window. A tuple, as those hash fastest: the edges are looked up by it for every request.

    Attributes:
        every: One of `EVERY`.
        timezone: The IANA name of the zone.
        weekday: The first day of a week; None is Monday.
        month: The first month of a year, 2 to 12; None is January.
        day: The first day of a month or a year, 2 to 31; None is the 1st. In a shorter month it is the last day.
        hour: The first hour of a day, a week, a month or a year, 1 to 23; None is midnight.
    """

    every: Every
    timezone: str
    weekday: Weekday | None = None
    month: int | None = None
    day: int | None = None
    hour: int | None = None

    @property
    def span(self) -> str:
        """The window as it is written in names and stored keys: ``month``, or ``month-day15-hour6``."""
        numbers = {"month": self.month, "day": self.day, "hour": self.hour}
        starts = [f"{name}{number}" for name, number in numbers.items() if number is not None]
        return "-".join([self.every, *([self.weekday] if self.weekday else []), *starts])


def checked_cycle(
    every: Every, timezone: str, *, weekday: Weekday | None, month: int | None, day: int | None, hour: int | None
) -> Cycle:
    """Return a cycle of these; raise `InvalidPolicy` if one is invalid or does not move the start of such a window."""
    every = checked_every(every)
    for name, value in (("weekday", weekday), ("month", month), ("day", day), ("hour", hour)):
        if value is not None and name not in _STARTS[every]:
            raise InvalidPolicy(
                f'{name} must not be given with every="{every}", got {short_repr(value)}; {_fitting(name, every)}'
            )
    return Cycle(
        every,
        checked_zone(timezone),
        _checked_weekday(weekday),
        _checked_number("month", month, 1, 12),
        _checked_number("day", day, 1, 31),
        _checked_number("hour", hour, 0, 23),
    )


def checked_every(every: Every) -> Every:
    """Return ``every``; raise `InvalidPolicy` unless it is one of `EVERY`."""
    if not isinstance(every, str) or every not in EVERY:
        raise InvalidPolicy(f"every must be one of {', '.join(EVERY)}, got {short_repr(every)}{meant(every, EVERY)}")
    return EVERY[EVERY.index(every)]  # a subclass of str (an enum member, say) becomes plain str


def checked_zone(name: str) -> str:
    """Return ``name``; raise `InvalidPolicy` unless it is an IANA time zone that this machine has data for.

    Names are case-sensitive on every machine, even if its file names are not. ``UTC`` needs no data. ``localtime`` is
    rejected: the instances of a fleet would differ.
    """
    _opened(name)
    return str.__str__(name)


def span_us(every: str) -> int:
    """Return the longest ordinary length of a window, µs: an hour, a day, 7 days, 31 days or 366 days.

    A change of the zone's clock may add to it: usually an hour, or a day where the date line was crossed.
    """
    return _SPAN_US[every]


def edges(cycle: Cycle, at_us: int) -> tuple[int, int, int, int]:
    """Return the four edges around ``at_us``: the starts of the last window, this one, the next and the one after it.

    They rise, each window ends where the next one starts, and ``edges[1] <= at_us < edges[2]``.

    Args:
        cycle: The windows, as `checked_cycle` returns them.
        at_us: µs since 1970; below 0 is before.

    Raises:
        ValueError: An edge lies outside the years 1 to 9999.
        InvalidPolicy: The zone's data are not on this machine.
    """
    instants = _around(cycle, at_us // _DAY_US)
    after = bisect_right(instants, at_us)
    if not 2 <= after < len(instants) - 1:
        raise ValueError(
            f"the clock must read a time between the years 1 and 9999 for a calendar window of one {cycle.every}, got "
            f"{short_repr(at_us)} µs since 1970: set the clock, in microseconds"
        )
    return instants[after - 2], instants[after - 1], instants[after], instants[after + 1]


# An entry is about 30 instants for hours and 5 for the others, so a megabyte at most in all: one day of 1 024 zones.
@lru_cache(maxsize=1024)
def _around(cycle: Cycle, day: int) -> tuple[int, ...]:
    """Return all edges around the instants of one UTC day, sorted; fewer at the ends of datetime's range."""
    zone = _opened(cycle.timezone)
    instants = sorted({at_us for label in _labels(cycle, day) for at_us in _begins(label, zone, cycle.every)})
    start_us = day * _DAY_US
    first = bisect_right(instants, start_us) - 2
    last = bisect_left(instants, start_us + _DAY_US) + 1
    return tuple(instants[max(first, 0) : last + 1])


def _labels(cycle: Cycle, day: int) -> Iterator[datetime]:
    """Yield the local times at which the windows around a UTC day start, with two to spare on each side."""
    hours = range(24) if cycle.every == "hour" else [cycle.hour or 0]
    for ordinal in _dates(cycle, _EPOCH.toordinal() + day):
        if 1 <= ordinal <= date.max.toordinal():
            midnight = datetime.fromordinal(ordinal)
            yield from (midnight.replace(hour=hour) for hour in hours)


def _dates(cycle: Cycle, ordinal: int) -> Iterable[int]:
    """Return the ordinals of the local dates on which those windows start; some may be outside the years 1 to 9999.

    An offset is less than a day, so the local date is one of three; and a zone may have skipped a day on either side.
    """
    if not 1 <= ordinal <= date.max.toordinal():
        return ()
    today = date.fromordinal(ordinal)
    if cycle.every == "hour":
        return range(ordinal - 2, ordinal + 3)
    if cycle.every == "day":
        return range(ordinal - 4, ordinal + 6)
    if cycle.every == "week":
        first = ordinal - today.weekday() + WEEKDAYS.index(cycle.weekday or "monday")
        return range(first - 5 * 7, first + 6 * 7, 7)
    day = cycle.day or 1
    if cycle.every == "month":
        number = today.year * 12 + today.month - 1
        return (_in_month(each, day) for each in range(number - 4, number + 6))
    number = today.year * 12 + (cycle.month or 1) - 1
    return (_in_month(each, day) for each in range(number - 4 * 12, number + 6 * 12, 12))


def _in_month(number: int, day: int) -> int:
    """Return the ordinal of a day of a month, or of its last if it has fewer; 0 outside the years 1 to 9999.

    Months are counted from January of the year 0.
    """
    year, month = number // 12, number % 12 + 1
    if not 1 <= year <= date.max.year:
        return 0
    found = date(year, month, 1) + timedelta(days=day - 1)
    # In the next month its day is the number of days too many.
    return found.toordinal() - (found.day if found.month != month else 0)


def _begins(label: datetime, zone: tzinfo, every: str) -> Iterator[int]:
    """Yield when the zone's clock first shows ``label`` or jumps past it; for an hour shown twice, both times."""
    try:
        first, second = (_us(label.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    except OverflowError:
        return
    if first > second:
        # Skipped: fold=0 reads it by the offset before the change, which gives an instant at or after the change;
        # only a label that the change itself would have shown is exactly there. fold=1 gives one before it.
        yield _passed(label, zone, range(second // 1_000_000, first // 1_000_000 + 1))
        return
    yield first
    if every == "hour":
        yield second


def _passed(label: datetime, zone: tzinfo, seconds: range) -> int:
    """Return the first of these seconds at which the zone's clock is at ``label`` or past it, in µs."""

    def local(second: int) -> datetime:
        return (_EPOCH + timedelta(seconds=second)).astimezone(zone).replace(tzinfo=None)

    return seconds[bisect_left(seconds, label, key=local)] * 1_000_000


def _us(moment: datetime) -> int:
    # To UTC first: the difference of two times in one zone is that of its clock's faces.
    return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND


def _fitting(name: str, every: str) -> str:
    """Return what to write instead of ``name``, which does not move the start of such a window."""
    own = " or ".join(f"{each}=" for each in _STARTS[every])
    others = " or ".join(f'"{each}"' for each, starts in _STARTS.items() if name in starts)
    return f"{f'write {own}, or ' if own else ''}use every={others}"


def _checked_weekday(weekday: Weekday | None) -> Weekday | None:
    if weekday is None:
        return None
    if not isinstance(weekday, str) or weekday not in WEEKDAYS:
        raise InvalidPolicy(
            f"weekday must be one of {', '.join(WEEKDAYS)}, got {short_repr(weekday)}{meant(weekday, WEEKDAYS)}"
        )
    place = WEEKDAYS.index(weekday)
    return WEEKDAYS[place] if place else None


def _checked_number(name: str, number: int | None, low: int, high: int) -> int | None:
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise InvalidPolicy(f"{name} must be a whole number from {low} to {high}, got {short_repr(number)}")
    return int(number) if number > low else None  # the lowest is the usual one


def _opened(name: str) -> tzinfo:
    if isinstance(name, str):
        if name == "UTC":
            return UTC
        import zoneinfo  # few need it, and it takes milliseconds to import

        # Looked up, not tried: ZoneInfo would also open "right/UTC", and any case where file names ignore it.
        if name in _names(zoneinfo.TZPATH):
            try:
                return zoneinfo.ZoneInfo(name)
            except (OSError, ValueError, LookupError, struct.error) as error:
                raise InvalidPolicy(
                    f"timezone {short_repr(name)} cannot be read from this machine's zone data: {error}"
                ) from error
    raise InvalidPolicy(
        f"timezone must be the name of an IANA time zone, such as Europe/Paris, got {short_repr(name)}" + _advice(name)
    )


@lru_cache(maxsize=1)
def _names(_where: tuple[str, ...]) -> frozenset[str]:
    import zoneinfo

    return frozenset(name for name in zoneinfo.available_timezones() if name not in _NO_ZONE and _ZONE.match(name))


def _advice(name: str) -> str:
    import zoneinfo

    names = _names(zoneinfo.TZPATH)
    if not names:
        return ": this machine has no zone data, so only UTC is known; pip install tzdata"
    if not isinstance(name, str):
        return ""
    # Names with a digit are never suggested: Etc/GMT+2 is two hours west, not what "GMT+2" means.
    known = sorted(zone for zone in names if not re.search(r"\d", zone))
    by_text = {zone.rpartition("/")[2].lower(): zone for zone in known} | {zone.lower(): zone for zone in known}
    near = nearest(name.strip().replace(" ", "_"), by_text, likeness=0.8)
    return f": did you mean {by_text[near]}?" if near else ""
