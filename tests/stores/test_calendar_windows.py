"""Windows of the calendar on every store, and clocks of callers that are wrong: the store's own clock picks the window.

The instants are written out in UTC here, from tables of changes of clocks, and not asked of the code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
import redis

import servers
from sluicegate import CalendarWindow, FixedWindow, Limiter, MemoryStore, RedisStore, SlidingWindow, StoreUnavailable
from sluicegate._core.request import Settlement
from sluicegate._stores.redis import body
from sluicegate._stores.redis.script import ServerClockEstimate
from sluicegate.proof.faketime import off_by, why_not
from stores.harness import Harness, charges

US = 0.000001
HOUR = 3600
DAY = 24 * HOUR
MONTH = CalendarWindow(5, every="month", name="month")
HOURLY = CalendarWindow(5, every="hour", timezone="Asia/Kathmandu", name="hourly")
BILLED = CalendarWindow(5, every="month", day=31, hour=17, timezone="Asia/Kathmandu", name="billed")
MINUTE = SlidingWindow(5, window=60, name="minute")

WINDOWS = [
    pytest.param("day", "Europe/Paris", "2024-03-29T23:00", "2024-03-30T23:00", id="an ordinary day"),
    pytest.param("day", "Europe/Paris", "2024-03-30T23:00", "2024-03-31T22:00", id="23 hours: clocks go forward"),
    pytest.param("day", "Europe/Paris", "2024-10-26T22:00", "2024-10-27T23:00", id="25 hours: clocks go back"),
    pytest.param("day", "America/New_York", "2024-03-10T05:00", "2024-03-11T04:00", id="23 hours"),
    pytest.param("month", "UTC", "2024-01-01T00:00", "2024-02-01T00:00", id="31 days"),
    pytest.param("month", "UTC", "2024-02-01T00:00", "2024-03-01T00:00", id="29 days"),
    pytest.param("month", "UTC", "2025-02-01T00:00", "2025-03-01T00:00", id="28 days"),
    pytest.param("month", "Europe/Paris", "2024-02-29T23:00", "2024-03-31T22:00", id="31 days less an hour"),
    pytest.param("week", "UTC", "2024-12-30T00:00", "2025-01-06T00:00", id="from Monday, over the turn of a year"),
    pytest.param("week", "Europe/Paris", "2024-03-24T23:00", "2024-03-31T22:00", id="from Monday, less an hour"),
    pytest.param("year", "UTC", "2024-01-01T00:00", "2025-01-01T00:00", id="366 days"),
    pytest.param("year", "UTC", "2025-01-01T00:00", "2026-01-01T00:00", id="365 days"),
    pytest.param("hour", "Asia/Kathmandu", "2024-05-01T11:15", "2024-05-01T12:15", id="begins at a quarter past"),
    pytest.param(
        "hour", "Europe/Paris", "2024-10-27T01:00", "2024-10-27T02:00", id="the second of two hours from 2 to 3"
    ),
]


ELSEWHERE = [
    pytest.param("day", {"hour": 6}, "Europe/Paris", "2024-03-30T05:00", "2024-03-31T04:00", id="23 hours from 6"),
    pytest.param("day", {"hour": 2}, "Europe/Paris", "2024-03-30T01:00", "2024-03-31T01:00", id="to a skipped hour"),
    pytest.param("day", {"hour": 2}, "Europe/Paris", "2024-03-31T01:00", "2024-04-01T00:00", id="from a skipped hour"),
    pytest.param(
        "day", {"hour": 2}, "Europe/Paris", "2024-10-27T00:00", "2024-10-28T01:00", id="from the first of two"
    ),
    pytest.param("day", {"hour": 2}, "Australia/Lord_Howe", "2024-10-05T15:30", "2024-10-06T15:00", id="half an hour"),
    pytest.param("week", {"weekday": "sunday"}, "UTC", "2024-12-29T00:00", "2025-01-05T00:00", id="from Sunday"),
    pytest.param(
        "week",
        {"weekday": "friday", "hour": 18},
        "America/New_York",
        "2024-03-08T23:00",
        "2024-03-15T22:00",
        id="from Friday at 18, less an hour",
    ),
    pytest.param("month", {"day": 15, "hour": 6}, "UTC", "2024-02-15T06:00", "2024-03-15T06:00", id="from the 15th"),
    pytest.param("month", {"day": 31}, "UTC", "2024-01-31T00:00", "2024-02-29T00:00", id="from the 31st to a leap day"),
    pytest.param("month", {"day": 31}, "UTC", "2024-02-29T00:00", "2024-03-31T00:00", id="from a leap day to the 31st"),
    pytest.param("month", {"day": 31}, "UTC", "2024-03-31T00:00", "2024-04-30T00:00", id="from the 31st to the 30th"),
    pytest.param(
        "year",
        {"month": 4, "day": 6},
        "Europe/London",
        "2023-04-05T23:00",
        "2024-04-05T23:00",
        id="from the 6th of April",
    ),
]


def instant(text: str) -> int:
    """Return µs since 1970 of a time in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def set_clock(harness: Harness, at_us: int) -> None:
    harness.advance((at_us - harness.now_us) / 1_000_000)


