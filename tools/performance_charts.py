"""The pictures of docs/performance.md: the growth of decisions, time and bytes, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes:
        name: The label at its end.
        kind: Its look: ``ours``, ``ours-too``, ``floor``, ``peer`` or ``peer-too``.
        points: From left to right.
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: The measured value, with its unit.
        says: The conditions of the measurement.
        x: The name of the sizes.
        unit: The unit of the values: ``s``, ``B`` or ``/s``.
        lines: Ours first.
    """

    title: str
    says: str
    x: str
    unit: str
    lines: Sequence[Line]


# Pixels of a picture that is 720 wide. A phone shows it at half that, so the style sheet has larger letters for it.
_LEFT, _RIGHT = 84, 500
_TOP, _FLOOR, _PITCH = 92, 282, 344  # the axes in a panel; from one panel to the next
_APART = 23  # the least distance between two labels at the ends of lines

Place = Callable[[float], float]
"""A function from a value to pixels."""


class Tick(NamedTuple):
    """A place on an axis; without a text it is only a line."""

    at: float
    text: str


class End(NamedTuple):
    """The label at the end of a line, and its place: it may have moved to make room for others."""

    name: str
    value: str
    y: float
    at: tuple[float, float]
    kind: str


class Drawn(NamedTuple):
    """One panel as it is drawn."""

    top: int
    title: str
    says: str
    x_name: str
    x: list[Tick]
    y: list[Tick]
    paths: list[tuple[str, str]]
    marks: list[tuple[str, list[tuple[float, float]]]]
    ends: list[End]


def number(value: float, unit: str) -> str:
    """Return a value in a unit that suits it."""
    scales = {
        "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
        "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
        "/s": ((1e6, "M/s"), (1e3, "k/s"), (1, "/s")),
        "": ((1e6, "M"), (1e3, "k"), (1, "")),
    }[unit]
    size, name = next((each for each in scales if value >= 0.9995 * each[0]), scales[-1])
    scaled = value / size
    digits = f"{scaled:.0f}" if scaled >= 9.95 else f"{scaled:.1f}".removesuffix(".0")
    joint = "" if unit in ("", "/s") else "\N{NO-BREAK SPACE}"
    return f"{digits}{joint}{name}"


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return the next 1, 2 or 5 times a power of ten below and above, so that no point is on the frame."""
    steps = [factor * 10.0**power for power in range(-10, 13) for factor in (1, 2, 5)]
    low, high = min(values), max(values)
    return max(step for step in steps if step < low / 1.05), min(step for step in steps if step > high * 1.05)


def _scale(low: float, high: float, start: float, end: float) -> Place:
    span = math.log(high / low)
    return lambda value: round(start + (end - start) * math.log(value / low) / span, 1)


def _y_ticks(low: float, high: float, unit: str, place: Place) -> list[Tick]:
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades <= 2.2 else (1,)
    values = [factor * 10.0**power for power in range(-10, 13) for factor in factors]
    every = 1 if decades <= 8 else 2
    within = [value for value in values if low * 0.999 <= value <= high * 1.001]
    return [Tick(place(value), number(value, unit) if n % every == 0 else "") for n, value in enumerate(within)]


def _drawn(n: int, panel: Panel) -> Drawn:
    sizes = sorted({x for line in panel.lines for x, _ in line.points})
    low, high = _bounds([y for line in panel.lines for _, y in line.points])
    x, y = _scale(sizes[0], sizes[-1], _LEFT + 14, _RIGHT - 14), _scale(low, high, _FLOOR, _TOP)
    placed = [(line, [(x(px), y(py)) for px, py in line.points]) for line in panel.lines]
    return Drawn(
        top=_PITCH * n,
        title=panel.title,
        says=panel.says,
        x_name=panel.x,
        x=[Tick(x(size), number(size, "") if size < 1000 or size % 1000 == 0 else f"{size:g}") for size in sizes],
        y=_y_ticks(low, high, "" if panel.unit == "/s" else panel.unit, y),
        # Ours on top of the others.
        paths=[(line.kind, "M" + "L".join(f"{px} {py}" for px, py in points)) for line, points in reversed(placed)],
        marks=[(line.kind, points) for line, points in reversed(placed)],
        ends=_ends([(line, points[-1], number(line.points[-1][1], panel.unit)) for line, points in placed]),
    )


def _ends(lines: Sequence[tuple[Line, tuple[float, float], str]]) -> list[End]:
    """Place the labels as near to the ends of their lines as they can be without touching."""
    ordered = sorted(lines, key=lambda each: each[1][1])
    places = [at[1] for _, at, _ in ordered]
    for _ in range(200):  # push neighbours apart, each by the same amount, until none touch
        moved = False
        for n in range(len(places) - 1):
            short = _APART - (places[n + 1] - places[n])
            if short > 0.1:
                places[n] -= short / 2
                places[n + 1] += short / 2
                moved = True
        if not moved:
            break
    shift = max(0.0, _TOP - places[0]) - max(0.0, places[-1] - (_FLOOR - 6))
    return [
        End(line.name, value, round(place + shift, 1), at, line.kind)
        for (line, at, value), place in zip(ordered, places, strict=True)
    ]


_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {{ height }}" width="720" height="{{ height }}" role="img" \
aria-labelledby="title desc">
  <title id="title">{{ title }}</title>
  <desc id="desc">{{ describes }}</desc>
  <style>
    text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
    .head { font-size: 17px; font-weight: 600; }
    .quiet, .tick { fill: #59636e; }
    .tick { font-size: 13px; }
    .end { text-anchor: end; }
    .middle { text-anchor: middle; }
    .card { fill: #fff; stroke: #d1d9e0; }
    .grid { stroke: #d1d9e0; }
    .axis { stroke: #818b98; }
    .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
    .leader { stroke-width: 1; stroke-dasharray: 1 4; stroke-linecap: round; }
    .line.ours { stroke-width: 3.5; }
    .line.ours-too { stroke-width: 2.5; stroke-dasharray: 8 5; }
    .line.floor { stroke-dasharray: 2 5; }
    .ours, .ours-too { stroke: #0969da; --is: #0969da; }
    .floor { stroke: #59636e; --is: #59636e; }
    .peer { stroke: #bc4c00; --is: #bc4c00; }
    .peer-too { stroke: #8250df; --is: #8250df; }
    .mark { fill: #fff; stroke-width: 2; }
    .mark.ours { fill: var(--is); }
    text.label { stroke: none; fill: var(--is); }
    text.label.ours { font-weight: 700; }
    .value { font-weight: 400; }
    @media (max-width: 560px) {
      text { font-size: 20px; }
      .head { font-size: 22px; }
      .tick { font-size: 18px; }
      .value, .odd { display: none; }
    }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .quiet, .tick { fill: #9198a1; }
      .card { fill: #0d1117; stroke: #3d444d; }
      .grid { stroke: #262c33; }
      .axis { stroke: #656c76; }
      .ours, .ours-too { stroke: #4493f8; --is: #4493f8; }
      .floor { stroke: #9198a1; --is: #9198a1; }
      .peer { stroke: #f0883e; --is: #f0883e; }
      .peer-too { stroke: #ab7df8; --is: #ab7df8; }
      .mark { fill: #0d1117; }
    }
  </style>
  <rect class="card" x="0.5" y="0.5" width="719" height="{{ height - 1 }}" rx="8"/>
{%- for panel in panels %}
  <g transform="translate(0 {{ panel.top }})">
    <text class="head" x="28" y="36">{{ panel.title }}</text>
    <text class="quiet" x="28" y="62">{{ panel.says }}</text>
{%- for tick in panel.y %}
    <line class="grid" x1="{{ left }}" y1="{{ tick.at }}" x2="{{ right }}" y2="{{ tick.at }}"/>
    <text class="tick end" x="{{ left - 8 }}" y="{{ tick.at + 4.5 }}">{{ tick.text }}</text>
{%- endfor %}
{%- for tick in panel.x %}
    <line class="axis" x1="{{ tick.at }}" y1="{{ floor }}" x2="{{ tick.at }}" y2="{{ floor + 5 }}"/>
    <text class="tick middle{{ ' odd' if panel.x | length > 8 and loop.index0 % 2 }}" x="{{ tick.at }}" \
y="{{ floor + 23 }}">{{ tick.text }}</text>
{%- endfor %}
    <line class="axis" x1="{{ left }}" y1="{{ floor }}" x2="{{ right }}" y2="{{ floor }}"/>
    <text class="quiet" x="{{ right + 16 }}" y="{{ floor + 23 }}">{{ panel.x_name }}</text>
{%- for end in panel.ends %}
    <path class="leader {{ end.kind }}" d="M{{ end.at[0] + 6 }} {{ end.at[1] }}L{{ right + 10 }} {{ end.y }}"/>
{%- endfor %}
{%- for kind, path in panel.paths %}
    <path class="line {{ kind }}" d="{{ path }}"/>
{%- endfor %}
{%- for kind, points in panel.marks %}
{%- for x, y in points %}
    <circle class="mark {{ kind }}" cx="{{ x }}" cy="{{ y }}" r="3.5"/>
{%- endfor %}
{%- endfor %}
{%- for end in panel.ends %}
    <text class="label {{ end.kind }}" x="{{ right + 16 }}" y="{{ end.y + 5 }}">{{ end.name }}\
<tspan class="value" dx="6">{{ end.value }}</tspan></text>
{%- endfor %}
  </g>
{%- endfor %}
</svg>
"""


