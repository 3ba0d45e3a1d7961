"""What was measured: tables on the screen, the aims at the end, and with a file's name all of it as data."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rounds import Spread, span

VERSION = 1

PACKAGES = ("sluicegate", "redis", "hiredis", "limits", "pyrate-limiter", "throttled-py", "aiolimiter")


class Report:
    """Shows what is told, and keeps it."""

    def __init__(self) -> None:
        self.console = Console()
        self.data: dict[str, Any] = {
            "sluicegate-performance": VERSION,
            "ran": ran(),
            "aims": [],
            "tables": {},
            "curves": {},
        }
        self.console.print(said(self.data["ran"]))

    def table(
        self,
        title: str,
        floor: str,
        spreads: Mapping[str, Spread],
        exact: Mapping[str, bool | None] | None = None,
    ) -> None:
        """Show all spreads, each also as so many times the floor's."""
        table = Table("", "exact", "median (spread)", f"times {floor}", title=title, title_justify="left")
        rows = {}
        for name, spread in spreads.items():
            times, is_exact = spread.times(spreads[floor]), (exact or {}).get(name)
            table.add_row(name, {True: "yes", False: "no", None: ""}[is_exact], str(spread), f"{times:.2f}")
            rows[name] = {
                "exact": is_exact,
                "median": rounded(spread.median),
                "low": rounded(spread.low),
                "high": rounded(spread.high),
                "times": rounded(times),
            }
        self.console.print(table)
        self.data["tables"][title] = {"floor": floor, "rows": rows}

    def bytes(self, title: str, columns: tuple[str, ...], rows: Mapping[str, tuple[float | None, ...]]) -> None:
        """Show bytes."""
        table = Table("", *columns, title=title, title_justify="left")
        for name, cells in rows.items():
            table.add_row(name, *("" if cell is None else f"{cell:,.1f}" for cell in cells))
        self.console.print(table)
        kept = {name: [None if cell is None else rounded(cell) for cell in cells] for name, cells in rows.items()}
        self.data["tables"][title] = {"columns": columns, "rows": kept}

    def curve(
        self, title: str, x: str, y: str, lines: Mapping[str, Mapping[int, Spread | float]], on: str = ""
    ) -> None:
        """Show how something grows: ``y`` by ``x``, a line for each contender; ``on`` is the server, if any."""
        sizes = sorted({size for line in lines.values() for size in line})
        table = Table(x, *lines, title=f"{title}, {y}", title_justify="left")
        for size in sizes:
            table.add_row(f"{size:,}", *(_shown(line.get(size)) for line in lines.values()))
        self.console.print(table)
        kept = {name: [[size, *_point(line[size])] for size in sizes if size in line] for name, line in lines.items()}
        self.data["curves"][title] = {"x": x, "y": y, "on": on, "lines": kept}

    def aim(
        self,
        what: str,
        on: str,
        measured: float,
        *,
        most: float | None = None,
        least: float | None = None,
        to: str = "",
    ) -> None:
        """Keep what an aim came to.

        Args:
            what: What is compared.
            on: Where: a server and its version, or nothing.
            measured: How many times the other one, or how many of them.
            most: The aim, if it is not to be more.
            least: The aim, if it is not to be less.
            to: The other one, where that is what was found to be the fastest.
        """
        measured = rounded(measured)
        met = measured <= most if most is not None else measured >= (least or 0)
        self.data["aims"].append(
            {"what": what, "on": on, "most": most, "least": least, "measured": measured, "met": met, "to": to}
        )

    def close(self, path: Path | None, seconds: float) -> None:
        """Show the aims, and write the data to a file."""
        table = Table("aim", "", "measured", "", "met", title="Aims", title_justify="left")
        for aim in self.data["aims"]:
            bound = f"≤ {aim['most']:g}" if aim["most"] is not None else f"≥ {aim['least']:g}"
            where = " ".join(part for part in (aim["on"], aim["to"] and f"({aim['to']})") if part)
            met = "yes" if aim["met"] else "[bold red]no"
            table.add_row(aim["what"], bound, f"{aim['measured']:.3g}", where, met)
        self.console.print(table)
        self.data["ran"]["seconds"] = round(seconds)
        if path is not None:
            path.write_text(json.dumps(self.data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            self.console.print(f"written: {path}, after {seconds:.0f} s")


def ran() -> dict[str, Any]:
    """Say where and on what this runs."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_processor()}",
        "packages": {name: version(name) for name in PACKAGES},
    }


def said(where: dict[str, Any]) -> str:
    """Return what `ran` found, in a line."""
    packages = ", ".join(f"{name} {number}" for name, number in where["packages"].items())
    return f"Python {where['python']}, {where['machine']}; {packages}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f" ({line.partition(':')[2].strip()})"
    return ""


def rounded(number: float) -> float:
    """Return four digits of it: no measurement here has more."""
    return float(f"{number:.4g}")


def _point(value: Spread | float) -> list[float]:
    if isinstance(value, Spread):
        return [rounded(value.median), rounded(value.low), rounded(value.high)]
    return [rounded(value)]


def _shown(value: Spread | float | None) -> str:
    if value is None:
        return ""
    return span(value.median) if isinstance(value, Spread) else f"{value:,.0f}"
