"""The edges of the calendar, held against instants known by hand, their own rules, and a clock that is watched."""

from __future__ import annotations

import re
import sys
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate._core import calendar
from sluicegate._core.calendar import EVERY, WEEKDAYS, Cycle, checked_cycle, checked_every, checked_zone, span_us
from sluicegate._core.errors import InvalidPolicy

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3600 * 1_000_000
MINUTE_US = HOUR_US // 60

# Zones with a change worth a test, and a UTC instant within hours of it.
CHANGES = [
    ("Europe/Paris", "2025-03-30T01:00"),
    ("Europe/Paris", "2025-10-26T01:00"),
    ("America/New_York", "2025-03-09T07:00"),
    ("America/New_York", "2025-11-02T06:00"),
    ("Australia/Lord_Howe", "2025-04-05T15:00"),  # back by 30 minutes
    ("Australia/Lord_Howe", "2025-10-04T15:30"),  # on by 30 minutes
    ("Antarctica/Troll", "2025-03-30T01:00"),  # on by 2 hours
    ("Antarctica/Troll", "2025-10-26T01:00"),  # back by 2 hours
    ("America/St_Johns", "2006-04-02T03:31"),  # on at 00:01
    ("America/St_Johns", "2006-10-29T02:31"),  # back at 00:01, into the day before
    ("America/St_Johns", "1988-04-03T03:31"),  # on by 2 hours at 00:01, past 01:00 and 02:00
    ("Pacific/Apia", "2011-12-30T10:00"),  # no 30th of December
    ("Pacific/Kwajalein", "1993-08-21T12:00"),  # no 21st of August
    ("Pacific/Kwajalein", "1969-09-30T13:00"),  # back by 23 hours, at midnight
    ("America/Havana", "2025-11-02T05:00"),  # midnight twice
    ("America/Sao_Paulo", "2017-10-15T03:00"),  # no midnight
    ("Asia/Beirut", "2025-03-29T22:00"),  # no midnight
    ("Africa/Cairo", "2025-04-24T22:00"),  # no midnight
    ("Asia/Pyongyang", "2018-05-04T15:00"),  # on by 30 minutes, from 23:30 to midnight
    ("Asia/Kathmandu", "1985-12-31T18:30"),  # on by 15 minutes, from the midnight of a new year
    ("America/Caracas", "2007-12-09T07:00"),  # back by 30 minutes, from 03:00
    ("America/Caracas", "2016-05-01T07:00"),  # on by 30 minutes, from 02:30 to 03:00
    ("Asia/Colombo", "1996-10-25T18:00"),  # back by 30 minutes, from 00:30 to midnight
    ("Africa/Casablanca", "2025-02-23T02:00"),
    ("Asia/Kuala_Lumpur", "1981-12-31T16:00"),  # on by 30 minutes, from 23:30 to a new year
    ("Asia/Gaza", "2011-07-31T21:00"),  # back by an hour, at midnight of a new month
    ("America/Toronto", "1919-03-31T04:30"),  # on by an hour, from 23:30 past midnight
]
ZONES = sorted(
    {zone for zone, _ in CHANGES}
    | {
        "UTC",
        "Etc/GMT-14",
        "Etc/GMT+12",
        "Africa/Monrovia",
        "Africa/Lagos",
        "America/Anchorage",
        "America/Los_Angeles",
        "America/Nuuk",
        "America/Argentina/Buenos_Aires",
        "Asia/Kolkata",
        "Asia/Tehran",
        "Asia/Tokyo",
        "Asia/Shanghai",
        "Asia/Manila",
        "Atlantic/Azores",
        "Australia/Eucla",
        "Europe/Dublin",
        "Europe/London",
        "Europe/Moscow",
        "Europe/Istanbul",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "Pacific/Tongatapu",
        "Pacific/Fakaofo",
    }
)

MISSING = [zone for zone in ZONES if zone != "UTC" and zone not in zoneinfo.available_timezones()]
needs_zones = pytest.mark.skipif(
    bool(MISSING), reason=f"NO CALENDAR TESTED: no zone data of {', '.join(MISSING[:3])} here; pip install tzdata"
)


def us(text: str) -> int:
    """Read an instant, in UTC unless it names an offset."""
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def edges(every: str, zone: str, at_us: int, **start) -> tuple[int, int, int, int]:
    return calendar.edges(Cycle(every, zone, **start), at_us)


def starts(every: str, zone: str, first: str, count: int, **start) -> list[str]:
    """List where the window of an instant and those after it begin, in UTC."""
    found = [edges(every, zone, us(first), **start)[1]]
    while len(found) < count:
        found.append(edges(every, zone, found[-1], **start)[2])
    return [f"{EPOCH + timedelta(microseconds=at_us):%Y-%m-%dT%H:%M}" for at_us in found]


def hours_long(every: str, zone: str, at: str) -> float:
    _, start, end, _ = edges(every, zone, us(at))
    return (end - start) / HOUR_US


