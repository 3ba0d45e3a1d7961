"""Errors that say what to write instead: what they advise is tried here."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import ipaddress
import math
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import sluicegate
from sluicegate import (
    AsyncLimiter,
    CalendarWindow,
    FixedWindow,
    InvalidKey,
    InvalidPolicy,
    InvalidRate,
    Limiter,
    Policy,
    SlidingWindow,
    TokenBucket,
    parse_rates,
)

NAMES = vars(sluicegate)


def evaluated(text: str) -> Any:
    return eval(text, dict(NAMES))


def advice(call: str) -> str:
    """Return what the error of a call says to write."""
    with pytest.raises(InvalidPolicy) as caught:
        evaluated(call)
    return str(caught.value).rpartition("write ")[2]


@pytest.mark.parametrize(
    ("call", "instead"),
    [
        ("SlidingWindow(100, 60)", "SlidingWindow(100, window=60)"),
        ("SlidingWindow(100, 60, 6)", "SlidingWindow(100, window=60, buckets=6)"),
        ("TokenBucket(100, 60, 20)", "TokenBucket(100, window=60, burst=20)"),
        ("FixedWindow(100, 0.5)", "FixedWindow(100, window=0.5)"),
        ("CalendarWindow(100, 'month')", "CalendarWindow(100, every='month')"),
        ("SlidingWindow(100)", "SlidingWindow(100, window=60)"),
        ("CalendarWindow(100)", "CalendarWindow(100, every='month')"),
        ("SlidingWindow(100, per='minute')", "SlidingWindow(100, window=60)"),
        ("FixedWindow('100/min')", "FixedWindow(100, window=60)"),
        ("TokenBucket('5 per 2s')", "TokenBucket(5, window=2)"),
        ("TokenBucket('5 per 2s', window=60)", "TokenBucket(5, window=2)"),
        ("SlidingWindow(times=2, seconds=5)", "SlidingWindow(2, window=5)"),
        ("SlidingWindow(2, minutes=5)", "SlidingWindow(2, window=300)"),
        ("SlidingWindow(max=100, windowMs=900000)", "SlidingWindow(100, window=900)"),
        ("SlidingWindow(calls=15, period=900, name='a')", "SlidingWindow(15, window=900, name='a')"),
        ("TokenBucket(rate=10, capacity=100, window=1)", "TokenBucket(10, window=1, burst=100)"),
        ("SlidingWindow(100, windw=60)", "SlidingWindow(100, window=60)"),
        (
            "CalendarWindow(9, every='day', tz='Europe/Paris')",
            "CalendarWindow(9, every='day', timezone='Europe/Paris')",
        ),
        ("Limiter(100, 60)", "SlidingWindow(100, window=60)"),
        ("Limiter(100)", "SlidingWindow(100, window=60)"),
        ("AsyncLimiter(100, 30)", "SlidingWindow(100, window=30)"),
        ("Limiter(limit=100, window=60)", "Limiter(SlidingWindow(100, window=60))"),
        ("AsyncLimiter(max_rate=4, time_period=8)", "AsyncLimiter(SlidingWindow(4, window=8))"),
        ("Limiter(limit=100, window=60, per='user')", "Limiter(SlidingWindow(100, window=60, per='user'))"),
        ("Limiter('5/hour', per='user')", "Limiter(SlidingWindow(5, window=3600, per='user'))"),
        ("AsyncLimiter('5/hour', by='user')", "AsyncLimiter(SlidingWindow(5, window=3600, per='user'))"),
        ("Limiter('5/hour', shared=True)", "Limiter(SlidingWindow(5, window=3600, shared=True))"),
        ("Limiter('5/hour', name='api')", "Limiter(SlidingWindow(5, window=3600, name='api'))"),
        ("Limiter('5/hour', limits=len, name='api')", "Limiter(SlidingWindow(5, window=3600, name='api'))"),
        ("Limiter('5/h; 1/s', per='user')", "Limiter(*parse_rates('5/h; 1/s', per='user'))"),
        ("Limiter('5/h', '1/s', shared=True)", "Limiter(*parse_rates('5/h; 1/s', shared=True))"),
        ("Limiter(SlidingWindow(5, window=1), per='user')", "Limiter(SlidingWindow(100, window=60, per='user'))"),
        ("CalendarWindow(100, window=60)", "CalendarWindow(100, every='month')"),
        ("CalendarWindow(100, 60)", "CalendarWindow(100, every='month')"),
        ("CalendarWindow(100, window='day')", "CalendarWindow(100, every='day')"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_with_one_that_does(call: str, instead: str):
    assert advice(call) == instead
    assert evaluated(instead) is not None


@pytest.mark.parametrize("text", ["100/min", "100/hour; 3/minute"])
def test_a_rate_in_place_of_a_limit_is_refused_with_what_reads_rates(text: str):
    for call in (f"SlidingWindow({text!r})", f"SlidingWindow({text!r}, window=60)"):
        limiter, parsed = advice(call).split(", or ")
        assert evaluated(limiter).policies == evaluated(parsed) == parse_rates(text)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            "SlidingWindow(100, 60)",
            r"^SlidingWindow takes its limit by position.*, got SlidingWindow\(100, 60\); write ",
        ),
        ("SlidingWindow()", r"^SlidingWindow needs limit and window, got SlidingWindow\(\); write "),
        ("SlidingWindow(1, period=2)", r"^SlidingWindow has no argument period, got SlidingWindow\(1, period=2\); "),
        ("CalendarWindow(100, window=60)", r"^CalendarWindow has no argument window and needs every, got "),
        ("CalendarWindow(100, every=60, tz='UTC')", "^every must be one of hour, day, week, month, year, got 60"),
        ("Limiter('1/s', per=len)", 'got <built-in function len>; write per="user", and give its value'),
        (
            "Limiter('1/s', prefix='x')",
            r"no argument prefix: .*; give it to the store, store=RedisStore\.from_url\(url, prefix=\.\.\.\)$",
        ),
        ("AsyncLimiter('1/s', timeout=1)", r"store=AsyncRedisStore\.from_url\(url, timeout=\.\.\.\)$"),
        ("Limiter('1/s', key_prefix='x')", r"store=RedisStore\.from_url\(url, prefix=\.\.\.\)$"),
        ("Limiter('1/s', max_keys=9)", r"give it to the store, store=MemoryStore\(max_keys=\.\.\.\)$"),
        ("SlidingWindow(1, limit=2, window=3)", r"^SlidingWindow takes each argument once, got "),
        ("SlidingWindow('100', window=60)", "^limit must be a whole number .*, got '100'; write 100$"),
        ("SlidingWindow(100.0, window=60)", "^limit must be a whole number .*, got 100.0; write 100$"),
        ("SlidingWindow(100, window='60s')", "^window must be a number of seconds .*, got '60s'; write window=60$"),
        ("SlidingWindow(100, window='minute')", "got 'minute'; write window=60$"),
        ("FixedWindow(100, window='0.5')", "got '0.5'; write window=0.5$"),
        ("FixedWindow(100, 'long ago')", r"\(ten years\), got 'long ago'$"),
        ("SlidingWindow(1, window=1, per=lambda r: r)", 'got <function .*; write per="user", and give its value with '),
        ("SlidingWindow(1, window=1, key_func=len)", 'got <built-in function len>; write per="user", and'),
        ("Limiter('1/s', key_func=len)", r"no argument key_func: .*; give the key to each call, limiter.allow\(key\)$"),
        ("Limiter(default_limits=['1/s'])", "no argument default_limits: .*; give rates by position, Limiter"),
        ("Limiter('1/s', storage_uri='redis://:secret@h')", "no argument storage_uri: .*; name it store=$"),
        (
            "AsyncLimiter('1/s', strategy='moving-window')",
            "^AsyncLimiter has no argument strategy: .*; the policy choo",
        ),
        ("Limiter('1/s', stor='redis://:secret@h')", "no argument stor: .*; did you mean store"),
    ],
)
def test_an_error_says_what_came_and_never_a_secret(call: str, said: str):
    with pytest.raises(InvalidPolicy, match=said) as caught:
        evaluated(call)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_url_among_the_arguments_of_a_policy_is_not_quoted():
    with pytest.raises(InvalidPolicy) as caught:
        SlidingWindow(5, 60, store="redis://:secret@localhost")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [SlidingWindow, TokenBucket, FixedWindow, CalendarWindow, Limiter, AsyncLimiter])
def test_the_signature_of_a_class_is_the_one_that_is_written_there(kind: type):
    names = list(inspect.signature(kind).parameters)
    assert names[0] in ("limit", "policies")
    assert "options" not in names and "args" not in names


def test_the_constructor_of_a_subclass_is_never_called_for_advice():
    made = []

    class Hourly(SlidingWindow):
        def __init__(self, plan: str = "free", **options: Any) -> None:
            made.append(plan)
            super().__init__(100, period=3600, **options)

    with pytest.raises(TypeError, match="unexpected keyword argument 'period'"):
        Hourly()
    assert made == ["free"]
    with pytest.raises(TypeError, match="self"):
        SlidingWindow.__init__()


@pytest.mark.parametrize(
    "options", [{"seconds": math.inf}, {"seconds": math.nan}, {"window_ms": 10**400}, {"minutes": -math.inf}]
)
def test_a_number_that_no_window_can_be_is_refused_in_words(options: dict[str, Any]):
    with pytest.raises(InvalidPolicy, match="window must be a number of seconds"):
        SlidingWindow(100, **options)


@pytest.mark.parametrize("limit", [Decimal("sNaN"), Decimal(0), 0.0, None, math.nan])
def test_a_limit_of_any_type_is_refused_in_words(limit: Any):
    with pytest.raises(InvalidPolicy, match="limit must be a whole number"):
        SlidingWindow(limit, window=60)


def test_the_value_of_an_unknown_argument_is_not_quoted():
    with pytest.raises(InvalidPolicy, match=r"got SlidingWindow\(5, window=60, pass=\.\.\.\)") as caught:
        SlidingWindow(5, window=60, **{"pass": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_type_error_from_elsewhere_is_left_as_it_is():
    class Odd(SlidingWindow):
        def __init__(self, limit: int) -> None:
            super().__init__(limit, window=60)
            raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        Odd(5)


# Buckets


@pytest.mark.parametrize(
    ("limit", "window", "burst", "instead"),
    [
        (1_000_000, 86400, None, "TokenBucket(625, window=54, burst=1000000)"),
        (1_000_000, 86400, 5, "TokenBucket(625, window=54, burst=5)"),
        (86400, 86400, 1_000_000, "TokenBucket(1, window=1, burst=1000000)"),
        (10**11, 3600, 1, "TokenBucket(250000000, window=9, burst=1)"),
        (10**11, 1, None, "TokenBucket(100000, window=1e-06, burst=100000000000)"),
    ],
)
def test_a_bucket_that_is_too_large_is_refused_with_one_of_the_same_flow_and_burst(
    limit: int, window: int, burst: int | None, instead: str
):
    assert advice(f"TokenBucket({limit}, window={window}, burst={burst})") == instead
    bucket = evaluated(instead)
    assert Fraction(bucket.limit, bucket.window_us) == Fraction(limit, window * 1_000_000)
    assert bucket.burst == (burst or limit)


def test_a_bucket_without_an_equal_one_is_refused_with_the_nearest_and_how_it_differs():
    with pytest.raises(InvalidPolicy, match="no shorter window has this flow") as caught:
        TokenBucket(1_000_003, window=86400)
    said = str(caught.value)
    assert said.endswith("TokenBucket(100000, window=8640, burst=1000003) yields 3 units fewer in 86400 seconds")
    assert TokenBucket(100_000, window=8640, burst=1_000_003).burst == 1_000_003


def test_a_bucket_that_nothing_comes_near_is_refused_with_the_most_it_can_have():
    with pytest.raises(InvalidPolicy, match=r"burst can be 104249 at most with this window$"):
        TokenBucket(1, window=86400, burst=1_000_000)


# Rates


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("100rpm", "100/m"),
        ("100 rps", "100/s"),
        ("100 RPH", "100/h"),
        ("100 qps", "100/s"),
        ("100/60", "100/60s"),
        ("100 per 60", None),
        ("100 requests per minute", "100 per minute"),
        ("100 req/s", "100/s"),
        ("10r/s", "10/s"),
        ("5 times per minute", "5 per minute"),
        ("100 a minute", "100/minute"),
        ("1 request every 5 seconds", "1/5 seconds"),
        ("100 in 60 seconds", "100/60 seconds"),
        ("1k/min", "1000/min"),
        ("10-M", "10/m"),
        ("100 daily", "100/day"),
        ("100 hourly", "100/hour"),
        ("100rpm; 5rps", "100/m; 5/s"),
        ("100/s burst 200", None),
        ("unlimited", None),
        ("rpm", None),
    ],
)
def test_another_way_to_write_a_rate_is_refused_with_ours(text: str, instead: str | None):
    with pytest.raises(InvalidRate) as caught:
        parse_rates(text)
    said, caret = str(caught.value).split("\n", 1)
    assert caret.endswith("^")
    assert said.endswith(f"; write {instead!r}") if instead else "; write" not in said
    if instead:
        assert parse_rates(instead)


@pytest.mark.parametrize(("text", "by"), [("100/min/ip", "ip"), ("100/min per user", "user"), ("9rpm by key", "key")])
def test_what_a_rate_counts_by_is_no_part_of_it(text: str, by: str):
    with pytest.raises(
        InvalidRate, match=rf"; write Limiter\(\*parse_rates\('[0-9]+/m(in)?', per='{by}'\)\)\n"
    ) as caught:
        parse_rates(text)
    (policy,) = evaluated(str(caught.value).splitlines()[0].partition("; write ")[2]).policies
    assert (policy.per, policy.window) == ((by,), 60)


def test_a_rate_has_one_hint_at_most():
    for text in ("1.5 rps", "1,000 rpm", "100/mintue", "100 / hourly"):
        with pytest.raises(InvalidRate) as caught:
            parse_rates(text)
        assert str(caught.value).split("\n")[0].count("; ") == 1


def test_the_spellings_of_other_limiters_are_read_as_they_are():
    for text in ("5 per 1 minute", "100/60s", "100/1m", "100/10 minutes", "5/minute", "1 per second"):
        assert len(parse_rates(text)) == 1


# Keys


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        (5, "str({})"),
        (Number.ONE, "str({})"),
        (uuid.UUID(int=5), "str({})"),
        (ipaddress.ip_address("192.0.2.1"), "str({})"),
        (ipaddress.ip_address("::1"), "str({})"),
        (b"alice", "{}.decode()"),
        (bytearray(b"alice"), "{}.decode()"),
        (Colour.RED, "{}.value"),
        (True, None),
        (None, None),
        (("alice",), None),
    ],
    ids=repr,
)
def test_a_key_that_is_not_text_is_refused_with_how_to_make_it_text(value: Any, instead: str | None):
    plain, parts = Limiter("1/s"), Limiter(SlidingWindow(1, window=1, per="user"))
    for limiter, key in ((plain, value), (parts, {"user": value})):
        with pytest.raises(InvalidKey, match="must be a str, got ") as caught:
            limiter.take(key)
        written = str(caught.value).partition("; write ")[2]
        assert "alice" not in str(caught.value)
        assert f"got {value if value is None or type(value) in (int, bool) else 'one of type '}" in str(caught.value)
        assert written == ("" if instead is None else instead.format("key" if limiter is plain else 'key["user"]'))
        if instead:
            assert limiter.allow({"user": eval(written)} if limiter is parts else eval(written))


def test_a_plain_key_where_attributes_are_counted_is_refused_with_the_mapping():
    limiter = Limiter(SlidingWindow(1, window=1, per=("user", "route")))
    with pytest.raises(InvalidKey, match=r"got one of type str; write \{\"user\": \.\.\., \"route\": \.\.\.\}$"):
        limiter.take("alice")


# Names


@pytest.mark.parametrize(
    "policy", [SlidingWindow(5, window=60), TokenBucket(5, window=60), FixedWindow(5, window=60, shared=True)], ids=repr
)
def test_a_derived_name_follows_what_is_replaced(policy: Policy):
    kind = type(policy)
    assert dataclasses.replace(policy, window=1) == kind(5, window=1, shared=policy.shared)
    assert dataclasses.replace(policy, limit=6).name == policy.name
    assert dataclasses.replace(policy, shared=False, per="user") == kind(5, window=60, per="user")


def test_the_name_of_a_policy_in_a_decision_is_plain_text():
    limiter = Limiter("1/minute; 5/hour")
    assert {type(each.policy) for each in limiter.take("alice").decisions} == {str}


def test_a_given_name_stays_when_something_is_replaced():
    assert dataclasses.replace(SlidingWindow(5, window=60, name="mine"), window=1).name == "mine"
    given = SlidingWindow(5, window=60, name="sliding-window-60s")
    assert dataclasses.replace(given, window=1).name == "sliding-window-60s"
    assert not dataclasses.replace(SlidingWindow(5, window=60), window=1).named