# Edges


@pytest.mark.parametrize(("every", "timezone", "start", "end"), WINDOWS)
def test_a_window_begins_and_ends_at_the_microsecond_at_which_its_zone_says_so(
    harness: Harness, every: str, timezone: str, start: str, end: str
):
    meets_its_edges(harness, CalendarWindow(3, every=every, timezone=timezone), instant(start), instant(end))


@pytest.mark.parametrize(("every", "elsewhere", "timezone", "start", "end"), ELSEWHERE)
def test_a_window_that_begins_elsewhere_does_so_to_the_microsecond(
    harness: Harness, every: str, elsewhere: dict[str, str | int], timezone: str, start: str, end: str
):
    policy = CalendarWindow(3, every=every, timezone=timezone, **elsewhere)
    meets_its_edges(harness, policy, instant(start), instant(end))


def meets_its_edges(harness: Harness, policy: CalendarWindow, begins: int, ends: int) -> None:
    """Hold the limit of 3 against a window of which the edges are known."""
    limiter = harness.limiter(policy)
    set_clock(harness, begins - 1)
    assert limiter.take("a", 3).reset_after == US
    assert limiter.take("a").retry_after == US
    harness.advance(US)
    first = limiter.take("a", 2)
    assert (first.allowed, first.remaining, first.reset_after) == (True, 1, (ends - begins) / 1_000_000)
    harness.advance((ends - begins) / 2_000_000)
    assert limiter.allow("a")
    set_clock(harness, ends - 1)
    denied = limiter.take("a")
    assert (denied.allowed, denied.remaining, denied.retry_after, denied.reset_after) == (False, 0, US, US)
    harness.advance(US)
    assert limiter.peek("a").remaining == 3
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]


def test_a_quota_by_day_is_whole_on_each_day_of_a_week_with_a_change_of_clocks(harness: Harness):
    limiter = harness.limiter(CalendarWindow(3, every="day", timezone="Europe/Paris"))
    set_clock(harness, instant("2024-03-28T23:00"))
    per_day = []
    for hours in (24, 24, 23, 24, 24):  # from Good Friday on; the clocks go forward on Sunday
        per_day.append(0)
        for _ in range(hours):
            per_day[-1] += limiter.allow("a")
            harness.advance(HOUR)
        assert limiter.peek("a").remaining == 3
    assert per_day == [3] * 5


def test_a_zone_is_part_of_the_counter_and_the_limit_is_not(harness: Harness):
    tokyo, paris, more = (
        CalendarWindow(limit, every="day", timezone=zone, name="daily")
        for limit, zone in ((3, "Asia/Tokyo"), (3, "Europe/Paris"), (5, "Asia/Tokyo"))
    )
    harness.limiter(tokyo).take("a", 3)
    assert harness.limiter(paris).peek("a").remaining == 3
    assert harness.limiter(more).peek("a").remaining == 2


@pytest.mark.parametrize(
    ("usual", "elsewhere"),
    [
        ({"every": "week"}, {"weekday": "sunday"}),
        ({"every": "month"}, {"day": 15}),
        ({"every": "month", "day": 15}, {"day": 16}),
        ({"every": "year"}, {"month": 4}),
        ({"every": "year", "month": 4}, {"month": None, "day": 4}),
        ({"every": "day"}, {"hour": 6}),
    ],
    ids=str,
)
def test_a_start_is_part_of_the_counter_under_one_name_too(
    harness: Harness, usual: dict[str, str | int], elsewhere: dict[str, str | int | None]
):
    one, other = (
        harness.limiter(CalendarWindow(3, name="quota", timezone="Europe/Paris", **window))
        for window in (usual, usual | elsewhere)
    )
    one.take("a", 3)
    assert other.peek("a").remaining == 3
    other.take("a", 2)
    assert [each.peek("a").remaining for each in (one, other)] == [0, 1]