@needs_zones
@pytest.mark.parametrize(
    ("zone", "at", "hours", "week"),
    [
        ("Europe/Paris", "2025-03-30T12:00+02:00", 23, 167),
        ("Europe/Paris", "2025-10-26T12:00+01:00", 25, 169),
        ("Europe/Paris", "2026-07-01T12:00+02:00", 24, 168),
        ("America/New_York", "2025-03-09T12:00-04:00", 23, 167),
        ("America/New_York", "2025-11-02T12:00-05:00", 25, 169),
        ("Australia/Lord_Howe", "2025-04-06T12:00+10:30", 24.5, 168.5),
        ("Australia/Lord_Howe", "2025-10-05T12:00+11:00", 23.5, 167.5),
        ("Antarctica/Troll", "2025-03-30T12:00+02:00", 22, 166),
        ("Antarctica/Troll", "2025-10-26T12:00+00:00", 26, 170),
        ("America/Havana", "2025-11-02T12:00-05:00", 25, 169),
        ("America/Sao_Paulo", "2017-10-15T12:00-02:00", 23, 167),
        ("Pacific/Apia", "2011-12-29T12:00-10:00", 24, 144),
        ("Pacific/Apia", "2011-12-31T12:00+14:00", 24, 144),
        ("Pacific/Kwajalein", "1969-09-30T12:00-12:00", 47, 191),
    ],
)
def test_a_day_and_a_week_are_as_long_as_the_change_of_clocks_makes_them(zone: str, at: str, hours: float, week: float):
    assert hours_long("day", zone, at) == hours
    assert hours_long("week", zone, at) == week


@needs_zones
@pytest.mark.parametrize(
    ("every", "zone", "at", "expected"),
    [
        # 01:00, 03:00, 04:00 in Paris.
        ("hour", "Europe/Paris", "2025-03-30T00:30", ["2025-03-30T00:00", "2025-03-30T01:00", "2025-03-30T02:00"]),
        # 02:00, 02:00, 03:00: an hour shown twice is two.
        ("hour", "Europe/Paris", "2025-10-26T00:30", ["2025-10-26T00:00", "2025-10-26T01:00", "2025-10-26T02:00"]),
        # 01:00, and 02:00 half an hour later than usual: from 01:59 the clock goes to 01:30, which starts no hour.
        ("hour", "Australia/Lord_Howe", "2025-04-05T14:30", ["2025-04-05T14:00", "2025-04-05T15:30"]),
        # 01:00, 02:30 as the clock jumps past 02:00, 03:00.
        (
            "hour",
            "Australia/Lord_Howe",
            "2025-10-04T15:00",
            ["2025-10-04T14:30", "2025-10-04T15:30", "2025-10-04T16:00", "2025-10-04T17:00"],
        ),
        ("hour", "Asia/Kolkata", "2026-05-01T12:00", ["2026-05-01T11:30", "2026-05-01T12:30"]),
        ("hour", "Asia/Kathmandu", "2026-05-01T12:00", ["2026-05-01T11:15", "2026-05-01T12:15"]),
        ("day", "Asia/Kathmandu", "2026-05-01T12:00", ["2026-04-30T18:15", "2026-05-01T18:15"]),
        # The new year of 1986 began as the clock went from midnight to 00:15, and its day is the shorter.
        ("year", "Asia/Kathmandu", "1986-01-01T12:00", ["1985-12-31T18:30", "1986-12-31T18:15"]),
        # 23:59 is followed by 01:00.
        ("day", "America/Sao_Paulo", "2017-10-15T02:59", ["2017-10-14T03:00", "2017-10-15T03:00", "2017-10-16T02:00"]),
        # Toronto in 1919 went from 23:30 to 00:30, past midnight: the day began half an hour before fold=0 says.
        ("day", "America/Toronto", "1919-03-30T12:00", ["1919-03-30T05:00", "1919-03-31T04:30", "1919-04-01T04:00"]),
        # Sunday's midnight comes a minute before a second Saturday 23:01 and another midnight: one day, one edge.
        (
            "day",
            "America/St_Johns",
            "2006-10-28T12:00",
            ["2006-10-28T02:30", "2006-10-29T02:30", "2006-10-30T03:30"],
        ),
        # The same for hours: Saturday's 23:00, midnight, and after 23:01 again the second midnight.
        (
            "hour",
            "America/St_Johns",
            "2006-10-29T02:00",
            ["2006-10-29T01:30", "2006-10-29T02:30", "2006-10-29T03:30", "2006-10-29T04:30"],
        ),
        # The 29th is followed by the 31st, in the same instant in which the 30th would have begun.
        ("day", "Pacific/Apia", "2011-12-29T12:00", ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"]),
        ("year", "Pacific/Apia", "2011-06-01T00:00", ["2011-01-01T10:00", "2011-12-31T10:00"]),
        ("day", "Pacific/Kwajalein", "1993-08-20T13:00", ["1993-08-20T12:00", "1993-08-21T12:00", "1993-08-22T12:00"]),
        # Leap days, month ends and year ends.
        ("day", "UTC", "2024-02-28T01:00", ["2024-02-28T00:00", "2024-02-29T00:00", "2024-03-01T00:00"]),
        ("month", "UTC", "2024-02-29T23:59", ["2024-02-01T00:00", "2024-03-01T00:00", "2024-04-01T00:00"]),
        ("day", "UTC", "2100-02-28T12:00", ["2100-02-28T00:00", "2100-03-01T00:00"]),
        ("day", "UTC", "2000-02-28T12:00", ["2000-02-28T00:00", "2000-02-29T00:00"]),
        ("month", "Europe/Paris", "2026-12-31T12:00", ["2026-11-30T23:00", "2026-12-31T23:00", "2027-01-31T23:00"]),
        ("month", "Europe/Paris", "2026-03-15T12:00", ["2026-02-28T23:00", "2026-03-31T22:00", "2026-04-30T22:00"]),
        ("year", "Asia/Tokyo", "2024-06-01T00:00", ["2023-12-31T15:00", "2024-12-31T15:00", "2025-12-31T15:00"]),
        ("week", "UTC", "2026-01-01T00:00", ["2025-12-29T00:00", "2026-01-05T00:00"]),
        ("week", "UTC", "1970-01-01T00:00", ["1969-12-29T00:00", "1970-01-05T00:00"]),
        ("month", "UTC", "1969-12-31T23:59", ["1969-12-01T00:00", "1970-01-01T00:00"]),
    ],
)
def test_windows_begin_when_the_local_clock_first_shows_their_start(
    every: str, zone: str, at: str, expected: list[str]
):
    assert starts(every, zone, at, len(expected)) == expected


@needs_zones
@pytest.mark.parametrize("every", EVERY)
def test_an_edge_is_in_the_window_that_begins_there_and_the_microsecond_before_it_in_the_one_that_ends(every: str):
    edge = us("2027-02-01T00:00-05:00") if every != "year" else us("2027-01-01T00:00-05:00")
    before = edges(every, "America/New_York", edge - 1)
    after = edges(every, "America/New_York", edge)
    assert before[2] == after[1] == edge
    assert before[1:] == after[:3]


# Oracle: reads the zone's clock at every step, and notes when it first shows what it has not yet shown.


def shown_by(zone: str, at_us: int) -> datetime:
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)


