"""Write docs/explanation/algorithms.svg: the same arrivals through each algorithm, as the real ones answer them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from sluicegate import CalendarWindow, FixedWindow, Limiter, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.policy import Policy
from sluicegate.testing import ManualClock

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs/explanation/algorithms.svg"

LIMIT, HOUR = 5, 60
FROM, TO = 8 * HOUR, 13 * HOUR  # the drawn span, minutes of a day that begins at _MIDNIGHT
_MIDNIGHT = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp())


def _at(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * HOUR + int(minute)


ARRIVALS = (
    *range(_at("08:06"), _at("08:55"), 12),  # steady, at the pace of the limit
    *[_at("09:57")] * 6,  # a burst just before a full hour, and one just after it
    *[_at("10:03")] * 6,
    *range(_at("10:09"), _at("11:28"), 6),  # steady, at twice the pace
    *[_at("12:27")] * 6,  # after a silence the same around a half hour
    *[_at("12:33")] * 6,
)
"""Minutes of the day, in order."""


@dataclass(frozen=True)
class Run:
    """What one policy answered."""

    policy: Policy
    says: str
    """What is to be seen in its row."""
    answers: tuple[bool, ...]
    """One for each of ARRIVALS."""

    @cached_property
    def steps(self) -> list[tuple[int, int]]:
        """When the units allowed in the trailing window change, and to how many."""
        taken = [at for at, allowed in zip(ARRIVALS, self.answers, strict=True) if allowed]
        moments = sorted({*taken, *(at + HOUR for at in taken)})
        return [(moment, sum(moment - HOUR < at <= moment for at in taken)) for moment in moments]

    @property
    def peak(self) -> tuple[int, int]:
        """When the trailing window held the most, for the longest, and how much."""
        spans = [(units, after - at, at) for (at, units), (after, _) in pairwise(self.steps)]
        units, _, at = max(spans, key=lambda span: span[:2])
        return at, units

    @property
    def edges(self) -> list[int]:
        """Where windows begin, of a policy that has edges: minutes."""
        if not isinstance(self.policy, FixedWindow | CalendarWindow):
            return []
        starts = (self.policy.edges((_MIDNIGHT + 60 * minute) * 1_000_000)[0] for minute in range(FROM, TO + 1))
        minutes = {start // 60_000_000 - _MIDNIGHT // 60 for start in starts}
        return sorted(minute for minute in minutes if FROM < minute < TO)


def runs() -> list[Run]:
    """Ask each algorithm in turn."""
    return [
        _run(SlidingWindow.per_hour(LIMIT), "Never more than 5 in any hour, wherever it begins."),
        _run(TokenBucket(LIMIT, window=3600), "A burst of 5 when idle, and then one every 12 minutes."),
        _run(FixedWindow(LIMIT, window=3600), "5 just before 10:00 UTC and 5 just after: twice the limit."),
        _run(
            CalendarWindow(LIMIT, every="hour", timezone="Asia/Kolkata"),
            "The same at 12:30 UTC, where an hour begins in Kolkata.",
        ),
    ]


def _run(policy: Policy, says: str) -> Run:
    clock = ManualClock(_MIDNIGHT)
    limiter = Limiter(policy, store=MemoryStore(clock=clock))
    answers = []
    for before, at in pairwise((0, *ARRIVALS)):
        clock.advance(60 * (at - before))
        answers.append(limiter.allow("alice"))
    return Run(policy, says, tuple(answers))


# From here on: pixels of a picture 720 wide. On a phone it is half as wide, and the style sheet has larger letters.

_LEFT, _RIGHT = 28, 692
_FIRST, _PITCH = 86, 214  # where the first row begins, and how far the next one is below it
_LANE, _MARK = 121, 10  # the line the marks stand on, below the head of a row; a mark with its space
_ZERO, _UNIT = 194, 6.5  # the line of no units; a unit


class Mark(NamedTuple):
    """One arrival."""

    x: float
    y: float
    allowed: bool


class Row(NamedTuple):
    """Where all of one run is drawn, from the head of its row."""

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


def _x(minute: int) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * (minute - FROM) / (TO - FROM), 1)


def _row(n: int, run: Run) -> Row:
    when, peak = run.peak
    line = f"M{_x(FROM)} {_ZERO}" + "".join(f"H{_x(at)}V{_ZERO - _UNIT * units}" for at, units in run.steps if at <= TO)
    line += f"H{_x(TO)}"
    return Row(
        top=_FIRST + _PITCH * n,
        name=type(run.policy).__name__,
        says=run.says,
        worst=run.policy.worst_case,
        peak=peak,
        marks=_marks(run),
        edges=[_x(minute) for minute in run.edges],
        line=line,
        area=f"{line}V{_ZERO}Z",
        limit=_ZERO - _UNIT * LIMIT,
        peak_at=(_x(when), _ZERO - _UNIT * peak),
    )


def _marks(run: Run) -> list[Mark]:
    marks: list[Mark] = []
    for n, (at, allowed) in enumerate(zip(ARRIVALS, run.answers, strict=True)):
        height = n - ARRIVALS.index(at)  # those of one moment stand on each other
        marks.append(Mark(_x(at), _LANE - _MARK * (height + 0.5), allowed))
    return marks


_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {{ height }}" width="720" height="{{ height }}" role="img" \
aria-labelledby="title desc">
  <title id="title">The same {{ arrivals }} arrivals through four algorithms, each with a limit of 5 an hour</title>
  <desc id="desc">Arrivals on a line of time: steady; a burst of 6 just before 10:00 and one just after; steady at \
twice the pace of the limit; a silence; a burst of 6 just before 12:30 and one just after. \
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
    @media (prefers-color-scheme: dark) {
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
    }
  </style>
  <rect class="card" x="0.5" y="0.5" width="719" height="{{ height - 1 }}" rx="8"/>
  <text class="head" x="{{ left }}" y="34">The same {{ arrivals }} arrivals, under a limit of 5 an hour</text>
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
    """Return the picture as it should be."""
    asked = runs()
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return template.from_string(_TEMPLATE).render(
        runs=asked,
        rows=[_row(n, run) for n, run in enumerate(asked)],
        arrivals=len(ARRIVALS),
        hours=[(f"{minute // HOUR:02}:00", _x(minute)) for minute in range(FROM, TO + 1, HOUR)],
        height=_FIRST + _PITCH * len(asked) + 34,
        left=_LEFT,
        right=_RIGHT,
        zero=_ZERO,
    )


def main() -> None:
    PICTURE.write_text(picture(), encoding="utf-8")
    sys.stdout.write(f"written: {PICTURE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
