"""The tool that causes faults: what it judges, and a short run of random faults on a real fleet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import servers

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import reliability  # noqa: E402
from reliability import Fault, Seen, judge, nothing  # noqa: E402


def result(*answers: tuple[float, float, str, bool | None, str], late: float = 0.0) -> dict:
    return {"answers": list(answers), "late": late}


def seen(*results: dict, stalls: list[tuple[float, float]] | None = None, bound: float = 1) -> Seen:
    quiet = [result((0, 0.001, "a", True, "store"), (20, 20.001, "a", True, "store"))] * (4 - len(results))
    return judge(Fault("some", nothing, nothing, bound), [*results, *quiet], (5.0, 10.0), 10.0, stalls or [])


def test_a_fleet_that_does_as_it_should_has_nothing_wrong():
    assert seen().wrong == []


def test_an_exception_is_wrong():
    (wrong,) = seen(result((6, 6.1, "a", None, "ValueError"), (20, 20.001, "a", True, "store"))).wrong
    assert wrong == "ValueError was raised 1 times"


def test_a_caller_that_waits_too_long_is_wrong_unless_the_machine_held_it_up():
    late = result((6, 6.2, "a", False, "fallback"), (20, 20.001, "a", True, "store"))
    (wrong,) = seen(late).wrong
    assert wrong == "a caller in tasks waited 100 ms beyond its deadline"
    assert seen(late, stalls=[(6.05, 6.19)]).wrong == []


def test_a_window_with_more_than_the_bound_is_wrong():
    many = [(6 + n / 1000, 6 + n / 1000, "a", True, "fallback") for n in range(reliability.LIMIT + 1)]
    (wrong,) = seen(result(*many, (20, 20.001, "a", True, "store"))).wrong
    assert "a window held 1.0" in wrong
    assert seen(result(*many, (20, 20.001, "a", True, "store")), bound=2).wrong == []


def test_an_instance_that_is_not_answered_by_the_store_again_is_wrong():
    (wrong,) = seen(result((6, 6.01, "a", True, "fallback"), (11, 11.01, "a", True, "fallback"))).wrong
    assert wrong == "recovered after None s"


def test_a_loop_that_was_held_up_is_wrong():
    busy = result((0, 0.001, "a", True, "store"), (20, 20.001, "a", True, "store"), late=0.3)
    assert seen(busy).wrong == ["an event loop was held up for 300 ms"]
    assert seen(busy, stalls=[(1.0, 1.29)]).wrong == []


@pytest.mark.slow
@pytest.mark.skipif(not servers.binaries(), reason=servers.HOW_TO_GET_ONE)
def test_a_fleet_under_random_faults_keeps_its_bounds(tmp_path: Path):
    """A short soak. How late callers are is judged where nothing else runs, by `make faults`."""
    out = tmp_path / "seen.json"
    command = [sys.executable, str(ROOT / "tools/reliability.py"), "--soak", "15", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    document = json.loads(out.read_text())
    ((fault,),) = [document["faults"]]
    print(done.stdout)  # with the seed
    assert fault["errors"] == {}
    assert fault["most"] <= 2
    assert fault["recovered"] is not None
    assert fault["calls"] > 1000