def label(every: str, local: datetime) -> tuple[int, ...]:
    if every == "week":
        return local.isocalendar()[:2]
    return (local.year, local.month, local.day, local.hour)[: {"year": 1, "month": 2, "day": 3, "hour": 4}[every]]


def watched(zone: str, start_us: int, stop_us: int, step_us: int) -> list[tuple[int, datetime]]:
    return [(at_us, shown_by(zone, at_us)) for at_us in range(start_us, stop_us, step_us)]


def begun(every: str, clock: list[tuple[int, datetime]]) -> list[int]:
    newest = label(every, clock[0][1])
    found = []
    for at_us, local in clock[1:]:
        again = every == "hour" and not (local.minute or local.second)
        if label(every, local) > newest or again:
            found.append(at_us)
        newest = max(newest, label(every, local))
    return found


def walked(every: str, zone: str, start_us: int, stop_us: int) -> list[int]:
    found = []
    edge = edges(every, zone, start_us)[2]
    while edge < stop_us:
        found.append(edge)
        edge = edges(every, zone, edge)[2]
    return found


@needs_zones
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_around_a_change_the_edges_are_those_that_a_watched_clock_shows(zone: str, change: str):
    start_us, stop_us = us(change) - 40 * HOUR_US, us(change) + 40 * HOUR_US
    assert shown_by(zone, stop_us) - shown_by(zone, start_us) != timedelta(hours=80)
    clock = watched(zone, start_us, stop_us, MINUTE_US)
    for every in ("hour", "day"):
        expected = begun(every, clock)
        assert walked(every, zone, start_us, stop_us) == expected
        assert len(expected) >= (70 if every == "hour" else 2)


@needs_zones
@pytest.mark.parametrize(
    ("zone", "start"),
    [("Europe/Paris", "2025-11-20"), ("Pacific/Apia", "2011-01-10"), ("Asia/Kathmandu", "1985-06-10")],
)
def test_over_fourteen_months_the_edges_are_those_that_a_watched_clock_shows(zone: str, start: str):
    start_us = us(start)
    stop_us = start_us + 425 * 24 * HOUR_US
    clock = watched(zone, start_us, stop_us, 15 * MINUTE_US)
    for every in ("week", "month", "year"):
        expected = begun(every, clock)
        assert walked(every, zone, start_us, stop_us) == expected
        assert expected


NEAR_A_CHANGE = st.builds(
    lambda change, after_us: us(change[1]) + after_us,
    st.sampled_from(CHANGES),
    st.integers(-3 * 24 * HOUR_US, 3 * 24 * HOUR_US) | st.integers(-4, 4).map(lambda hours: hours * HOUR_US),
)
AT_ANY_TIME = st.integers(us("1950-01-01"), us("2100-12-31"))


