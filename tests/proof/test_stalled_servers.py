"""Limiters on servers that stall: a correct one is never failed, and a wrong one still is."""

from __future__ import annotations

from pathlib import Path

import pytest

from proof import sluicegate_targets
from proof.stalling import stalls
from proof.targets import SEEDED, written
from sluicegate.proof import servers
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import choose, grade
from sluicegate.proof.target import Target, parse
from sluicegate.proof.verdict import CaseVerdict, Finding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not servers.binaries(), reason=servers.HOW_TO_GET_ONE),
]

CASES = [
    "correctness/limit/large",
    "correctness/rate/steady",
    "honesty/wait/not-too-long",
    "performance/memory/requests",
    "resilience/reply/lost",
]


def findings(target: Target, cases: list[str]) -> dict[str, Finding]:
    """Grade a limiter whose server is suspended for 0.6 s of every 1.2 s."""
    with stalls(seed=0, stopped=(0.6, 0.6), running=(0.6, 0.6)):
        report = grade(target, GradeSettings(), choose(cases))
    return {result.case.id: result.finding for result in report.results}


@pytest.mark.parametrize("name", ["redis_closed"])  # `tools/soak.py --stall` has more
def test_a_correct_limiter_is_not_failed_while_its_server_stalls(name: str):
    found = findings(parse(f"{sluicegate_targets.__file__}:{name}"), CASES)
    assert set(found) == set(CASES)
    assert {id_: finding.says for id_, finding in found.items() if finding.verdict is CaseVerdict.FAILED} == {}


def test_a_limiter_that_allows_too_much_fails_while_its_server_stalls(tmp_path: Path):
    target = written(
        tmp_path,
        f"""
        import sys
        sys.path.insert(0, {str(SEEDED)!r})
        from correct_redis import SlidingWindow
        class Limiter(SlidingWindow):
            def __init__(self, limit, window_seconds, redis_url):
                super().__init__(limit + 1, window_seconds, redis_url)
        """,
    )
    found = findings(target, ["correctness/limit/one"])
    assert found["correctness/limit/one"].verdict is CaseVerdict.FAILED, found
