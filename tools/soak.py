"""The kit, tried for hours: does it ever accuse a correct limiter, and does a planted fault show only where it should?

    make soak                                          both, 100 runs of each correct limiter
    .venv/bin/python tools/soak.py --runs 20 --busy    fewer runs, with a core kept busy
    .venv/bin/python tools/soak.py --only correct_memory

Exit code 1 if a correct limiter failed a case, or a planted one another case than its own and those its fault explains.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from proof import targets  # noqa: E402
from proof.planted.table import CORRECT, PLANTED, Planted  # noqa: E402
from sluicegate.proof.grading import CouldNotRun, choose, grade  # noqa: E402
from sluicegate.proof.report import Report  # noqa: E402
from sluicegate.proof.rig import Settings  # noqa: E402
from sluicegate.proof.verdict import Verdict  # noqa: E402

console = Console()


@click.command()
@click.option("--runs", default=100, show_default=True, help="Of each correct limiter.")
@click.option("--busy", is_flag=True, help="Keep one core busy meanwhile.")
@click.option("--planted/--no-planted", default=True, help="Grade the planted faults as well, each with every case.")
@click.option("--only", default="", help="Only targets whose name holds this.")
def main(runs: int, busy: bool, planted: bool, only: str) -> None:
    correct = [name for name in CORRECT if only in name]
    faults = [each for each in PLANTED if planted and only in each.target]
    accused = 0
    with load(busy), Progress(console=console) as progress:
        task = progress.add_task("grading", total=runs * len(correct) + len(faults))
        for fault in faults:
            progress.update(task, description=fault.target)
            accused += unexpected(fault)
            progress.advance(task)
        for name in correct:
            counts: Counter[Verdict] = Counter()
            for _ in range(runs):
                progress.update(task, description=name)
                report = graded(name, 5, 1.0)
                accused += told(name, report, {Verdict.FAILED, Verdict.UNDECIDED})
                counts += report.counts
                progress.advance(task)
            console.print(f"{name}: {runs} runs, {dict(counts)}")
    console.print(f"accused without cause: {accused}")
    sys.exit(accused > 0)


def graded(name: str, limit: int, window: float) -> Report:
    with targets.planted(name, limit, window) as target:
        return grade(target, Settings(limit, window, patience=5), choose(strict=True))


def unexpected(fault: Planted) -> int:
    """Count the cases that failed and that the fault does not explain; and one if its own case did not fail."""
    try:
        report = graded(fault.target, fault.limit, fault.window)
    except CouldNotRun as why:
        console.print(f"{fault.target}: {why}")
        return 1
    expected = (fault.caught_by, *fault.also)
    found = [r for r in report.results if r.finding.verdict is Verdict.FAILED]
    wrong = [r for r in found if not any(r.case.id == name or r.case.id.startswith(f"{name}/") for name in expected)]
    for result in wrong:
        console.print(f"{fault.target}: {result.case.id} failed, too: {result.finding.says}", markup=False)
    missed = not any(result.case.id == fault.caught_by for result in found)
    if missed:
        console.print(f"{fault.target}: not caught by {fault.caught_by}", markup=False)
    return len(wrong) + missed


def told(name: str, report: Report, verdicts: set[Verdict]) -> int:
    for result in report.results:
        if result.finding.verdict in verdicts:
            line = f"{name}: {result.case.id} {result.finding.verdict} after {result.runs}: {result.finding.says}"
            console.print(line, markup=False)
    return report.counts[Verdict.FAILED]


@contextmanager
def load(busy: bool) -> Iterator[None]:
    if not busy:
        yield
        return
    burner = multiprocessing.Process(target=burn, daemon=True)
    burner.start()
    try:
        yield
    finally:
        burner.kill()


def burn() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
