"""Draw the pictures of the algorithms: the same arrivals through each of them, as the real limiters answer.

- ``docs/explanation/algorithms.svg``: all four algorithms, for the page that compares them.
- ``docs/explanation/worst-window.svg`` and ``worst-window-dark.svg``: a fixed and a sliding window, for the README.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from sluicegate import CalendarWindow, FixedWindow, Limiter, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.policy import Policy
from sluicegate.testing import ManualClock

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/explanation"

LIMIT, HOUR = 5, 60
_MIDNIGHT = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp())


def _at(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * HOUR + int(minute)


# Times are minutes of the day that begins at _MIDNIGHT.

ARRIVALS = (
    *range(_at("08:06"), _at("08:55"), 12),  # steady, at the pace of the limit
    *[_at("09:57")] * 6,  # a burst just before a full hour, and one just after it
    *[_at("10:03")] * 6,
    *range(_at("10:09"), _at("11:28"), 6),  # steady, at twice the pace
    *[_at("12:27")] * 6,  # after a silence the same around a half hour
    *[_at("12:33")] * 6,
)
"""The arrivals of ``algorithms.svg``, in order."""

BURSTS = (*[_at("09:57")] * 6, *[_at("10:03")] * 6, *[_at("10:57")] * 6)
"""The arrivals of ``worst-window.svg``, in order: the last burst comes exactly one hour after the first."""


@dataclass(frozen=True)
class Run:
    """The answers of one policy to one series of arrivals.

    Attributes:
        policy: The policy that answered.
        says: The sentence in its row.
        arrivals: In order.
        answers: Whether each of the arrivals was allowed.
    """

    policy: Policy
    says: str
    arrivals: tuple[int, ...]
    answers: tuple[bool, ...]

    @cached_property
    def steps(self) -> list[tuple[int, int]]:
        """Each change of the units allowed in the hour before: when, and the units from then on."""
        taken = [at for at, allowed in zip(self.arrivals, self.answers, strict=True) if allowed]
        moments = sorted({*taken, *(at + HOUR for at in taken)})
        return [(moment, sum(moment - HOUR < at <= moment for at in taken)) for moment in moments]

    @property
    def peak(self) -> tuple[int, int]:
        """The longest stretch with the most units in the hour before: its start, and the units."""
        spans = [(units, after - at, at) for (at, units), (after, _) in pairwise(self.steps)]
        units, _, at = max(spans, key=lambda span: span[:2])
        return at, units

    def edges(self, start: int, end: int) -> list[int]:
        """Return the minutes between ``start`` and ``end`` at which a window of the policy begins."""
        if not isinstance(self.policy, FixedWindow | CalendarWindow):
            return []
        starts = (self.policy.edges((_MIDNIGHT + 60 * minute) * 1_000_000)[0] for minute in range(start, end + 1))
        minutes = {at // 60_000_000 - _MIDNIGHT // 60 for at in starts}
        return sorted(minute for minute in minutes if start < minute < end)


def runs() -> list[Run]:
    """Send ARRIVALS through each of the four algorithms."""
    return [
        _run(SlidingWindow.per_hour(LIMIT), "Never more than 5 in any hour, wherever it begins."),
        _run(TokenBucket(LIMIT, window=3600), "A burst of 5 when idle, and then one every 12 minutes."),
        _run(FixedWindow(LIMIT, window=3600), "5 just before 10:00 UTC and 5 just after: twice the limit."),
        _run(
            CalendarWindow(LIMIT, every="hour", timezone="Asia/Kolkata"),
            "The same at 12:30 UTC, where an hour begins in Kolkata.",
        ),
    ]


def worst_window_runs() -> list[Run]:
    """Send BURSTS through a fixed and a sliding window."""
    return [
        _run(FixedWindow(LIMIT, window=3600), "10 allowed within six minutes: twice the limit.", BURSTS),
        _run(SlidingWindow.per_hour(LIMIT), "Never more than 5 in any hour, wherever it begins.", BURSTS),
    ]


def _run(policy: Policy, says: str, arrivals: tuple[int, ...] = ARRIVALS) -> Run:
    clock = ManualClock(_MIDNIGHT)
    limiter = Limiter(policy, store=MemoryStore(clock=clock))
    answers = []
    for before, at in pairwise((0, *arrivals)):
        clock.advance(60 * (at - before))
        answers.append(limiter.allow("alice"))
    return Run(policy, says, arrivals, tuple(answers))


# Pixels of a picture that is 720 wide. A phone shows it at half that, so the style sheet has larger letters for it.

_LEFT, _RIGHT = 28, 692
_FIRST, _PITCH = 86, 214  # the top of the first row, and from one row to the next
_LANE, _MARK = 121, 10  # the line that the marks stand on, below the top of a row; the height of a mark
_ZERO, _UNIT = 194, 6.5  # the line of no units, below the top of a row; the height of a unit


class Mark(NamedTuple):
    """One arrival."""

    x: float
    y: float
    allowed: bool


class Row(NamedTuple):
    """One run as it is drawn. Heights count from the top of the row."""

    top: int
    name: str
    says: str
    worst: int
    peak: int
    marks: list[Mark]
    edges: list[float]
    line: str
    area: str
    limit: float
    peak_at: tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """The line of time, from ``start`` to ``end`` in minutes of the day."""

    start: int
    end: int

    def x(self, minute: int) -> float:
        """Return where a minute is drawn."""
        return round(_LEFT + (_RIGHT - _LEFT) * (minute - self.start) / (self.end - self.start), 1)


def _row(n: int, run: Run, axis: Axis) -> Row:
    when, peak = run.peak
    steps = "".join(f"H{axis.x(at)}V{_ZERO - _UNIT * units}" for at, units in run.steps if at <= axis.end)
    line = f"M{axis.x(axis.start)} {_ZERO}{steps}H{axis.x(axis.end)}"
    return Row(
        top=_FIRST + _PITCH * n,
        name=type(run.policy).__name__,
        says=run.says,
        worst=run.policy.worst_case,
        peak=peak,
        marks=_marks(run, axis),
        edges=[axis.x(minute) for minute in run.edges(axis.start, axis.end)],
        line=line,
        area=f"{line}V{_ZERO}Z",
        limit=_ZERO - _UNIT * LIMIT,
        peak_at=(axis.x(when), _ZERO - _UNIT * peak),
    )


def _marks(run: Run, axis: Axis) -> list[Mark]:
    marks: list[Mark] = []
    for n, (at, allowed) in enumerate(zip(run.arrivals, run.answers, strict=True)):
        height = n - run.arrivals.index(at)  # arrivals of the same minute are stacked
        marks.append(Mark(axis.x(at), _LANE - _MARK * (height + 0.5), allowed))
    return marks


_DARK = """\
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .card { fill: #0d1117; stroke: #3d444d; }
    .axis { stroke: #656c76; }
    .edge, .limit { stroke: #9198a1; }
    .allowed { fill: #4493f8; stroke: #4493f8; }
    .denied { fill: #0d1117; stroke: #f0883e; }
    .area { fill: #12233d; }
    .over { fill: #5a3009; }
    .line { stroke: #4493f8; }
    .over-text { fill: #ffc680; }
"""

_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {{ height }}" width="720" height="{{ height }}" role="img" \
aria-labelledby="title desc">
  <title id="title">{{ title }}, each with a limit of 5 an hour</title>
  <desc id="desc">Arrivals on a line of time: {{ describes }} \
{%- for run in runs %} {{ run.policy.__class__.__name__ }} allows {{ run.answers | sum }}, at most \
{{ run.peak[1] }} in an hour; its worst case is {{ run.policy.worst_case }}.{% endfor %}</desc>
  <style>
    text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
    .head { font-size: 17px; font-weight: 600; }
    .name { font-weight: 600; font-size: 15px; }
    .peak { font-weight: 700; }
    .quiet { fill: #59636e; }
    .end { text-anchor: end; }
    .middle { text-anchor: middle; }
    .card { fill: #fff; stroke: #d1d9e0; }
    .axis { stroke: #818b98; }
    .edge { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 2 4; }
    .limit { stroke: #59636e; stroke-dasharray: 7 4; }
    .allowed { fill: #0969da; stroke: #0969da; stroke-width: 1.5; }
    .denied { fill: #fff; stroke: #bc4c00; stroke-width: 1.75; }
    .area { fill: #ddf4ff; }
    .over { fill: #ffc680; }
    .line { fill: none; stroke: #0969da; stroke-width: 2; stroke-linejoin: round; }
    .over-text { fill: #762c00; }
    @media (max-width: 560px) {
      text { font-size: 20px; }
      .head { font-size: 22px; }
      .name { font-size: 21px; }
      .second { transform: translate(106px, 0); }
      .third { transform: translate(206px, 0); }
      .fourth { transform: translate(490px, 0); }
    }
{%- if dark %}
{{ dark }}
{%- endif %}
  </style>
  <rect class="card" x="0.5" y="0.5" width="719" height="{{ height - 1 }}" rx="8"/>
  <text class="head" x="{{ left }}" y="34">{{ head }}, under a limit of 5 an hour</text>
  <g transform="translate({{ left }} 60)">
    <g><circle class="allowed" cx="5" cy="0" r="4"/><text x="16" y="5">allowed</text></g>
    <g class="second" transform="translate(92 0)"><circle class="denied" cx="5" cy="0" r="4"/>\
<text x="16" y="5">denied</text></g>
    <g class="third" transform="translate(178 0)"><path class="line" d="M0 4H8V-4H18"/>\
<text x="26" y="5">allowed in the last hour</text></g>
    <g class="fourth" transform="translate(388 0)"><line class="edge" x1="5" y1="-9" x2="5" y2="9"/>\
<text x="16" y="5">window's edge</text></g>
  </g>
{%- for row in rows %}
  <g transform="translate(0 {{ row.top }})">
    <line class="axis" x1="{{ left }}" y1="0" x2="{{ right }}" y2="0" opacity="0.4"/>
    <text class="name" x="{{ left }}" y="26">{{ row.name }}</text>
    <text class="end" x="{{ right }}" y="26"><tspan class="peak">peak {{ row.peak }}</tspan>, worst case \
{{ row.worst }}</text>
    <text class="quiet" x="{{ left }}" y="50">{{ row.says }}</text>
    <clipPath id="over-{{ loop.index }}"><rect x="0" y="100" width="720" height="{{ row.limit - 100 }}"/></clipPath>
    <path class="area" d="{{ row.area }}"/>
    <path class="over" d="{{ row.area }}" clip-path="url(#over-{{ loop.index }})"/>
    <line class="axis" x1="{{ left }}" y1="{{ zero }}" x2="{{ right }}" y2="{{ zero }}"/>
    <line class="limit" x1="{{ left }}" y1="{{ row.limit }}" x2="{{ right }}" y2="{{ row.limit }}"/>
{%- for x in row.edges %}
    <line class="edge" x1="{{ x }}" y1="62" x2="{{ x }}" y2="{{ zero }}"/>
{%- endfor %}
    <path class="line" d="{{ row.line }}"/>
    <text class="quiet" x="{{ left }}" y="{{ row.limit - 5 }}">limit 5</text>
    <text class="peak{{ ' over-text' if row.peak > 5 }}" x="{{ row.peak_at[0] + 5 }}" y="{{ row.peak_at[1] + 19 }}">\
{{ row.peak }}</text>
{%- for mark in row.marks %}
    <circle class="{{ 'allowed' if mark.allowed else 'denied' }}" cx="{{ mark.x }}" cy="{{ mark.y }}" r="4"/>
{%- endfor %}
  </g>
{%- endfor %}
{%- for hour, x in hours %}
  <line class="axis" x1="{{ x }}" y1="{{ height - 54 }}" x2="{{ x }}" y2="{{ height - 48 }}"/>
  <text class="quiet {{ 'middle' if 0 < loop.index0 and not loop.last else 'end' if loop.last }}" x="{{ x }}" \
y="{{ height - 24 }}">{{ hour }}</text>
{%- endfor %}
</svg>
"""


def picture() -> str:
    """Return ``algorithms.svg``, which follows the light or dark scheme of its reader."""
    return _drawn(
        runs(),
        Axis(8 * HOUR, 13 * HOUR),
        title=f"The same {len(ARRIVALS)} arrivals through four algorithms",
        head=f"The same {len(ARRIVALS)} arrivals",
        describes="steady; a burst of 6 just before 10:00 and one just after; steady at twice the pace of the limit; a "
        "silence; a burst of 6 just before 12:30 and one just after.",
        dark=f"    @media (prefers-color-scheme: dark) {{\n{indent(_DARK, '  ')}    }}",
    )


def worst_window(*, dark: bool) -> str:
    """Return ``worst-window.svg`` or its dark twin. A page that has a theme of its own picks one by `<picture>`."""
    return _drawn(
        worst_window_runs(),
        Axis(_at("09:30"), _at("11:30")),
        title=f"The same {len(BURSTS)} arrivals through a fixed and a sliding window",
        head=f"The same {len(BURSTS)} arrivals",
        describes="a burst of 6 at 09:57, one at 10:03, and one at 10:57.",
        dark=_DARK.rstrip() if dark else "",
        every=30,
    )


def _drawn(drawn: list[Run], axis: Axis, *, title: str, head: str, describes: str, dark: str, every: int = HOUR) -> str:
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return template.from_string(_TEMPLATE).render(
        runs=drawn,
        rows=[_row(n, run, axis) for n, run in enumerate(drawn)],
        title=title,
        head=head,
        describes=describes,
        dark=dark,
        hours=[
            (f"{minute // HOUR:02}:{minute % HOUR:02}", axis.x(minute))
            for minute in range(axis.start, axis.end + 1, every)
        ],
        height=_FIRST + _PITCH * len(drawn) + 34,
        left=_LEFT,
        right=_RIGHT,
        zero=_ZERO,
    )


def pictures() -> dict[str, str]:
    """Return all pictures by the names of their files."""
    return {
        "algorithms.svg": picture(),
        "worst-window.svg": worst_window(dark=False),
        "worst-window-dark.svg": worst_window(dark=True),
    }


def main() -> None:
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"written: {(FOLDER / name).relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
