"""All figures: what a decision costs beside floors and peers, what an entry weighs, and how both grow.

    make bench                                                the tables, and the aims at the end
    .venv/bin/python benchmarks/bench.py --json FILE          the same as data, too
    .venv/bin/python benchmarks/bench.py --quick              few rounds and sizes, to see that it works
    .venv/bin/python benchmarks/bench.py --only NAME          one benchmark (may be repeated)

It takes about ten minutes, and wants the machine to itself. All that is compared runs in turn in this one process,
round after round: what counts is the ratio. `docs/performance.md` is written from the data by `tools/performance.py`.
`web` and `web_in_process` take longer, and run only when named: their contenders are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from types import ModuleType

import flood
import footprint
import growth
import in_memory
import latency
import one_at_a_time
import policies
import server_time
import storm
import tasks
import waits
import web_in_process
import where_it_goes
from report import Report
from trial import Trial

import web
from sluicegate.proof import servers
from sluicegate.proof.servers import Server

IN_PROCESS: tuple[ModuleType, ...] = (in_memory, footprint)
ON_A_SERVER: tuple[ModuleType, ...] = (tasks, one_at_a_time, flood, server_time, waits, storm, latency, where_it_goes)
LAST: tuple[ModuleType, ...] = (policies, growth)
WHEN_NAMED: tuple[ModuleType, ...] = (web, web_in_process)


def main() -> None:
    given = _arguments()
    began = time.monotonic()
    report = Report()
    report.data["ran"]["quick"] = given.quick
    with asyncio.Runner() as runner:
        trial = Trial(report, runner, quick=given.quick)
        steps = [(module, kind) for module, kind in _steps() if _is_wanted(module, given.only)]
        for number, (module, kind) in enumerate(steps, 1):
            trial.step = f"{number}/{len(steps)}"
            if kind is None:
                module.run(trial)
            else:
                with servers.running(kind) as server:
                    _told(report, server)
                    module.run(trial, server)
    report.close(given.json, time.monotonic() - began)


def _steps() -> list[tuple[ModuleType, str | None]]:
    kinds = list(servers.binaries())
    return [
        *((module, None) for module in IN_PROCESS),
        *((module, kind) for module in ON_A_SERVER for kind in kinds),
        *((module, None) for module in (*LAST, *WHEN_NAMED)),
    ]


def _is_wanted(module: ModuleType, only: list[str] | None) -> bool:
    return module.__name__ in only if only else module not in WHEN_NAMED


def _told(report: Report, server: Server) -> None:
    known = report.data["ran"].setdefault("servers", [])
    if server.version not in known:
        known.append(server.version)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure time and memory beside floors and peers.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to this file")
    parser.add_argument("--quick", action="store_true", help="few rounds and sizes, to see that it works")
    names = sorted({module.__name__ for module, _ in _steps()})
    parser.add_argument("--only", action="append", choices=names, help="one benchmark; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
