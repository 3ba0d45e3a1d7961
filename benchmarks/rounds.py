"""Time several things in turn, round after round in one process, so that a machine that drifts drifts for all."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROUNDS = 15


@dataclass(frozen=True)
class Spread:
    """Seconds for one operation, over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_span(self.median)} ({_span(self.low)} to {_span(self.high)})"


def measured(title: str, contenders: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, Spread]:
    """Run every contender once a round. Each returns seconds for one operation."""
    for run in contenders.values():
        run()
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in track(range(rounds), title, console=Console(stderr=True), transient=True):
        for name, run in contenders.items():
            seen[name].append(run())
    return {name: Spread(statistics.median(all_), min(all_), max(all_)) for name, all_ in seen.items()}


def loop(call: Callable[[str], object], key: str, times: int) -> Callable[[], float]:
    """Time ``call(key)`` by repeating it; the loop's own cost is in it, for all contenders alike."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(times):
            call(key)
        return (time.perf_counter() - began) / times

    return run


class Report:
    """Tables on the screen, and with ``--json FILE`` the same as data."""

    def __init__(self) -> None:
        self._console = Console()
        self._data: dict[str, object] = {"machine": _machine(), "tables": {}}
        self._console.print(_machine())

    def table(self, title: str, floor: str, spreads: Mapping[str, Spread]) -> None:
        """Show all spreads, each also as so many times the floor's median."""
        table = Table("", "median (spread)", f"times {floor}", title=title, title_justify="left")
        for name, spread in spreads.items():
            table.add_row(name, str(spread), f"{spread.median / spreads[floor].median:.2f}")
        self._console.print(table)
        self._data["tables"][title] = {name: asdict(spread) for name, spread in spreads.items()}  # type: ignore[index]

    def close(self) -> None:
        if "--json" in sys.argv:
            target = Path(sys.argv[sys.argv.index("--json") + 1])
            target.write_text(json.dumps(self._data, indent=2))


def _machine() -> str:
    names = ("headgate", "limits", "pyrate-limiter", "redis")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {platform.machine()} {platform.system()}; {packages}"


def _span(seconds: float) -> str:
    return f"{seconds * 1e9:.0f} ns" if seconds < 1e-5 else f"{seconds * 1e6:.1f} µs"
