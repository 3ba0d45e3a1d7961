"""The kit on limiters whose fault is known: each is caught by the case meant for it, and a correct one by none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from proof import targets
from proof.planted.table import CORRECT, PLANTED, Planted
from proof.settling import having, settled
from sluicegate.proof.cases import cases
from sluicegate.proof.grading import choose, grade
from sluicegate.proof.rig import Settings
from sluicegate.proof.verdict import Finding, Verdict

KNOWN = {case.id: case for case in cases()}


def grade_by_its_case(planted: Planted) -> Finding:
    """Grade it once; or up to three times if calls have to meet, which is a matter of chance on a busy machine."""
    settings, case = Settings(planted.limit, planted.window, patience=5), choose([planted.caught_by], strict=True)
    with targets.planted(planted.target, planted.limit, planted.window) as target:
        for _ in range(3 if planted.caught_by.startswith("concurrency/") else 1):
            (result,) = grade(target, settings, case).results
            if result.finding.verdict is Verdict.FAILED:
                break
    return result.finding


def is_alone(planted: Planted) -> bool:
    return KNOWN[planted.caught_by].alone


@pytest.fixture(scope="session")
def side_by_side() -> Iterator[dict[str, Future[Finding]]]:
    """What cases find that may run side by side, as in a grading."""
    with ThreadPoolExecutor(4) as pool:
        yield {each.target: pool.submit(grade_by_its_case, each) for each in PLANTED if not is_alone(each)}
        pool.shutdown(cancel_futures=True)


# Those that are to run alone come last: by then all others are done.
@pytest.mark.slow
@pytest.mark.parametrize("planted", sorted(PLANTED, key=is_alone), ids=lambda planted: planted.target)
def test_a_planted_fault_is_caught_by_the_case_meant_for_it(planted: Planted, side_by_side):
    finding = grade_by_its_case(planted) if is_alone(planted) else side_by_side[planted.target].result()
    assert finding.verdict is Verdict.FAILED, finding.says
    assert finding.says


def grade_by_every_case(name: str) -> dict[str, Finding]:
    with targets.planted(name, 5, 1.0) as target:
        again = partial(grade, target, Settings())
        return settled(again(choose(strict=True)), again)


@pytest.fixture(scope="session")
def findings() -> Iterator[dict[str, Future[dict[str, Finding]]]]:
    """What all cases find of the correct limiters, three at a time: a loaded machine is to be no excuse."""
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(grade_by_every_case, name) for name in CORRECT}
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_limiter_passes_every_case(name: str, findings: dict[str, Future[dict[str, Finding]]]):
    found = findings[name].result()
    assert not having(Verdict.FAILED, found)
    assert not having(Verdict.UNDECIDED, found)
    assert len(having(Verdict.PASSED, found)) > 12


def test_there_is_a_planted_fault_for_nearly_every_case():
    without = {case.id for case in cases()} - {planted.caught_by for planted in PLANTED}
    # The first two are caught with their neighbours; what a real-time twin of a moved clock sees, the twin does first.
    assert without <= {
        "correctness/window/random",
        "correctness/window/model",
        "correctness/rate/steady",
        "concurrency/processes/fleet",
        "resilience/clock/server-forward",
        "resilience/clock/server-glitch",
        "honesty/wait/not-too-long",
    }


def test_every_planted_fault_is_a_case_that_exists_and_is_marked_as_it_is():
    for planted in PLANTED:
        assert KNOWN[planted.caught_by].should == planted.strict, planted.target
        assert (Path(targets.PLANTED) / planted.target.partition(":")[0]).is_file()
