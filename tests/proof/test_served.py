"""Services that the kit starts: their placeholders, their output, their end, and the cases that they get."""

from __future__ import annotations

import shlex
import sys

import pytest

from proof import targets
from proof.test_guard import wait_until_ended
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import CouldNotRun, choose, grade
from sluicegate.proof.served import DidNotStart, Served
from sluicegate.proof.target import Target, service
from sluicegate.proof.verdict import CaseVerdict

URL = "http://127.0.0.1:{port}/{key}"


def target(command: str) -> Target:
    return service(URL, serve=command)


def listening(first: str = "") -> str:
    """Return the command of a service that does no more than listen."""
    code = 'import socket; socket.create_server(("127.0.0.1", {port})).accept(); import time; time.sleep(600)'
    return f"{first} exec {sys.executable} -S -c {shlex.quote(code)}"


def test_the_command_gets_the_values_of_its_placeholders():
    command = "echo {limit}, {window}, {redis}, {port}, {instance}; exit 3"
    with pytest.raises(DidNotStart) as first:
        Served(target(command), 7, 0.25, "redis://host/0")
    with pytest.raises(DidNotStart) as second:
        Served(target(command), 7, 60.0, None)
    said, again = (refused.value.output.strip().split(", ") for refused in (first, second))
    assert said[:3] == ["7", "0.25", "redis://host/0"]
    assert again[:3] == ["7", "60", ""]
    assert said[4] != again[4]
    assert str(first.value) == (
        f"ended with exit code 3 before it listened on port {said[3]}, with a limit of 7 and a window of 0.25 s"
    )
    assert (first.value.whole, second.value.whole) == (False, True)


def test_a_service_is_ready_when_it_listens_and_ends_with_all_that_it_started():
    with Served(target(listening("sleep 600 & echo $!;")), 5, 1.0, None) as served:
        assert served.target.where["url"].startswith("http://127.0.0.1:")
        child = int(served.output)
    assert wait_until_ended([child]) == []
    assert served.output == ""


def test_a_service_that_does_not_start_cannot_be_graded_and_its_output_says_why():
    with pytest.raises(
        CouldNotRun, match=r"the service of --serve ended with exit code 1 [^\n]*\nIts output was:\noops"
    ):
        grade(target("echo oops {port}; exit 1"), GradeSettings(), choose(["correctness/limit/one"]))


@pytest.mark.slow
def test_a_service_with_a_limit_of_its_own_gets_the_cases_on_redis_that_do_not_choose_one():
    fixed = targets.served("http_redis.py", "{port} 5 1 {redis}")
    wanted = [
        "resilience/restart/recovers",
        "resilience/outage/killed",
        "resilience/ttl/set",
        "concurrency/processes/one-key",
    ]
    report = grade(fixed, GradeSettings(), choose([*wanted, "correctness/limit/one", "performance/time/limit"]))
    found = {result.case.id: result.finding for result in report.results}
    skipped = {id_: found.pop(id_).says for id_ in ("correctness/limit/one", "performance/time/limit")}
    assert {finding.verdict for finding in found.values()} == {CaseVerdict.PASSED}, found
    assert set(skipped.values()) == {
        "the kit cannot choose the service's limit and window: put {limit} and {window} in the command of --serve"
    }


@pytest.mark.slow
def test_a_service_without_a_store_is_one_instance_for_all_processes_of_a_case():
    in_memory = targets.served("http_correct.py", "{port} {limit} {window}")
    wanted = choose(["concurrency/processes/one-key", "correctness/limit/one", "correctness/limit/large"])
    verdicts = {result.case.id: result.finding.verdict for result in grade(in_memory, GradeSettings(), wanted).results}
    assert verdicts == {case.id: CaseVerdict.PASSED for case in wanted}


@pytest.mark.slow
def test_a_service_that_takes_no_fraction_of_a_second_is_not_failed_for_it():
    command = targets.served("http_correct.py", "{port} {limit} {window}").serve
    whole = service(
        "http://127.0.0.1:{port}/ping?user_id={key}", serve=f"case {{window}} in *.*) exit 1;; esac; {command}"
    )
    (result,) = grade(whole, GradeSettings(), choose(["correctness/window/fractional"])).results
    assert result.finding.verdict is CaseVerdict.SKIPPED
    assert "with a limit of" in result.finding.says
