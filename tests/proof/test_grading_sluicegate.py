"""Sluicegate graded by its own kit: every case passes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import servers
from proof import sluicegate_targets
from proof.regrading import regraded, with_verdict
from sluicegate.proof.case import Case
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import choose, grade
from sluicegate.proof.target import Target, parse, service
from sluicegate.proof.verdict import CaseVerdict, Finding

ROOT = Path(__file__).parents[2]
KINDS = [kind for kind in servers.kinds() if kind != "given"] or ["none"]

pytestmark = pytest.mark.slow


Findings = dict[str, Finding]


def found(target: Target, settings: GradeSettings, chosen: Sequence[Case]) -> Findings:
    again = partial(grade, target, settings)
    return regraded(again(chosen), again)


def failed(findings: Findings) -> set[str]:
    assert not with_verdict(CaseVerdict.UNDECIDED, findings)
    return set(with_verdict(CaseVerdict.FAILED, findings))


# One for threads and one for tasks; `make soak` has the others.
MADE = {"memory": None, "redis_async": KINDS[-1]}
BRIEF = ["app/limiter_memory.py:MemorySlidingWindow", "app/limiter_redis.py:RedisSlidingWindow"]


@pytest.fixture(scope="session")
def gradings() -> Iterator[dict[str, Future[Findings]]]:
    """All gradings of the library, three at a time, as they mostly wait."""
    with ThreadPoolExecutor(3) as pool:
        every, correctness = (
            choose(strict=True),
            choose(["correctness/limit", "correctness/edge", "correctness/window"]),
        )
        yield {
            name: pool.submit(found, parse(f"{sluicegate_targets.__file__}:{name}"), GradeSettings(server=kind), every)
            for name, kind in MADE.items()
            if kind != "none"
        } | {name: pool.submit(found, parse(f"{ROOT / name}"), GradeSettings(), correctness) for name in BRIEF}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", ["memory"])
def test_in_memory_every_case_passes(name: str, gradings: dict[str, Future[Findings]]):
    findings = gradings[name].result()
    assert failed(findings) == set()
    assert len(with_verdict(CaseVerdict.PASSED, findings)) >= 34


@pytest.mark.parametrize("name", ["redis_async"])
def test_on_redis_every_case_passes(name: str, gradings: dict[str, Future[Findings]]):
    if MADE[name] == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    findings = gradings[name].result()
    assert failed(findings) == set()
    assert {"resilience/outage/killed", "resilience/outage/paused"} <= set(findings)
    assert len(with_verdict(CaseVerdict.PASSED, findings)) >= 46


@pytest.mark.parametrize("target", BRIEF)
def test_the_files_of_the_brief_pass_as_they_stand(target: str, gradings: dict[str, Future[Findings]]):
    if "redis" in target and KINDS == ["none"]:
        pytest.skip(servers.HOW_TO_GET_ONE)
    findings = gradings[target].result()
    assert failed(findings) == set()
    assert len(with_verdict(CaseVerdict.PASSED, findings)) >= 10


@pytest.mark.parametrize("kind", KINDS[:1])
def test_the_service_passes_every_case_over_http(kind: str):
    if kind == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    port = servers.free_port()
    with servers.running(kind) as server:
        settings = {"RATE_LIMIT_BACKEND": "redis", "REDIS_URL": server.url}
        settings |= {"RATE_LIMIT_REQUESTS": "5", "RATE_LIMIT_WINDOW_SECONDS": "1"}
        # Every answer is judged as the store's, so none may be given without it because the machine is busy.
        settings |= {"RATE_LIMIT_ON_OUTAGE": "raise", "RATE_LIMIT_DEADLINE_SECONDS": "30"}
        command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--no-access-log"]
        with subprocess.Popen(command, env={**os.environ, **settings}, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(f"http://127.0.0.1:{port}/readyz")
                target = service(f"http://127.0.0.1:{port}/ping?user_id={{key}}")
                findings = found(target, GradeSettings(5, 1.0), choose(strict=True))
            finally:
                process.terminate()
    assert failed(findings) == set()
    assert len(with_verdict(CaseVerdict.PASSED, findings)) >= 15


def wait_for(url: str) -> None:
    end_at = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < end_at, f"{url} does not answer"
            time.sleep(0.05)