def picture(title: str, panels: Sequence[Panel]) -> str:
    """Return a picture of these panels, one below the other."""
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return template.from_string(_TEMPLATE).render(
        title=title,
        describes=" ".join(_described(panel) for panel in panels),
        panels=[_drawn(n, panel) for n, panel in enumerate(panels)],
        height=_PITCH * len(panels) - 12,
        left=_LEFT,
        right=_RIGHT,
        floor=_FLOOR,
    )


def _described(panel: Panel) -> str:
    lines = []
    for line in panel.lines:
        (x1, y1), (x2, y2) = line.points[0], line.points[-1]
        lines.append(f"{line.name}: {number(y1, panel.unit)} at {x1:g}, {number(y2, panel.unit)} at {x2:g}")
    return f"{panel.title}, {panel.says}; by {panel.x}. {'; '.join(lines)}."


def panel(curve: Mapping[str, Any], title: str, says: str, unit: str, looks: Mapping[str, tuple[str, str]]) -> Panel:
    """Make a panel of a measured curve.

    Args:
        curve: The data of the benchmark.
        title: The measured value, with its unit.
        says: The conditions of the measurement.
        unit: The unit to show. With ``/s`` the data are seconds.
        looks: The lines to draw: for a name in the data, the name to show and the kind of line.

    Raises:
        KeyError: The data lack one of these names.
    """
    lines = []
    for name, (shown, kind) in looks.items():
        points = [(x, 1 / y if unit == "/s" else y) for x, y, *_ in curve["lines"][name]]
        lines.append(Line(shown, kind, points))
    return Panel(title, says, curve["x"], unit, lines)
