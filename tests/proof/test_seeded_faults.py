"""The kit on limiters with a known fault: the case meant for it catches it, and correct limiters pass every case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from proof import targets
from proof.regrading import regraded, with_verdict
from proof.seeded.table import CORRECT, IN_EVERY_RUN, SEEDED_FAULTS, UNUSUAL, SeededFault
from sluicegate.proof.cases import cases
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import choose, grade
from sluicegate.proof.verdict import CaseVerdict, Finding

KNOWN = {case.id: case for case in cases()}


def grade_by_its_case(seeded: SeededFault) -> Finding:
    """Grade, again if need be: calls must overlap, or be answered quickly, and on a busy machine that is chance."""
    settings, case = GradeSettings(seeded.limit, seeded.window, patience=5), choose([seeded.caught_by], strict=True)
    with targets.seeded(seeded.target, seeded.limit, seeded.window) as target:
        for _ in range(3):
            (result,) = grade(target, settings, case).results
            if result.finding.verdict is CaseVerdict.FAILED:
                break
    return result.finding


def is_alone(seeded: SeededFault) -> bool:
    """Tell whether its case measures time or memory: for all others it is no matter what runs beside them."""
    return KNOWN[seeded.caught_by].alone and not seeded.caught_by.startswith("concurrency/")


@pytest.fixture(scope="session")
def side_by_side() -> Iterator[dict[str, Future[Finding]]]:
    """The findings of cases that may run side by side, as in a grading."""
    with ThreadPoolExecutor(5) as pool:
        yield {each.target: pool.submit(grade_by_its_case, each) for each in IN_EVERY_RUN if not is_alone(each)}
        pool.shutdown(cancel_futures=True)


# Cases that must run alone come last, when all others are done.
@pytest.mark.slow
@pytest.mark.parametrize("seeded", sorted(IN_EVERY_RUN, key=is_alone), ids=lambda seeded: seeded.target)
def test_a_seeded_fault_is_caught_by_the_case_meant_for_it(seeded: SeededFault, side_by_side):
    finding = grade_by_its_case(seeded) if is_alone(seeded) else side_by_side[seeded.target].result()
    assert finding.verdict is CaseVerdict.FAILED, finding.says
    assert finding.says


def grade_by_cases(name: str, beginnings: Sequence[str]) -> dict[str, Finding]:
    with targets.seeded(name, 5, 1.0) as target:
        again = partial(grade, target, GradeSettings())
        return regraded(again(choose(beginnings, strict=True)), again)


@pytest.fixture(scope="session")
def findings() -> Iterator[dict[str, Future[dict[str, Finding]]]]:
    """The findings on the correct limiters, three at a time: they must pass on a loaded machine, too.

    Of all cases; on those of unusual design, of the cases that might accuse them.
    """
    every_case: tuple[str, ...] = ()
    with ThreadPoolExecutor(3) as pool:
        wanted = dict.fromkeys(CORRECT, every_case) | UNUSUAL
        yield {name: pool.submit(grade_by_cases, name, beginnings) for name, beginnings in wanted.items()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_limiter_passes_every_case(name: str, findings: dict[str, Future[dict[str, Finding]]]):
    found = findings[name].result()
    # A recommendation, which a wait that sleeps and tries again does not keep.
    assert with_verdict(CaseVerdict.FAILED, found).keys() <= {"concurrency/wait/order"}
    assert with_verdict(CaseVerdict.UNDECIDED, found).keys() <= {"concurrency/wait/order"}
    assert len(with_verdict(CaseVerdict.PASSED, found)) > 12


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL)
def test_a_correct_limiter_of_unusual_design_is_not_accused(name: str, findings: dict[str, Future[dict[str, Finding]]]):
    found = findings[name].result()
    assert not with_verdict(CaseVerdict.FAILED, found)
    assert with_verdict(CaseVerdict.PASSED, found)
    # What does not depend on the machine must be able to pass.
    assert "concurrency/lease/ends" not in with_verdict(CaseVerdict.UNDECIDED, found)


def test_nearly_every_case_has_a_seeded_fault():
    without = {case.id for case in cases()} - {seeded.caught_by for seeded in SEEDED_FAULTS}
    # Other cases catch the faults that these would catch; those on a manual clock do so before their real-time twins.
    assert without <= {
        "correctness/window/random",
        "correctness/rate/steady",
        "concurrency/processes/fleet",
        "resilience/clock/server-forward",
        "resilience/clock/server-glitch",
    }


def test_every_seeded_fault_names_an_existing_case_and_is_strict_if_the_case_is_a_recommendation():
    for seeded in SEEDED_FAULTS:
        assert KNOWN[seeded.caught_by].should == seeded.strict, seeded.target
        assert (Path(targets.SEEDED) / seeded.target.partition(":")[0]).is_file()
