"""Rate strings: "100/minute", "10 per 30s", "100/hour; 3/minute". Short for sliding windows.

    text      = rate *( ( ";" / "," / "|" ) rate )    ; up to 16, each with a window of its own
    rate      = limit ( "/" / "per" ) [ multiple ] unit
    limit     = digits                                ; 1 to 10^11
    multiple  = digits [ "." digits ]                 ; times the unit: whole microseconds, up to 10 years
    digits    = 1*DIGIT *( "_" 1*DIGIT )              ; 0-9 of ASCII
    unit      = one of the words in _UNITS, in any case

Spaces, tabs and line ends are allowed between these. The text may be hostile: it is read once from left to right, so
the time is linear in its length, and an error quotes a short, escaped piece of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import accumulate

from sluicegate._core.calendar import EVERY
from sluicegate._core.errors import InvalidRate, nearest, short_repr
from sluicegate._core.policy import MAX_UNITS, MAX_WINDOW_US, SlidingWindow, seconds

MAX_RATES = 16
"""The most rates in one rate string."""

_SPELLINGS = {
    1_000: "ms millisecond milliseconds",
    1_000_000: "s sec secs second seconds",
    60_000_000: "m min mins minute minutes",
    3_600_000_000: "h hr hrs hour hours",
    86_400_000_000: "d day days",
    604_800_000_000: "w week weeks",
}
_UNITS = {word: unit_us for unit_us, words in _SPELLINGS.items() for word in words.split()}

_BLANK = r"[ \t\r\n]*"
_START = re.compile(_BLANK)
_LIMIT = re.compile(rf"([0-9]+(?:_[0-9]+)*){_BLANK}")
_PER = re.compile(rf"(?:/|per(?![^\W\d_])){_BLANK}", re.IGNORECASE)
_MULTIPLE = re.compile(rf"([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+(?:_[0-9]+)*))?{_BLANK}")
_UNIT = re.compile(rf"([^\W\d_]+){_BLANK}")
_SEPARATOR = re.compile(rf"[;,|]{_BLANK}")
_PIECE = re.compile(r"[^\W\d_]+|[-+.]?\d[\d_.]*|.", re.DOTALL)  # the piece that an error quotes

_A_LIMIT = f"a limit from 1 to {MAX_UNITS}"
_A_UNIT = "a unit of time (ms, s, m, h, d, w or second, minute, hour, day, week)"
_A_WINDOW = f"a window of 0.000001 to {MAX_WINDOW_US // 1_000_000} seconds (ten years), in whole microseconds,"

_WHOLE = "a limit is a whole number: for 1.5/s write 3/2s"
_COMMA = "a comma separates rates: for 1,000 write 1000 or 1_000"
_TOO_SMALL = ("us", "microsecond", "microseconds", "ns", "nanosecond", "nanoseconds")
_OF_A_CALENDAR = {
    **dict.fromkeys(("mo", "month", "months"), ("month", 30)),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), ("year", 365)),
    **dict.fromkeys(("quarter", "quarters"), ("quarter", 90)),
}
"""Units without a fixed length: the name of each, and about how many days it has."""

_LONGEST_SPOKEN = 100
_BY = re.compile(r"(?<=[a-z])\s*(?:/|\bper\b|\bby\b)\s*([a-z_]+)$")
_SPOKEN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)k(?![a-z])", "000"),
        (r"(?<![a-z])[qrt]p([smhd])(?![a-z])", r"/\1"),  # rps, rpm, qps
        (r"(?<![a-z])(?:r|reqs?|requests?|calls?|hits?|times|queries|tokens?|units?)(?![a-z])", " "),
        (r"(?<![a-z])(?:an?|each|every|in|for)(?![a-z])", "/"),
        (r"(?:/|\bper\b)?\s*\b(?:(second|minute|hour|week)ly|(da)ily)\b", r"/\1\2"),
        (r"/da$", "/day"),
        (r"(?<=\d)\s*-\s*(?=[smhdw]\b)", "/"),  # 10-M
        (r"(?<=[\d\s]/)\s*(\d+)$", r"\1s"),  # 100/60
    )
]
"""Other ways to write a rate, in lower case, and what makes them ours."""

_SIDE = 30  # columns an error shows on each side of the place


def parse_rates(
    text: str, *, per: str | Sequence[str] | None = None, shared: bool = False, stem: str | None = None
) -> tuple[SlidingWindow, ...]:
    """Return a sliding window for each rate in the text, in its order.

    Args:
        text: Such as ``100/minute``, ``10 per 30s`` or ``100/hour; 3/minute``. A limit is from 1 to 10^11, a window
            whole microseconds up to 10 years. Up to 16 rates, each with a window of its own.
        per: The attributes to count by, for all of them; as for `SlidingWindow`.
        shared: One counter for all keys.
        stem: The beginning of each name: ``ping`` makes ``ping-60s`` for a window of 60 seconds. By default they have
            the names that `SlidingWindow` derives.

    Raises:
        InvalidRate: The text does not parse, or is not text.
        InvalidPolicy: ``per``, ``shared`` or ``stem`` is invalid.
    """
    return tuple(
        SlidingWindow(
            limit,
            window=timedelta(microseconds=window_us),
            name=None if stem is None else f"{stem}-{seconds(window_us)}s",
            per=per,
            shared=shared,
        )
        for limit, window_us in rates(text)
    )


def rates(text: str) -> list[tuple[int, int]]:
    """Return (limit, window in microseconds) for each rate in the text, in its order.

    Raises:
        InvalidRate: The text does not parse, or is not text.
    """
    if not isinstance(text, str):
        got = short_repr(text)
        raise InvalidRate(f'rate must be text such as "100/minute", got {got}', text=got, position=0)
    try:
        return _parsed(text)
    except InvalidRate as error:
        said, picture = str(error).split("\n", 1)
        message = f"{said}{'' if '; ' in said else _instead(text)}\n{picture}"  # some have a hint
        raise InvalidRate(message, text=text, position=error.position) from None


def _parsed(text: str) -> list[tuple[int, int]]:
    reader = _Reader(text)
    limits: dict[int, int] = {}
    while True:
        start = reader.at
        limit = _limit(reader)
        window_us = _window(reader, limit)
        if window_us in limits:
            hint = "both would be one counter: keep the smaller limit"
            raise reader.wrong("each window once", start, got=f"{seconds(window_us)}s again", hint=hint)
        limits[window_us] = limit
        if reader.at == len(text):
            return [(limit, window_us) for window_us, limit in limits.items()]
        if len(limits) == MAX_RATES:
            raise reader.wrong(f"the end after {MAX_RATES} rates")
        reader.need(_SEPARATOR, "';', ',' or '|' and another rate, or the end,")


class _Reader:
    """A rate string, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.take(_START)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Move past the pattern if it comes next."""
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match

    def need(self, pattern: re.Pattern[str], expected: str, hints: Mapping[str, str] | None = None) -> re.Match[str]:
        """Move past the pattern, which must come next. ``hints`` are for the character found instead."""
        match = self.take(pattern)
        if match is None:
            raise self.wrong(expected, hint=(hints or {}).get(self.text[self.at : self.at + 1], ""))
        return match

    def wrong(self, expected: str, at: int | None = None, *, got: str = "", hint: str = "") -> InvalidRate:
        """Return an error that points at ``at``; if that is None, at the next character to be read."""
        at = self.at if at is None else at
        said = f"expected {expected} at character {at + 1}, got {got or _piece(self.text, at)}"
        message = f"{said}{hint and f'; {hint}'}\n{_picture(self.text, at)}"
        return InvalidRate(message, text=self.text, position=at)


def _limit(reader: _Reader) -> int:
    start = reader.at
    digits = _plain(reader.need(_LIMIT, _A_LIMIT, {".": _WHOLE})[1]).lstrip("0")
    # Count the digits before int(), which rejects thousands of them or takes long.
    if len(digits) > len(str(MAX_UNITS)) or not 1 <= int(digits or "0") <= MAX_UNITS:
        raise reader.wrong(_A_LIMIT, start)
    reader.need(_PER, "'/' or 'per'", {".": _WHOLE, ",": _COMMA})
    return int(digits)


def _window(reader: _Reader, limit: int) -> int:
    start = reader.at
    multiple = reader.take(_MULTIPLE)
    unit_us = _unit(reader, limit, multiple[0].strip() if multiple else "1")
    window_us = unit_us if multiple is None else _times(multiple[1], multiple[2] or "", unit_us)
    if window_us is None:
        raise reader.wrong(_A_WINDOW, start)
    return window_us


def _times(whole: str, fraction: str, unit_us: int) -> int | None:
    """Multiply exactly. Returns None if the product is not a valid window."""
    whole, fraction = _plain(whole).lstrip("0"), _plain(fraction).rstrip("0")
    # More digits are too long before the point, and too fine after it: a week, 2^13 x 5^8 x 189 µs, is not a whole
    # number of microseconds with more than 13.
    if max(len(whole), len(fraction)) > len(str(MAX_WINDOW_US)):
        return None
    window_us, rest = divmod(int(whole + fraction or "0") * unit_us, 10 ** len(fraction))
    return window_us if rest == 0 and 1 <= window_us <= MAX_WINDOW_US else None


def _plain(digits: str) -> str:
    return digits.replace("_", "")


def _unit(reader: _Reader, limit: int, multiple: str) -> int:
    start = reader.at
    commas = f"{_COMMA}, and for 0,5 write 0.5"
    word = reader.need(_UNIT, _A_UNIT, {".": "a fraction begins with a digit: 0.5", ",": commas})[1]
    # Only ASCII: in lower case the Kelvin sign is a k, and would end "week".
    unit_us = _UNITS.get(word.lower()) if word.isascii() else None
    if unit_us is None:
        raise reader.wrong(_A_UNIT, start, hint=_advice(word.lower(), limit, multiple))
    return unit_us


def _advice(word: str, limit: int, multiple: str) -> str:
    if word in _OF_A_CALENDAR:
        return _of_a_calendar(*_OF_A_CALENDAR[word], limit, multiple)
    if word in _TOO_SMALL:
        return "the smallest unit is ms: 250 microseconds are 0.25ms"
    # A short word is close to too many others, and a very long one takes long to compare.
    near = nearest(word, _UNITS) if 4 <= len(word) <= 20 else None
    return f"did you mean {near!r}?" if near else ""


def _of_a_calendar(unit: str, days: int, limit: int, multiple: str) -> str:
    """Return the advice for a unit without a fixed length: the same rate by the calendar, and in days."""
    said = f"a {unit} has no fixed length: "
    days *= int(multiple) if multiple.isdigit() and len(multiple) <= len("120") else 0
    if not 0 < days * _UNITS["day"] <= MAX_WINDOW_US:
        return f"{said}name the days"
    calendar = f'CalendarWindow({limit}, every="{unit}"), or ' if multiple == "1" and unit in EVERY else ""
    return f"{said}{calendar}name the days: {limit}/{days} days"


def _instead(text: str) -> str:
    """Return the advice to write another way of writing a rate as we do, if that parses."""
    if len(text) > _LONGEST_SPOKEN or not text.isascii():
        return ""
    ours = " ".join(text.lower().split())
    by = _BY.search(ours)
    ours = ours[: by.start()] if by and by[1] not in _UNITS else ours
    for pattern, replacement in _SPOKEN:
        ours = pattern.sub(replacement, ours)
    ours = re.sub(r" ?/ ?", "/", " ".join(ours.split()))
    try:
        _parsed(ours)
    except InvalidRate:
        return ""
    if by and by[1] not in _UNITS:
        return f"; write Limiter(*parse_rates({ours!r}, per={by[1]!r}))"
    return f"; write {ours!r}"


def _piece(text: str, at: int) -> str:
    if at == len(text):
        return "the end of the text"
    piece = _PIECE.findall(text, at, at + _SIDE + 1)[0]
    fits = len(_fitting(piece))
    return ascii(piece[:fits]) + ("..." if fits < len(piece) else "")


def _picture(text: str, at: int) -> str:
    """Return a line with the text around the place, and a line with a caret below it."""
    before = _fitting(reversed(text[max(0, at - _SIDE) : at]))
    behind = _fitting(text[at : at + _SIDE])
    left = ("..." if len(before) < at else "") + "".join(reversed(before))
    right = "".join(behind) + ("..." if at + len(behind) < len(text) else "")
    return f"  {left}{right}\n  {' ' * len(left)}^"


def _fitting(characters: Iterable[str]) -> list[str]:
    """Escape as many of the characters as fit on one side."""
    # Everything but printable ASCII: wide, combining or right-to-left characters would move the caret, and letters that
    # only look Latin would go unnoticed.
    escaped = [ascii(character)[1:-1] for character in characters]
    return [each for each, columns in zip(escaped, accumulate(map(len, escaped)), strict=True) if columns <= _SIDE]
