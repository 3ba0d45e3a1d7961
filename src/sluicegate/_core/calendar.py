"""The calendar: when hours, days, weeks, months and years start and end in a time zone. Pure; reads no clock.

A window starts when the zone's clock first shows the start of an hour, a day (midnight), a week (Monday's midnight, ISO
8601), a month or a year (Gregorian), or jumps past it. The windows are the spans between these instants in order of
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
from typing import Literal, get_args

from sluicegate._core.errors import InvalidPolicy, meant, nearest, short_repr

Every = Literal["hour", "day", "week", "month", "year"]
EVERY: tuple[Every, ...] = get_args(Every)
"""The kinds of calendar windows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR_US = 3600 * 1_000_000
_DAY_US = 24 * _HOUR_US
_SPAN_US = {"hour": _HOUR_US, "day": _DAY_US, "week": 7 * _DAY_US, "month": 31 * _DAY_US, "year": 366 * _DAY_US}

_ZONE = re.compile(r"(?=.{1,64}\Z)[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z")
# Valid names by their form, but not the same zone on every machine, or not a zone at all.
_NO_ZONE = {"localtime", "posixrules", "Factory"}


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


def edges(every: str, timezone: str, at_us: int) -> tuple[int, int, int, int]:
    """Return the four edges around ``at_us``: the starts of the last window, this one, the next and the one after it.

    They rise, each window ends where the next one starts, and ``edges[1] <= at_us < edges[2]``.

    Args:
        every: One of `EVERY`, as `checked_every` returns it.
        timezone: A name as `checked_zone` returns it.
        at_us: µs since 1970; below 0 is before.

    Raises:
        ValueError: An edge lies outside the years 1 to 9999.
        InvalidPolicy: The zone's data are not on this machine.
    """
    instants = _around(every, timezone, at_us // _DAY_US)
    after = bisect_right(instants, at_us)
    if not 2 <= after < len(instants) - 1:
        raise ValueError(
            f"the clock must read a time between the years 1 and 9999 for a calendar window of one {every}, got "
            f"{short_repr(at_us)} µs since 1970: set the clock, in microseconds"
        )
    return instants[after - 2], instants[after - 1], instants[after], instants[after + 1]


# An entry is about 30 instants for hours and 5 for the others, so a megabyte at most in all: one day of 1 024 zones.
@lru_cache(maxsize=1024)
def _around(every: str, timezone: str, day: int) -> tuple[int, ...]:
    """Return all edges around the instants of one UTC day, sorted; fewer at the ends of datetime's range."""
    zone = _opened(timezone)
    instants = sorted({at_us for label in _labels(every, day) for at_us in _begins(label, zone, every)})
    start_us = day * _DAY_US
    first = bisect_right(instants, start_us) - 2
    last = bisect_left(instants, start_us + _DAY_US) + 1
    return tuple(instants[max(first, 0) : last + 1])


def _labels(every: str, day: int) -> Iterator[datetime]:
    """Yield the local times at which the windows around a UTC day start, with two to spare on each side.

    An offset is less than a day, so the local date is one of three; and a zone may have skipped a day on either side.
    """
    ordinal = _EPOCH.toordinal() + day
    if not 1 <= ordinal <= date.max.toordinal():
        return
    today = date.fromordinal(ordinal)
    if every == "hour":
        for midnight in _midnights(range(ordinal - 2, ordinal + 3)):
            yield from (midnight.replace(hour=hour) for hour in range(24))
    elif every == "day":
        yield from _midnights(range(ordinal - 4, ordinal + 6))
    elif every == "week":
        monday = ordinal - today.weekday()
        yield from _midnights(range(monday - 4 * 7, monday + 6 * 7, 7))
    else:
        size = 1 if every == "month" else 12
        number = (today.year * 12 + today.month - 1) // size
        yield from _midnights(_month(step * size) for step in range(number - 4, number + 6))


def _midnights(ordinals: Iterable[int]) -> Iterator[datetime]:
    return (datetime.fromordinal(ordinal) for ordinal in ordinals if 1 <= ordinal <= date.max.toordinal())


def _month(number: int) -> int:
    """Return the ordinal of the first day of a month, counted from January of the year 0; 0 outside years 1 to 9999."""
    year, month = divmod(number, 12)
    return date(year, month + 1, 1).toordinal() if 1 <= year <= date.max.year else 0


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
