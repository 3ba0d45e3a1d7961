"""Test the kit for hours: correct limiters must never fail, and a seeded fault must only fail the cases it explains.

    make soak                                                 both, 100 runs of each correct limiter
    .venv/bin/python tools/soak.py --runs 20 --busy           fewer runs, with a core kept busy
    .venv/bin/python tools/soak.py --only correct_memory
    .venv/bin/python tools/soak.py --stall --busy 2 --runs 20 --only sluicegate_targets.py:redis

With ``--stall`` every server is suspended again and again for a random time, so that undecided cases are to be expected
and count for nothing; only correct limiters are graded, as a stall may hide a fault.

Exit code 1 if a correct limiter failed a case, if a seeded fault failed a case it does not explain, or was not caught.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import click
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from proof import sluicegate_targets, targets  # noqa: E402
from proof.seeded.table import CORRECT, CORRECT_AS_WELL, SEEDED_FAULTS, UNUSUAL, SeededFault  # noqa: E402
from proof.stalling import stalls  # noqa: E402
from sluicegate.proof.case import Case  # noqa: E402
from sluicegate.proof.environment import GradeSettings  # noqa: E402
from sluicegate.proof.grading import CouldNotRun, choose, grade  # noqa: E402
from sluicegate.proof.report import Report  # noqa: E402
from sluicegate.proof.verdict import CaseVerdict  # noqa: E402

console = Console()

OWN, OWN_STALLED = (
    [f"../{Path(sluicegate_targets.__file__).name}:{name}" for name in names]
    for names in (("memory", "redis", "redis_async"), ("redis_closed", "redis_async_closed"))
)


@click.command()
@click.option("--runs", default=100, show_default=True, help="Runs of each correct limiter.")
@click.option("--busy", is_flag=False, flag_value=1, default=0, help="Keep so many cores busy meanwhile; 1 by default.")
@click.option("--stall", is_flag=True, help="Suspend the servers at random meanwhile.")
@click.option("--seed", default=None, type=int, help="The seed of the stalls; printed, and random by default.")
@click.option("--seeded/--no-seeded", default=True, help="Grade the seeded faults as well, each with every case.")
@click.option("--only", default="", help="Only targets whose name contains this.")
@click.option("--case", "cases", multiple=True, metavar="ID", help="Only this case, or this section. May be repeated.")
def main(
    *, runs: int, busy: int, stall: bool, seed: int | None, seeded: bool, only: str, cases: tuple[str, ...]
) -> None:
    own = OWN_STALLED if stall else OWN
    correct = [name for name in [*CORRECT, *CORRECT_AS_WELL, *UNUSUAL, *own] if only in name]
    faults = [each for each in SEEDED_FAULTS if seeded and not stall and only in each.target]
    shown = {CaseVerdict.FAILED} if stall else {CaseVerdict.FAILED, CaseVerdict.UNDECIDED}
    wrong = 0
    with ExitStack() as stack:
        stack.enter_context(load(busy))
        if stall:
            seed = Random().randrange(1 << 32) if seed is None else seed
            console.print(f"stalls of seed {seed}")
            stack.enter_context(stalls(seed))
        progress = stack.enter_context(Progress(console=console))
        task = progress.add_task("grading", total=runs * len(correct) + len(faults))
        for fault in faults:
            progress.update(task, description=fault.target)
            wrong += unexplained(fault)
            progress.advance(task)
        for name in correct:
            counts: Counter[CaseVerdict] = Counter()
            for _ in range(runs):
                progress.update(task, description=name)
                report = graded(name, 5, 1.0, choose(cases, strict=True))
                wrong += print_findings(name, report, shown)
                counts += report.counts
                progress.advance(task)
            console.print(f"{name}: {runs} runs, {dict(counts)}")
    console.print(f"wrong verdicts: {wrong}")
    sys.exit(wrong > 0)


def graded(name: str, limit: int, window: float, wanted: list[Case]) -> Report:
    with targets.seeded(name, limit, window) as target:
        return grade(target, GradeSettings(limit, window, patience=5), wanted)


def unexplained(fault: SeededFault) -> int:
    """Return how many cases failed that the fault does not explain, plus one if its own case did not fail."""
    try:
        report = graded(fault.target, fault.limit, fault.window, choose(strict=True))
    except CouldNotRun as why:
        console.print(f"{fault.target}: {why}")
        return 1
    expected = (fault.caught_by, *fault.also)
    found = [r for r in report.results if r.finding.verdict is CaseVerdict.FAILED]
    wrong = [r for r in found if not any(r.case.id == name or r.case.id.startswith(f"{name}/") for name in expected)]
    for result in wrong:
        console.print(f"{fault.target}: {result.case.id} failed as well: {result.finding.says}", markup=False)
    missed = not any(result.case.id == fault.caught_by for result in found)
    if missed:
        console.print(f"{fault.target}: not caught by {fault.caught_by}", markup=False)
    return len(wrong) + missed


def print_findings(name: str, report: Report, verdicts: set[CaseVerdict]) -> int:
    """Print the findings with one of these verdicts; return the number of failed cases."""
    for result in report.results:
        if result.finding.verdict in verdicts:
            line = f"{name}: {result.case.id} {result.finding.verdict} after {result.runs}: {result.finding.says}"
            console.print(line, markup=False)
    return report.counts[CaseVerdict.FAILED]


@contextmanager
def load(busy: int) -> Iterator[None]:
    """Keep so many cores busy."""
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(busy)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()


def burn() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