def test_another_billing_day_is_a_fresh_quota_at_once_and_the_old_one_ends_at_its_own_edge(harness: Harness):
    set_clock(harness, instant("2024-05-10T00:00"))
    first = harness.limiter(CalendarWindow(3, every="month", name="quota"))
    first.take("a", 3)
    fifteenth = harness.limiter(CalendarWindow(3, every="month", day=15, name="quota"))
    moved = fifteenth.take("a", 3)
    assert (moved.allowed, moved.reset_after) == (True, 5 * DAY)
    assert first.peek("a").reset_after == 22 * DAY
    set_clock(harness, instant("2024-05-15T00:00"))
    assert [each.peek("a").remaining for each in (first, fifteenth)] == [0, 3]


# Callers whose clocks are wrong

WRONG = [sign * span for span in (HOUR, 31 * DAY, 3653 * DAY) for sign in (1, -1)]


def mistake(harness: Harness, by: float) -> None:
    """Let the store take the server's clock to be off by so many seconds. In memory there is nothing to guess."""
    if harness.kind == "redis":
        harness.store._server_clock.correct(harness.now_us + round(by * 1_000_000))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of requests in each call to a server."""
    calls, decide_arguments = [], body.decide_arguments

    def counting(prefix, requests, about_us):
        calls.append(len(requests))
        return decide_arguments(prefix, requests, about_us)

    monkeypatch.setattr(body, "decide_arguments", counting)
    return calls


@pytest.mark.parametrize("by", WRONG)
@pytest.mark.parametrize("policy", [MONTH, HOURLY, BILLED], ids=lambda policy: policy.name)
def test_a_caller_whose_clock_is_wrong_is_given_the_same_answers_and_charged_once(
    harness: Harness, policy: CalendarWindow, by: float, asked: list[int]
):
    limiter = harness.limiter(policy)
    set_clock(harness, instant("2024-05-01T11:15"))
    ends = {"month": "2024-06-01T00:00", "hourly": "2024-05-01T12:15", "billed": "2024-05-31T11:15"}[policy.name]
    for n in range(1, 6):
        mistake(harness, by)
        harness.advance(1)
        asked.clear()
        decision = limiter.take("a")
        assert (decision.allowed, decision.remaining) == (True, 5 - n)
        assert decision.reset_after == (instant(ends) - harness.now_us) / 1_000_000
        assert len(asked) <= 2
        asked.clear()
        assert limiter.peek("a").remaining == 5 - n
        assert len(asked) <= 1  # it knows better now
    mistake(harness, by)
    assert limiter.peek("a").retry_after == (instant(ends) - harness.now_us) / 1_000_000
    mistake(harness, by)
    denied = limiter.take("a")
    assert (denied.allowed, denied.retry_after) == (False, (instant(ends) - harness.now_us) / 1_000_000)
    if harness.kind == "redis":
        ((count,),) = [harness.stored().values()]
        assert len(count) == 26
        # The windows before and after the one it takes to be now's are sent along. Ten years off is none of them.
        mistake(harness, 3653 * DAY)
        asked.clear()
        limiter.take("a")
        assert asked == [1, 1]


@pytest.mark.parametrize("by", WRONG)
def test_a_line_of_a_caller_whose_clock_is_wrong_is_decided_once_and_can_be_settled(harness: Harness, by: float):
    set_clock(harness, instant("2024-05-01T11:15"))
    mistake(harness, by)
    answers = harness.reserve(*(charges((MONTH, "a", cost)) for cost in (1, 3, 2, 1)))
    assert [[verdict.allowed for verdict in answer] for answer in answers] == [[True], [True], [False]]
    mistake(harness, by)
    assert harness.settle(Settlement(MONTH, "a", 3, answers[1].marks[0], 1)) == [True]
    assert harness.limiter(MONTH).peek("a").remaining == 3


def test_an_edge_is_met_at_the_microsecond_whatever_the_callers_clock(harness: Harness):
    limiter = harness.limiter(MONTH)
    for n, by in enumerate(WRONG):
        key = f"a{n}"
        set_clock(harness, instant("2024-03-01T00:00") - 1)
        mistake(harness, by)
        assert limiter.take(key, 5).reset_after == US
        mistake(harness, by)
        assert not limiter.allow(key)
        harness.advance(US)
        mistake(harness, by)
        assert limiter.take(key, 5).reset_after == 31 * DAY


@pytest.mark.parametrize("by", WRONG)
def test_in_a_set_that_had_to_be_asked_again_all_are_charged_once_or_none_is(harness: Harness, by: float):
    limiter = harness.limiter(MINUTE, MONTH, HOURLY)
    set_clock(harness, instant("2024-05-01T11:15"))
    for n in range(1, 6):
        mistake(harness, by)
        assert [part.remaining for part in limiter.take("a").decisions] == [5 - n] * 3
    harness.advance(61)
    mistake(harness, by)
    denied = limiter.take("a")
    assert [part.allowed for part in denied.decisions] == [True, False, False]
    assert harness.limiter(MINUTE).peek("a").remaining == 5
    set_clock(harness, instant("2024-06-01T00:00"))
    harness.limiter(MINUTE).take("a", 5)
    mistake(harness, by)
    assert [part.allowed for part in limiter.take("a").decisions] == [False, True, True]
    assert [part.remaining for part in limiter.peek("a").decisions] == [0, 5, 5]


@pytest.mark.parametrize("by", WRONG)
def test_in_a_batch_each_request_is_charged_once_and_only_those_are_asked_again_that_must(
    harness: Harness, by: float, asked: list[int]
):
    set_clock(harness, instant("2024-05-01T11:15"))
    batch = [
        charges((MINUTE, "a", 1)),
        charges((MONTH, "b", 2)),
        charges((MINUTE, "c", 6), (MONTH, "c", 1)),
        charges((HOURLY, "b", 3), (MINUTE, "b", 3)),
        charges((MONTH, "b", 3)),
        charges((MONTH, "b", 1)),
        charges((MINUTE, "a", 1)),
    ]
    mistake(harness, by)
    asked.clear()
    answers = harness.decide(*batch)
    assert [[(verdict.allowed, verdict.remaining) for verdict in answer] for answer in answers] == [
        [(True, 4)],
        [(True, 3)],
        [(False, 5), (True, 5)],
        [(True, 2), (True, 2)],
        [(True, 0)],
        [(False, 0)],
        [(True, 3)],
    ]
    if harness.kind == "redis":
        assert asked == {HOUR: [7], -HOUR: [7], 31 * DAY: [7, 1]}.get(by, [7, 5])
    left = {
        (policy.name, key): harness.limiter(policy).peek(key).remaining for policy in (MINUTE, MONTH) for key in "abc"
    }
    assert left == {
        ("minute", "a"): 3,
        ("minute", "b"): 2,
        ("minute", "c"): 5,
        ("month", "a"): 5,
        ("month", "b"): 0,
        ("month", "c"): 5,
    }


class Astray(ServerClockEstimate):
    """A guess that is far off as soon as it was told the truth: as where the clock is stepped between two calls."""

    def correct(self, now_us: int) -> None:
        super().correct(now_us + 3653 * DAY * 1_000_000)


def test_when_the_clock_is_stepped_between_the_two_calls_nothing_is_taken_and_the_error_says_so(
    harness: Harness, asked: list[int]
):
    if harness.kind == "memory":
        harness.advance(3653 * DAY)
        assert harness.limiter(MONTH).allow("a")  # it is one call there: no clock is read twice
        return
    harness.store._server_clock = Astray()
    harness.store._server_clock.correct(harness.now_us)
    alone, together = (harness.limiter(*each, on_outage="raise") for each in ((MONTH,), (MINUTE, MONTH)))
    for ask in (alone.take, alone.allow, alone.peek, together.take, together.peek):
        asked.clear()
        with pytest.raises(StoreUnavailable, match="stepped between two calls, nothing was taken"):
            ask("a")
        assert asked == [1, 1]
    answers = harness.decide(
        charges((MONTH, "a", 1)), charges((MINUTE, "b", 1)), charges((MINUTE, "a", 1), (MONTH, "a", 1))
    )
    assert [type(answer) for answer in answers] == [StoreUnavailable, list, StoreUnavailable]
    assert len(harness.stored()) == 1  # that of b alone
    harness.store._server_clock = ServerClockEstimate()
    assert [part.remaining for part in together.take("a").decisions] == [4, 4]
    assert harness.limiter(MINUTE).peek("b").remaining == 4


def test_callers_of_one_fleet_share_a_window_whatever_each_takes_the_time_to_be(harness: Harness):
    other = (
        harness
        if harness.kind == "memory"
        else Harness("redis", asynchronous=True, client=harness.client, prefix=harness.prefix)
    )
    set_clock(harness, instant("2024-05-31T23:00"))
    limiters = [each.limiter(MONTH) for each in (harness, other)]
    allowed = 0
    for n in range(12):
        for by, each in ((40 * DAY, harness), (-3653 * DAY, other)):
            mistake(each, by)
        allowed += limiters[n % 2].allow("a")
    assert allowed == 5
    assert {limiter.peek("a").retry_after for limiter in limiters} == {3600.0}
    set_clock(harness, instant("2024-06-01T00:00"))
    assert sum(limiter.allow("a") for limiter in limiters * 4) == 5
    if other is not harness:
        other.close()


# The hosts' real clocks


def calm() -> CalendarWindow:
    """Return a month that does not turn within the next minutes: in Tokyo, where it is about to in UTC."""
    now_us = time.time_ns() // 1000
    (in_utc, in_tokyo) = (CalendarWindow(5, every="month", timezone=zone) for zone in ("UTC", "Asia/Tokyo"))
    return in_utc if in_utc.edges(now_us) == in_utc.edges(now_us + 600 * 1_000_000) else in_tokyo


CALLER = """
import json, sys, time
from sluicegate import CalendarWindow, Limiter, RedisStore
url, prefix, zone = sys.argv[1:]
with RedisStore.from_url(url, prefix=prefix, timeout=30) as store:
    policy = CalendarWindow(5, every="month", timezone=zone)
    limiter = Limiter(policy, store=store, deadline=30)  # a busy machine must not let it decide by itself
    decision = limiter.take("a")
    print(json.dumps([time.time(), decision.allowed, decision.remaining, decision.reset_after]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("years", [10, -10])
def test_a_caller_whose_host_is_ten_years_off_gets_right_decisions(server: servers.Server, prefix: str, years: int):
    if why_not():
        pytest.skip(why_not())
    policy = calm()
    with RedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
        limiter = Limiter(policy, store=store)
        assert limiter.take("a").remaining == 4
        command = [sys.executable, "-c", CALLER, server.url, prefix, policy.timezone]
        ran = subprocess.run(
            command, env={**os.environ, **off_by(years * 365 * DAY)}, capture_output=True, text=True, check=True
        )
        host, allowed, remaining, reset_after = json.loads(ran.stdout)
        assert host - time.time() == pytest.approx(years * 365 * DAY, abs=60)  # its clock was wrong indeed
        assert (allowed, remaining) == (True, 3)
        end = policy.edges(time.time_ns() // 1000)[1] / 1_000_000
        assert reset_after == pytest.approx(end - time.time(), abs=10)
        assert limiter.take("a").remaining == 2


@pytest.mark.parametrize("span", [60, 3600, 86400])
def test_a_store_in_memory_without_a_clock_of_its_own_has_windows_that_begin_by_the_hosts_date(span: int):
    with Limiter(FixedWindow(5, window=span), store=MemoryStore()) as limiter:
        end = time.time() + limiter.take("a").reset_after
    assert min(end % span, -end % span) < 1  # a multiple of it


@pytest.mark.parametrize(("every", "timezone"), [("month", "UTC"), ("day", "Europe/Paris"), ("hour", "Asia/Kathmandu")])
def test_a_store_in_memory_without_a_clock_of_its_own_goes_by_the_hosts_calendar(every: str, timezone: str):
    policy = CalendarWindow(5, every=every, timezone=timezone)
    ends = {policy.edges(time.time_ns() // 1000)[1] / 1_000_000}
    with Limiter(policy, store=MemoryStore()) as limiter:
        end = time.time() + limiter.take("a").reset_after
    ends.add(policy.edges(time.time_ns() // 1000)[1] / 1_000_000)  # another one where it has just turned
    assert min(abs(end - each) for each in ends) < 1


def test_where_the_second_asking_is_refused_those_that_were_answered_keep_their_answers():
    store = RedisStore.from_url("redis://127.0.0.1:1/0")
    day, minute = CalendarWindow(5, every="day"), SlidingWindow(5, window=60)
    steps = store._decide([charges((minute, "a", 1)), charges((day, "a", 1))], commit=True)
    next(steps)
    asked = steps.send([0, 4, 0, 60_000_000, b"CLOCK_MISMATCH 1700000000000000"])
    assert asked[0] == "EVALSHA"
    with pytest.raises(StopIteration) as done:
        steps.throw(redis.exceptions.ResponseError("OOM command not allowed"))
    allowed, refused = done.value.value
    assert allowed == [(True, 4, 0, 60_000_000)]
    assert isinstance(refused, StoreUnavailable)
    store.close()