@needs_zones
@given(zone=st.sampled_from(ZONES), at_us=AT_ANY_TIME | NEAR_A_CHANGE, part=st.integers(0, 10**6))
@pytest.mark.parametrize("every", EVERY)
def test_windows_tile_time(every: str, zone: str, at_us: int, part: int):
    e0, e1, e2, e3 = found = edges(every, zone, at_us)
    assert e0 < e1 <= at_us < e2 < e3
    assert edges(every, zone, e1 + (e2 - 1 - e1) * part // 10**6) == found
    assert edges(every, zone, e1) == edges(every, zone, e2 - 1) == found
    assert edges(every, zone, e2)[:3] == (e1, e2, e3)
    assert edges(every, zone, e1 - 1)[1:] == (e0, e1, e2)


@needs_zones
@given(change=st.sampled_from(CHANGES), after_us=st.integers(-3 * 24 * HOUR_US, 3 * 24 * HOUR_US))
@pytest.mark.parametrize("every", EVERY)
def test_windows_tile_time_around_a_change(every: str, change: tuple[str, str], after_us: int):
    e0, e1, e2, e3 = edges(every, change[0], us(change[1]) + after_us)
    assert e0 < e1 <= us(change[1]) + after_us < e2 < e3
    assert edges(every, change[0], e2)[:3] == (e1, e2, e3)
    assert edges(every, change[0], e1 - 1)[1:] == (e0, e1, e2)


# Windows that begin elsewhere


@needs_zones
@pytest.mark.parametrize(
    ("every", "zone", "start", "at", "expected"),
    [
        ("week", "UTC", {"weekday": "sunday"}, "2026-01-03T12:00", ["2025-12-28T00:00", "2026-01-04T00:00"]),
        ("week", "UTC", {"weekday": "sunday"}, "2026-01-04T00:00", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        (
            "week",
            "UTC",
            {"weekday": "friday", "hour": 18},
            "2026-01-02T17:59",
            ["2025-12-26T18:00", "2026-01-02T18:00"],
        ),
        # In New York a Saturday's midnight is at 04:00 or 05:00 in UTC: clocks go forward on the Sunday.
        (
            "week",
            "America/New_York",
            {"weekday": "saturday"},
            "2025-03-05T12:00",
            ["2025-03-01T05:00", "2025-03-08T05:00", "2025-03-15T04:00"],
        ),
        ("month", "UTC", {"day": 15}, "2026-01-14T23:59", ["2025-12-15T00:00", "2026-01-15T00:00", "2026-02-15T00:00"]),
        ("month", "UTC", {"day": 15, "hour": 6}, "2026-01-15T05:59", ["2025-12-15T06:00", "2026-01-15T06:00"]),
        # A month without that day begins on its last one, and the next with it is back on it.
        (
            "month",
            "UTC",
            {"day": 31},
            "2026-01-31T00:00",
            ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00", "2026-04-30T00:00", "2026-05-31T00:00"],
        ),
        (
            "month",
            "UTC",
            {"day": 30},
            "2024-01-30T00:00",
            ["2024-01-30T00:00", "2024-02-29T00:00", "2024-03-30T00:00", "2024-04-30T00:00"],
        ),
        ("month", "UTC", {"day": 29}, "2025-02-01T00:00", ["2025-01-29T00:00", "2025-02-28T00:00", "2025-03-29T00:00"]),
        ("month", "UTC", {"day": 29}, "2024-02-01T00:00", ["2024-01-29T00:00", "2024-02-29T00:00", "2024-03-29T00:00"]),
        ("month", "UTC", {"day": 29}, "2100-02-01T00:00", ["2100-01-29T00:00", "2100-02-28T00:00", "2100-03-29T00:00"]),
        # The fiscal years of Britain, the United States and Japan; and one from the leap day.
        ("year", "Europe/London", {"month": 4, "day": 6}, "2026-04-05T12:00", ["2025-04-05T23:00", "2026-04-05T23:00"]),
        ("year", "UTC", {"month": 10}, "2026-01-01T00:00", ["2025-10-01T00:00", "2026-10-01T00:00"]),
        ("year", "Asia/Tokyo", {"month": 4}, "2026-03-31T14:59", ["2025-03-31T15:00", "2026-03-31T15:00"]),
        (
            "year",
            "UTC",
            {"month": 2, "day": 29},
            "2024-03-01T00:00",
            ["2024-02-29T00:00", "2025-02-28T00:00", "2026-02-28T00:00", "2027-02-28T00:00", "2028-02-29T00:00"],
        ),
        ("year", "UTC", {"day": 6}, "2026-01-05T00:00", ["2025-01-06T00:00", "2026-01-06T00:00"]),
        ("year", "UTC", {"hour": 6}, "2026-01-01T05:00", ["2025-01-01T06:00", "2026-01-01T06:00"]),
        ("day", "Europe/Paris", {"hour": 6}, "2026-07-01T03:59", ["2026-06-30T04:00", "2026-07-01T04:00"]),
        # 02:00 does not exist on the 30th of March: the day begins as the clock goes from 01:59 to 03:00.
        (
            "day",
            "Europe/Paris",
            {"hour": 2},
            "2025-03-29T12:00",
            ["2025-03-29T01:00", "2025-03-30T01:00", "2025-03-31T00:00"],
        ),
        # 02:00 exists twice on the 26th of October: the day begins at the first.
        (
            "day",
            "Europe/Paris",
            {"hour": 2},
            "2025-10-25T12:00",
            ["2025-10-25T00:00", "2025-10-26T00:00", "2025-10-27T01:00"],
        ),
        # 03:00 is not shown before the clock goes back to 02:00.
        ("day", "Europe/Paris", {"hour": 3}, "2025-10-25T12:00", ["2025-10-25T01:00", "2025-10-26T02:00"]),
        # Half an hour: 02:00 is skipped as 01:59 is followed by 02:30; and 01:30 to 01:59 is shown twice, 02:00 once.
        ("day", "Australia/Lord_Howe", {"hour": 2}, "2025-10-04T12:00", ["2025-10-03T15:30", "2025-10-04T15:30"]),
        ("day", "Australia/Lord_Howe", {"hour": 2}, "2025-10-05T12:00", ["2025-10-04T15:30", "2025-10-05T15:00"]),
        ("day", "Australia/Lord_Howe", {"hour": 2}, "2025-04-05T12:00", ["2025-04-04T15:00", "2025-04-05T15:30"]),
        # From 01:00 to 03:00: the day begins at the jump, where fold=0 would read 02:00 as 04:00.
        ("day", "Antarctica/Troll", {"hour": 2}, "2025-03-29T12:00", ["2025-03-29T02:00", "2025-03-30T01:00"]),
        # The 30th of December would have begun at its 06:00, which Apia skipped, and lasts until 06:00 on the 31st.
        (
            "day",
            "Pacific/Apia",
            {"hour": 6},
            "2011-12-29T16:00",
            ["2011-12-29T16:00", "2011-12-30T10:00", "2011-12-30T16:00", "2011-12-31T16:00"],
        ),
        # Havana shows midnight twice, and 01:00 only after the second.
        ("day", "America/Havana", {"hour": 1}, "2025-11-01T12:00", ["2025-11-01T05:00", "2025-11-02T06:00"]),
        # A week from a skipped hour.
        (
            "week",
            "America/New_York",
            {"weekday": "sunday", "hour": 2},
            "2025-03-08T12:00",
            ["2025-03-02T07:00", "2025-03-09T07:00", "2025-03-16T06:00"],
        ),
    ],
)
def test_windows_that_begin_elsewhere_begin_when_the_local_clock_first_shows_their_start_or_jumps_past_it(
    every: str, zone: str, start: dict[str, int | str], at: str, expected: list[str]
):
    assert starts(every, zone, at, len(expected), **start) == expected


# Oracle: asks of each date whether a window begins on it, and walks along the zone's clock until it is that late.


def begins_on(day: date, cycle: Cycle) -> bool:
    tomorrow = day + timedelta(days=1)
    of_month = day.day == (cycle.day or 1) or (tomorrow.day == 1 and day.day < (cycle.day or 1))
    return {
        "day": True,
        "week": day.strftime("%A").lower() == (cycle.weekday or "monday"),
        "month": of_month,
        "year": of_month and day.month == (cycle.month or 1),
    }[cycle.every]


def reached(zone: str, start: datetime) -> int:
    """Return the first second, in µs, at which the zone's clock shows ``start`` or more."""
    at_us = us(start.isoformat()) - 60 * HOUR_US
    for step_us in (24 * HOUR_US, HOUR_US, MINUTE_US, MINUTE_US // 60):
        while shown_by(zone, at_us) < start:
            at_us += step_us
        at_us -= 2 * step_us  # the clock may have gone back within a step
    return at_us + 2 * step_us


def edges_by_walking(cycle: Cycle, at_us: int) -> tuple[int, ...]:
    days = {"day": 5, "week": 24, "month": 96, "year": 2 * 366 + 3}[cycle.every]
    today = shown_by(cycle.timezone, at_us).date()
    dates = [today + timedelta(days=off) for off in range(-days, days + 1)]
    hour = time(cycle.hour or 0)
    found = sorted({reached(cycle.timezone, datetime.combine(each, hour)) for each in dates if begins_on(each, cycle)})
    (this,) = (n for n, (one, other) in enumerate(pairwise(found)) if one <= at_us < other)
    return tuple(found[this - 1 : this + 3])


HOURS = st.none() | st.integers(1, 23) | st.sampled_from([1, 2, 3])
DAYS = st.none() | st.integers(2, 31) | st.sampled_from([28, 29, 30, 31])
STARTS = {
    "day": st.fixed_dictionaries({"hour": HOURS}),
    "week": st.fixed_dictionaries({"weekday": st.sampled_from(WEEKDAYS), "hour": HOURS}),
    "month": st.fixed_dictionaries({"day": DAYS, "hour": HOURS}),
    "year": st.fixed_dictionaries({"month": st.none() | st.integers(2, 12) | st.just(2), "day": DAYS, "hour": HOURS}),
}
ELSEWHERE = [
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Tehran",
    "America/Havana",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Pacific/Kwajalein",
]


@cache
def changes_in(zone: str, year: int) -> list[int]:
    """Return the midnights in UTC, µs, of the days in a year on which a zone's clock is changed."""
    days = range(us(f"{year}-01-01"), us(f"{year + 1}-01-01"), 24 * HOUR_US)
    return [day for day in days if shown_by(zone, day + 24 * HOUR_US) - shown_by(zone, day) != timedelta(days=1)]


@st.composite
def instants(draw, zone: str) -> int:
    """Draw an instant of the years 1970 to 2200: any, near a leap day, or near a change of the zone's clock."""
    year = draw(st.integers(1970, 2200) | st.sampled_from([1972, 2000, 2024, 2096, 2100, 2104]))
    near = draw(st.sampled_from(["any", "leap day", "change", "change", "change"]))
    changes = changes_in(zone, year) if near == "change" else []
    if changes:
        day_us = draw(st.sampled_from(changes))
    else:
        day_us = us(f"{year}-03-01") if near == "leap day" else us(f"{year}-01-01")
    within_us = (3 if near != "any" else 365) * 24 * HOUR_US
    return day_us + draw(st.integers(-within_us, within_us) | st.integers(-48, 48).map(lambda hours: hours * HOUR_US))


@needs_zones
@given(data=st.data(), zone=st.sampled_from(ELSEWHERE))
@pytest.mark.parametrize("every", STARTS)
def test_windows_that_begin_elsewhere_are_those_found_by_walking_and_tile_time(data, every: str, zone: str):
    cycle = Cycle(every, zone, **data.draw(STARTS[every]))
    at_us = data.draw(instants(zone))
    e0, e1, e2, e3 = found = calendar.edges(cycle, at_us)
    assert e0 < e1 <= at_us < e2 < e3
    assert found == edges_by_walking(cycle, at_us)
    assert calendar.edges(cycle, e1) == calendar.edges(cycle, e2 - 1) == found
    assert calendar.edges(cycle, e2)[:3] == (e1, e2, e3)
    assert calendar.edges(cycle, e1 - 1)[1:] == (e0, e1, e2)


@given(data=st.data())
@pytest.mark.parametrize("every", STARTS)
def test_no_ordinary_window_is_longer_than_its_span_wherever_it_begins(data, every: str):
    _, start, end, _ = calendar.edges(Cycle(every, "UTC", **data.draw(STARTS[every])), data.draw(instants("UTC")))
    shortest = {"day": 1, "week": 7, "month": 28, "year": 365}[every] * 24 * HOUR_US
    assert shortest <= end - start <= span_us(every)


@pytest.mark.parametrize("text", ["0004-03-01", "9996-06-01"])
@pytest.mark.parametrize(
    "cycle",
    [
        Cycle("day", "UTC", hour=23),
        Cycle("week", "UTC", weekday="sunday", hour=23),
        Cycle("month", "UTC", day=31, hour=23),
        Cycle("year", "UTC", month=12, day=31, hour=23),
    ],
    ids=lambda cycle: cycle.every,
)
def test_windows_that_begin_elsewhere_are_found_in_almost_all_years_of_datetime(cycle: Cycle, text: str):
    _, start, end, _ = calendar.edges(cycle, us(text))
    assert start <= us(text) < end


def test_a_window_that_begins_elsewhere_is_never_taken_for_another_one():
    at_us = us("2026-05-20T12:00")
    cycles = [
        *(Cycle("day", "UTC", hour=hour) for hour in (None, 6, 18)),
        *(Cycle("week", "UTC", weekday=weekday) for weekday in WEEKDAYS),
        *(Cycle("month", "UTC", day=day) for day in range(1, 32)),
        *(Cycle("year", "UTC", month=month) for month in range(1, 13)),
    ]
    assert len({calendar.edges(cycle, at_us) for cycle in cycles}) == len(cycles)  # from one cache


# What a start can be


def cycle_of(every: str, **start) -> Cycle:
    return checked_cycle(every, "UTC", **({"weekday": None, "month": None, "day": None, "hour": None} | start))


@pytest.mark.parametrize("weekday", WEEKDAYS)
def test_each_weekday_is_accepted_by_its_name_and_monday_is_the_usual_one(weekday: str):
    assert cycle_of("week", weekday=weekday).weekday == (None if weekday == "monday" else weekday)


@pytest.mark.parametrize(
    ("every", "start"),
    [
        ("day", {"hour": 0}),
        ("week", {"weekday": "monday", "hour": 0}),
        ("month", {"day": 1, "hour": 0}),
        ("year", {"month": 1, "day": 1, "hour": 0}),
    ],
)
def test_the_usual_start_written_out_is_no_other_window(every: str, start: dict[str, int | str]):
    assert cycle_of(every, **start) == cycle_of(every) == Cycle(every, "UTC")
    assert cycle_of(every, **start).span == every


@pytest.mark.parametrize(
    ("every", "start", "span"),
    [
        ("day", {"hour": 6}, "day-hour6"),
        ("week", {"weekday": "sunday"}, "week-sunday"),
        ("week", {"weekday": "sunday", "hour": 23}, "week-sunday-hour23"),
        ("week", {"hour": 6}, "week-hour6"),
        ("month", {"day": 15}, "month-day15"),
        ("month", {"day": 31, "hour": 6}, "month-day31-hour6"),
        ("year", {"month": 4}, "year-month4"),
        ("year", {"day": 4}, "year-day4"),
        ("year", {"month": 4, "day": 6, "hour": 1}, "year-month4-day6-hour1"),
    ],
)
def test_a_window_that_begins_elsewhere_is_told_apart_by_its_span(every: str, start: dict[str, int | str], span: str):
    assert cycle_of(every, **start).span == span


@pytest.mark.parametrize(
    "weekday", ["", "Sunday", "sundays", "sun", "domingo", 0, 6, True, b"sunday", ["sunday"], ANY], ids=repr
)
def test_any_other_weekday_is_refused(weekday):
    with pytest.raises(InvalidPolicy, match=r"weekday must be one of monday, tuesday, .*, sunday, got ") as caught:
        cycle_of("week", weekday=weekday)
    assert len(str(caught.value)) < 200


def test_a_weekday_that_is_nearly_named_is_proposed():
    with pytest.raises(InvalidPolicy, match=r"got 'Sunday'; did you mean sunday\?$"):
        cycle_of("week", weekday="Sunday")


@pytest.mark.parametrize(("name", "low", "high"), [("month", 1, 12), ("day", 1, 31), ("hour", 0, 23)])
def test_a_month_a_day_and_an_hour_are_whole_numbers_in_their_range(name: str, low: int, high: int):
    assert [getattr(cycle_of("year", **{name: number}), name) for number in (low, low + 1, high)] == [
        None,
        low + 1,
        high,
    ]
    for wrong in (low - 1, -1, high + 1, 1.0, True, False, "1", "06:00", b"1", [1], 10**5000, float("nan"), ANY):
        with pytest.raises(InvalidPolicy, match=f"{name} must be a whole number from {low} to {high}, got ") as caught:
            cycle_of("year", **{name: wrong})
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("every", "start", "said"),
    [
        ("hour", {"hour": 6}, 'hour must not be given with every="hour", got 6; use every="day" or "week" or "month"'),
        (
            "hour",
            {"weekday": "monday"},
            'weekday must not be given with every="hour", got \'monday\'; use every="week"',
        ),
        ("day", {"weekday": "monday"}, 'with every="day", got \'monday\'; write hour=, or use every="week"'),
        (
            "day",
            {"day": 1},
            'day must not be given with every="day", got 1; write hour=, or use every="month" or "year"',
        ),
        ("week", {"day": 3}, 'with every="week", got 3; write weekday= or hour=, or use every="month" or "year"'),
        ("month", {"weekday": "Sunday"}, "got 'Sunday'; write day= or hour=, or use every=\"week\""),
        (
            "month",
            {"month": 4},
            'month must not be given with every="month", got 4; write day= or hour=, or use every=',
        ),
        ("year", {"weekday": "sunday"}, "got 'sunday'; write month= or day= or hour=, or use every=\"week\""),
        ("week", {"month": "x" * 10**6}, "month must not be given"),
    ],
)
def test_a_start_that_a_window_does_not_have_is_refused_with_what_to_write(
    every: str, start: dict[str, int | str], said: str
):
    with pytest.raises(InvalidPolicy, match=re.escape(said)) as caught:
        cycle_of(every, **start)
    assert len(str(caught.value)) < 200


# The ends of time, and memory


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("at_us", [0, -1, 1, -86_400_000_000, 10**6])
def test_a_clock_may_stand_at_0_or_below(every: str, at_us: int):
    _, start, end, _ = edges(every, "UTC", at_us)
    assert start <= at_us < end
    assert 0 in edges(every, "UTC", 0) or every == "week"


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("text", ["0004-03-01", "9996-06-01"])
def test_almost_all_years_of_datetime_can_be_told(every: str, text: str):
    _, start, end, _ = edges(every, "UTC", us(text))
    assert start <= us(text) < end


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    "at_us",
    [us("0001-01-01"), us("9999-12-31T23:59"), 10**17 * 3, -(10**18), 10**40, 10**5000],
    ids=["first", "last", "after", "before", "far", "huge"],
)
def test_a_clock_outside_the_calendar_is_told_so(every: str, at_us: int):
    for zone in ("UTC", "Etc/GMT-14", "Etc/GMT+12") if not MISSING else ("UTC",):
        with pytest.raises(
            ValueError, match=r"the clock must read a time between the years 1 and 9999 for .*, got "
        ) as caught:
            edges(every, zone, at_us)
        assert len(str(caught.value)) < 300


def test_edges_are_exact_where_a_float_of_seconds_is_not():
    far = us("9990-06-01T00:00:00.000001")
    assert edges("month", "UTC", far - 1)[1] == far - 1
    assert edges("month", "UTC", far - 2)[2] == far - 1


def test_what_is_remembered_is_bounded():
    for day in range(3 * 1024):
        edges("day", "UTC", day * 24 * HOUR_US)
    assert calendar._around.cache_info().currsize <= calendar._around.cache_info().maxsize == 1024
    assert max(len(calendar._around(Cycle(every, "UTC"), 20_000)) for every in EVERY) < 32


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("text", ["2000-01-01", "2023-12-31", "2024-02-10", "2026-06-15"])
def test_no_ordinary_window_is_longer_than_its_span(every: str, text: str):
    _, start, end, _ = edges(every, "UTC", us(text))
    assert 0.9 * span_us(every) < end - start <= span_us(every)


def test_the_spans_are_the_longest_ordinary_lengths():
    spans = [span_us(every) / 10**6 for every in EVERY]
    assert spans == [3600, 86400, 7 * 86400, 31 * 86400, 366 * 86400]


@pytest.mark.parametrize("every", EVERY)
def test_each_window_of_the_calendar_is_accepted_by_its_name(every: str):
    assert checked_every(every) == every


@pytest.mark.parametrize("every", ["", "Month", "months", "minute", "x" * 10**6, None, 5, ["month"], ANY], ids=type)
def test_any_other_window_of_the_calendar_is_refused(every):
    with pytest.raises(InvalidPolicy, match="every must be one of hour, day, week, month, year, got ") as caught:
        checked_every(every)
    assert len(str(caught.value)) < 200


@needs_zones
@pytest.mark.parametrize("name", ZONES)
def test_a_time_zone_is_accepted_by_its_name(name: str):
    assert checked_zone(name) == name


@needs_zones
def test_every_time_zone_of_this_machine_is_accepted_but_those_that_are_none():
    refused = set()
    for name in zoneinfo.available_timezones():
        try:
            checked_zone(name)
        except InvalidPolicy:
            refused.add(name)
    assert refused <= {"localtime", "posixrules", "Factory"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "../../etc/passwd",
        "/etc/passwd",
        "/usr/share/zoneinfo/Europe/Paris",
        "Europe",
        "Europe/",
        "Europe/../Europe/Paris",
        "Europe//Paris",
        "Europe/Paris\n",
        "Europe/Paris\0",
        "\0",
        "\ud800",
        "Europe\\Paris",
        "C:\\Windows",
        "europe/paris",
        "posixrules",
        "posix/Europe/Paris",
        "right/Europe/Paris",
        "localtime",
        "Factory",
        "tzdata.zi",
        "zone.tab",
        "leapseconds",
        "GMT+2",
        "+02:00",
        "Europe/Atlantis",
        "a/b/c/d/e",
        "x" * 10**6,
        "Europe/" * 10**5,
        None,
        5,
        b"Europe/Paris",
        ["UTC"],
        zoneinfo.ZoneInfo,
        UTC,
    ],
    ids=lambda name: repr(name)[:30],
)
def test_what_is_no_time_zone_is_refused_with_what_was_expected(name):
    with pytest.raises(
        InvalidPolicy, match="timezone must be the name of an IANA time zone, such as Europe/Paris"
    ) as caught:
        checked_zone(name)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "\0", "localtime", "right/UTC", "x" * 10**6])
