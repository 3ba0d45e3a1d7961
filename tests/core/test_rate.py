from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate import InvalidPolicy, SlidingWindow, SluicegateError
from sluicegate._core.errors import InvalidRate
from sluicegate._core.policy import MAX_UNITS, MAX_WINDOW_US
from sluicegate._core.rate import MAX_RATES, parse_rates, rates

MS, S, MINUTE, HOUR, DAY, WEEK = 1_000, 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6, 7 * 86400 * 10**6

UNITS = {
    MS: ["ms", "millisecond", "milliseconds"],
    S: ["s", "sec", "secs", "second", "seconds"],
    MINUTE: ["m", "min", "mins", "minute", "minutes"],
    HOUR: ["h", "hr", "hrs", "hour", "hours"],
    DAY: ["d", "day", "days"],
    WEEK: ["w", "week", "weeks"],
}
WORDS = [(word, unit_us) for unit_us, words in UNITS.items() for word in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5/minute", [(5, MINUTE)]),
        ("5 per minute", [(5, MINUTE)]),
        ("5 PER Minute", [(5, MINUTE)]),
        ("10/5minute", [(10, 5 * MINUTE)]),
        ("10/5 minutes", [(10, 5 * MINUTE)]),
        ("10 per 30s", [(10, 30 * S)]),
        ("10per30s", [(10, 30 * S)]),
        ("1/s", [(1, S)]),
        ("5/M", [(5, MINUTE)]),
        ("3/2s", [(3, 2 * S)]),
        ("10/0.5s", [(10, S // 2)]),
        ("10/1_000.25ms", [(10, 1_000_250)]),
        ("10/00.500s", [(10, S // 2)]),
        ("1/0.001ms", [(1, 1)]),
        ("1/0.0000000078125weeks", [(1, 4725)]),
        ("1/0.0001220703125weeks", [(1, 73_828_125)]),  # 2^-13 of a week: as many places as can be whole
        ("1000/30 days", [(1000, 30 * DAY)]),
        ("1_000_000/hour", [(10**6, HOUR)]),
        ("007/s", [(7, S)]),
        ("100000000000/3660d", [(MAX_UNITS, MAX_WINDOW_US)]),
        pytest.param("0" * 9000 + "1/" + "0" * 9000 + "2." + "0" * 9000 + "s", [(1, 2 * S)], id="zeros"),
        ("100/hour;3/minute", [(100, HOUR), (3, MINUTE)]),
        ("3/minute, 100/hour", [(3, MINUTE), (100, HOUR)]),
        ("100/hour | 3/minute", [(100, HOUR), (3, MINUTE)]),
        ("1/s;2/m,3/h|4/d", [(1, S), (2, MINUTE), (3, HOUR), (4, DAY)]),
        (" \t5\n/\r\n2\tm ; 1 / s\n", [(5, 2 * MINUTE), (1, S)]),
    ],
)
def test_a_text_reads_as_people_mean_it(text: str, expected: list[tuple[int, int]]):
    assert rates(text) == expected


@pytest.mark.parametrize(("word", "unit_us"), WORDS)
def test_each_unit_is_known_in_any_case(word: str, unit_us: int):
    assert rates(f"5/{word}") == rates(f"5 per {word.upper()}") == rates(f"5/1{word.title()}") == [(5, unit_us)]


def test_policies_are_named_after_their_windows_in_the_order_of_the_text():
    assert parse_rates("100/hour;3/0.5s") == (SlidingWindow(100, window=3600), SlidingWindow(3, window=0.5))
    assert [policy.name for policy in parse_rates("100/hour;3/0.5s")] == ["sliding-window-3600s", "sliding-window-0.5s"]
    assert [policy.name for policy in parse_rates("5/minute;1/0.5s", stem="ping")] == ["ping-60s", "ping-0.5s"]
    with pytest.raises(InvalidPolicy, match="name must be"):
        parse_rates("5/minute", stem="a b")


def test_policies_count_by_what_they_are_told():
    by_user = SlidingWindow(5, window=60, per="user")
    assert parse_rates("5/minute", per="user") == parse_rates("5/minute", per=["user"]) == (by_user,)
    assert parse_rates("5/minute", shared=True) == (SlidingWindow(5, window=60, shared=True),)
    with pytest.raises(InvalidPolicy, match="shared"):
        parse_rates("5/minute", per="user", shared=True)


def test_a_window_keeps_each_of_its_microseconds():
    (policy,) = parse_rates("1/316223999.999999s")
    assert policy.window_us == MAX_WINDOW_US - 1


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "expected a limit from 1 to 100000000000 at character 1, got the end of the text"),
        (" \n", 2, "got the end of the text"),
        ("minute", 0, "got 'minute'"),
        ("5", 1, "expected '/' or 'per' at character 2, got the end of the text"),
        ("5 ", 2, "got the end of the text"),
        ("5/", 2, "expected a unit of time"),
        ("5 per ", 6, "at character 7, got the end of the text"),
        ("5/2", 3, "expected a unit of time"),
        ("5 a minute", 2, "expected '/' or 'per' at character 3, got 'a'"),
        ("5 perminute", 2, "got 'perminute'"),
        ("5 per_minute", 5, "got '_'"),
        ("5//minute", 2, "got '/'"),
        # The limit.
        ("0/s", 0, "expected a limit from 1 to 100000000000 at character 1, got '0'"),
        ("1/m;000/s", 4, "got '000'"),
        ("100000000001/s", 0, "expected a limit from 1 to 100000000000"),
        pytest.param("9" * 5000 + "/s", 0, "expected a limit from 1 to 100000000000", id="a long limit"),
        ("-5/s", 0, "got '-5'"),
        ("+5/s", 0, "got '+5'"),
        ("1.5/s", 1, "got '.5'; a limit is a whole number: for 1.5/s write 3/2s"),
        (".5/s", 0, "a limit is a whole number"),
        ("1e5/s", 1, "got 'e'"),
        ("1__0/s", 1, "got '_'"),
        ("1_/s", 1, "got '_'"),
        ("_1/s", 0, "got '_'"),
        ("1,000/minute", 1, "a comma separates rates: for 1,000 write 1000 or 1_000"),
        ("5/s, 1,000/minute", 6, "a comma separates rates"),
        ("\u0665/s", 0, r"got '\u0665'"),
        # The window.
        ("10/1,000s", 4, "write 1000 or 1_000"),
        ("10/0,5s", 4, "for 0,5 write 0.5"),
        ("10/.5s", 3, "a fraction begins with a digit: 0.5"),
        ("10/-5s", 3, "got '-5'"),
        ("10/0s", 3, "expected a window of 0.000001 to 316224000 seconds (ten years), in whole microseconds,"),
        ("10/0.0009ms", 3, "in whole microseconds, at character 4, got '0.0009'"),
        ("10/0.0015 ms", 3, "in whole microseconds"),
        ("1/0.00006103515625weeks", 2, "in whole microseconds"),
        pytest.param(f"1/0.{'0' * 5000}1s", 2, "in whole microseconds", id="a long fraction"),
        ("10 per 3660.00001d", 7, "(ten years)"),
        pytest.param(f"1/{'9' * 5000}w", 2, "(ten years)", id="a long window"),
        # The unit.
        (
            "100/fortnight",
            4,
            "expected a unit of time (ms, s, m, h, d, w or second, minute, hour, day, week) at character 5",
        ),
        ("5/minuite", 2, "got 'minuite'; did you mean 'minute'?"),
        ("5/2 SECNDS", 4, "did you mean 'seconds'?"),
        ("5/minut\u0435", 2, r"got 'minut\u0435'; did you mean 'minute'?"),
        ("5/wee\u212a", 2, "did you mean 'week'?"),
        (
            "1000/Month",
            5,
            'a month has no fixed length: CalendarWindow(1000, every="month"), or name the days: 1000/30',
        ),
        ("7/yr", 2, 'a year has no fixed length: CalendarWindow(7, every="year"), or name the days: 7/365 days'),
        ("100/2 years", 6, "got 'years'; a year has no fixed length: name the days: 100/730 days"),
        ("100/20 years", 7, "got 'years'; a year has no fixed length: name the days"),
        ("100/0.5 month", 8, "got 'month'; a month has no fixed length: name the days"),
        ("100/quarter", 4, "got 'quarter'; a quarter has no fixed length: name the days: 100/90 days"),
        ("5/us", 2, "the smallest unit is ms: 250 microseconds are 0.25ms"),
        ("5/minute2", 8, "expected ';', ',' or '|' and another rate, or the end, at character 9, got '2'"),
        # What stands between rates.
        ("5/minute;", 9, "expected a limit"),
        ("5/minute, ", 10, "got the end of the text"),
        (";5/minute", 0, "got ';'"),
        ("5/s;;3/m", 4, "got ';'"),
        ("5/s 3/m", 4, "got '3'"),
        ("5/s\xa0;3/m", 3, r"got '\xa0'"),
        ("5/s\0", 3, r"got '\x00'"),
        ("5/minute per user", 9, "got 'per'"),
        (
            "100/minute;10/60s",
            11,
            "expected each window once at character 12, got 60s again; both would be one counter",
        ),
        ("1/s;1/m; 1/60000 ms", 9, "keep the smaller limit"),
    ],
)
def test_an_error_says_what_came_what_was_expected_and_where(text: str, position: int, says: str):
    with pytest.raises(InvalidRate) as caught:
        rates(text)
    assert (caught.value.text, caught.value.position) == (text, position)
    assert says in str(caught.value).splitlines()[0]
    assert isinstance(caught.value, SluicegateError) and isinstance(caught.value, ValueError)


def test_sixteen_rates_are_a_text_and_one_more_is_refused_at_the_separator():
    text = ";".join(f"1/{number}s" for number in range(1, MAX_RATES + 1))
    assert len(rates(text)) == MAX_RATES == 16
    with pytest.raises(InvalidRate, match=r"expected the end after 16 rates at character \d+, got ';'") as caught:
        rates(f"{text};1/w")
    assert caught.value.position == len(text)


def test_an_unknown_word_like_nothing_gets_no_advice():
    for word in ("fortnight", "mn", "decade"):
        with pytest.raises(InvalidRate, match=f"got '{word}'\n"):
            rates(f"5/{word}")


@pytest.mark.parametrize("value", [None, 5, 1.5, b"5/minute", ["5/minute"], SlidingWindow(5, window=60)])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(InvalidRate, match=r'^rate must be text such as "100/minute", got ') as caught:
        parse_rates(value)
    assert caught.value.position == 0
    assert str(caught.value).endswith(caught.value.text)


@pytest.mark.parametrize(
    ("text", "line", "caret"),
    [
        ("100/fortnight", "100/fortnight", "    ^"),
        ("5", "5", " ^"),
        ("5\t/\nfoo", r"5\t/\nfoo", "      ^"),
        ("5/s\\", r"5/s\\", "   ^"),
        ("5/\u202efoo\u4e2d", r"5/\u202efoo\u4e2d", "  ^"),
        ("\u4e2d\u0301", r"\u4e2d\u0301", "^"),
        (f"{' ' * 40}x/minute", f"...{' ' * 30}x/minute", f"{' ' * 33}^"),
        (f"5/{'x' * 40}", f"5/{'x' * 30}...", "  ^"),
        ("\n" * 30 + "5/" + "\u4e2d" * 30, r"..." + r"\n" * 14 + "5/" + r"\u4e2d" * 5 + "...", f"{' ' * 33}^"),
    ],
)
def test_a_caret_stands_below_the_place(text: str, line: str, caret: str):
    with pytest.raises(InvalidRate) as caught:
        rates(text)
    assert str(caught.value).splitlines()[1:] == [f"  {line}", f"  {caret}"]


def test_an_error_comes_through_from_another_process():
    with pytest.raises(InvalidRate) as caught:
        rates("5/fortnight")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.text, copied.position) == (str(caught.value), "5/fortnight", 2)


BLANK = st.text(" \t\r\n", max_size=2)


@st.composite
def numbers(draw: st.DrawFn, most: int) -> tuple[str, int]:
    number = draw(st.integers(1, most))
    return draw(st.sampled_from([f"{number}", f"{number:_}", f"000{number}"])), number


@st.composite
def multiples(draw: st.DrawFn, unit_us: int) -> tuple[str, int]:
    """A multiple as it is written, and the window that it makes of the unit."""
    written, number = draw(numbers(MAX_WINDOW_US // unit_us - 1))
    places = draw(st.integers(0, 3))
    if places == 0:
        return written, number * unit_us
    thousandths = draw(st.integers(0, 10**places - 1))
    return f"{written}.{thousandths:0{places}}", int((number + Fraction(thousandths, 10**places)) * unit_us)


@st.composite
def written_rates(draw: st.DrawFn) -> tuple[str, int, int]:
    limit, expected = draw(numbers(MAX_UNITS))
    word, unit_us = draw(st.sampled_from(WORDS))
    word = "".join(draw(st.sampled_from([letter, letter.upper()])) for letter in word)
    per = draw(st.sampled_from(["/", "per", "PER"]))
    multiple, window_us = draw(st.one_of(st.just(("", unit_us)), multiples(unit_us)))
    apart = draw(BLANK) if multiple or per == "/" else " "
    blanks = [draw(BLANK) for _ in range(4)]
    return f"{blanks[0]}{limit}{blanks[1]}{per}{apart}{multiple}{blanks[2]}{word}{blanks[3]}", expected, window_us


@given(st.lists(written_rates(), min_size=1, max_size=MAX_RATES, unique_by=lambda rate: rate[2]), st.data())
def test_whatever_is_written_reads_back_to_the_same_numbers(written: list[tuple[str, int, int]], data: st.DataObject):
    text = written[0][0] + "".join(data.draw(st.sampled_from(";,|")) + rate for rate, _, _ in written[1:])
    expected = [(limit, window_us) for _, limit, window_us in written]
    assert rates(text) == expected
    assert [(policy.limit, policy.window_us) for policy in parse_rates(text)] == expected


def refusal(text: str) -> InvalidRate | None:
    try:
        assert all(1 <= limit <= MAX_UNITS and 1 <= window_us <= MAX_WINDOW_US for limit, window_us in rates(text))
    except InvalidRate as error:
        return error
    return None


def check_it_helps(error: InvalidRate, text: str) -> None:
    assert error.text == text
    assert 0 <= error.position <= len(text)
    assert len(str(error)) < 400
    lines = str(error).split("\n")
    assert len(lines) == 3 and all(line.isascii() and line.isprintable() for line in lines)
    # The caret points at the character as it is escaped, or behind the end.
    _, picture, caret = lines
    here = ascii(text[error.position : error.position + 1])[1:-1]
    assert picture[caret.index("^") :].startswith(here) and (here or len(picture) == len(caret) - 1)


PIECES = [
    "5",
    "0",
    "1_0",
    ".5",
    "/",
    "per",
    " ",
    "s",
    "minute",
    "month",
    ";",
    ",",
    "|",
    "\n",
    "\u202e",
    "\U0001f600",
    "é",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
@example("\ud800/s")
@example("5/\udfff")
@example("'")
@example(f"{' ' * 99}5/{' ' * 999_999}month{'x' * 99}")
@example("5/month" + "\U0001f600" * 99)
@example(";" * 99)
@example("5/" + "\U0001d49c" * 99)
def test_any_text_at_all_is_read_or_refused_at_a_place_in_it(text: str):
    error = refusal(text)
    if error:
        check_it_helps(error, text)


@pytest.mark.parametrize(
    "text",
    [
        *["9", "0", "1_", " ", "\n", "x", "\0", "(", ";", "\u202e", "\U0001f600", "1/s;", "1 per 1 "],
        *["5/9", "5/0.0", "5/x", "5/\u4e2d", "5/ ", "5/s ", "5/s;0", "5 perp", "5/1.1_1", "5/month"],
    ],
)
def test_a_megabyte_is_refused_in_few_words(text: str):
    # Nothing is timed: a pattern that went back and forth over it would never come to an end.
    tail = text[-1] if text[:2] in ("5/", "5 ") else text
    text += tail * (1_000_000 // len(tail)) + "\0"
    error = refusal(text)
    assert error
    check_it_helps(error, text)
