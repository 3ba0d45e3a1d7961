"""The time of each of many calls: how many are made, what passes between them, and which time counts."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sluicegate.proof.worker.clocks import TargetClock
from sluicegate.proof.worker.measure import time_each

KINDS = pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])


def target(allow: Any, *, asynchronous: bool) -> Any:
    """Return a loaded target whose ``allow`` is that function."""

    async def allow_async(key: str) -> Any:
        return allow(key)

    limiter = SimpleNamespace(allow=allow_async if asynchronous else allow)
    return SimpleNamespace(asynchronous=asynchronous, limiter=limiter, run=asyncio.run)


@KINDS
def test_each_call_is_timed_and_a_manual_clock_is_advanced_between_two(*, asynchronous: bool):
    clock, calls = TargetClock(manual=True), []
    loaded = target(lambda key: calls.append((key, clock.now())), asynchronous=asynchronous)
    took = time_each(loaded, clock, ["a", "b"], 5, 100.5, within=60)
    assert len(took) == 5
    assert calls == [("a", 0.0), ("b", 100.5), ("a", 201.0), ("b", 301.5), ("a", 402.0)]


@KINDS
def test_a_target_that_is_too_slow_makes_fewer_calls_but_at_least_one(*, asynchronous: bool):
    calls: list[str] = []
    loaded = target(calls.append, asynchronous=asynchronous)
    assert len(time_each(loaded, TargetClock(manual=True), ["a"], 50, 0.0, within=0)) == len(calls) == 1


@KINDS
def test_processor_time_counts_and_neither_sleeps_nor_other_threads_do(*, asynchronous: bool):
    def spin() -> None:
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass

    def allow(key: str) -> None:
        if key == "sleeps":
            time.sleep(0.05)
        elif key == "elsewhere":
            thread = threading.Thread(target=spin)
            thread.start()
            thread.join()
        else:
            spin()

    loaded = target(allow, asynchronous=asynchronous)
    took = time_each(loaded, TargetClock(), ["sleeps", "elsewhere", "spins"], 3, 0.0, within=60)
    assert took[0] < 0.02
    assert took[1] < 0.02
    assert took[2] >= 0.02