def test_a_name_that_is_no_zone_is_never_opened(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zoneinfo, "ZoneInfo", lambda name: pytest.fail(f"opened {name[:30]}"))
    with pytest.raises(InvalidPolicy):
        checked_zone(name)


@needs_zones
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("europe/paris", "Europe/Paris"),
        ("Europe/Pari", "Europe/Paris"),
        (" Europe/Paris ", "Europe/Paris"),
        ("Paris", "Europe/Paris"),
        ("new york", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_zone_that_is_nearly_named_is_proposed(name: str, meant: str):
    with pytest.raises(InvalidPolicy, match=rf": did you mean {meant}\?$"):
        checked_zone(name)


@needs_zones
@pytest.mark.parametrize("name", ["GMT+2", "UTC+2", "PST", "Mars/Olympus_Mons"])
def test_a_zone_that_may_mean_something_else_is_not_proposed(name: str):
    with pytest.raises(InvalidPolicy, match=r"got '[^']*'$"):
        checked_zone(name)


@pytest.fixture
def no_zone_data(monkeypatch: pytest.MonkeyPatch):
    """A machine without zone data, and without the package of them."""
    before = zoneinfo.TZPATH
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()
    calendar._around.cache_clear()
    calendar._names.cache_clear()
    yield
    zoneinfo.reset_tzpath(before)
    calendar._names.cache_clear()


@pytest.mark.usefixtures("no_zone_data")
def test_a_file_that_has_no_zone_s_name_or_cannot_be_read_is_refused(tmp_path: Path):
    for name in ("Paris.orig", "New zone", "Own", "Torn"):
        # The head of a zone without data of its own: version 1, all counts 0 but one type.
        counts = (0, 0, 0, 0, 1, 4) if name != "Torn" else (9, 9, 9, 9, 9, 9)
        head = b"TZif" + b"\0" * 16 + b"".join(count.to_bytes(4, "big") for count in counts)
        (tmp_path / name).write_bytes(head + (b"\0" * 6 + b"OWN\0" if name != "Torn" else b""))
    zoneinfo.reset_tzpath((str(tmp_path),))
    assert checked_zone("Own") == "Own"
    for name in ("Paris.orig", "New zone"):
        with pytest.raises(InvalidPolicy, match="timezone must be"):
            checked_zone(name)
    with pytest.raises(InvalidPolicy, match="timezone 'Torn' cannot be read from this machine's zone data"):
        checked_zone("Torn")


@pytest.mark.usefixtures("no_zone_data")
def test_without_zone_data_only_utc_is_known_and_the_advice_is_to_install_them():
    assert checked_zone("UTC") == "UTC"
    assert edges("day", "UTC", 0)[1] == 0
    with pytest.raises(InvalidPolicy, match="this machine has no zone data, so only UTC is known; pip install tzdata"):
        checked_zone("Europe/Paris")
    with pytest.raises(InvalidPolicy, match="pip install tzdata"):
        edges("day", "Europe/Paris", 0)
