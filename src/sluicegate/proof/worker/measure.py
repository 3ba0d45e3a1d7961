"""Measuring: what a decision takes, and what is held in memory."""

import gc
import itertools
import tracemalloc
from collections.abc import Sequence
from typing import Any

from .clocks import true_monotonic, true_perf_ns
from .subject import Subject

_Turns = Sequence[Sequence[str]]
"""Keys to ask for, in parts: after each of them it is looked at whether the time is up."""


def pace(subject: Subject, keys: Sequence[str], times: int, rounds: int, within: float) -> list[float]:
    """Measure ``allow``: for each round the mean of so many calls, seconds.

    Args:
        subject: Who is asked; once more than that, to see whether it is to be awaited.
        keys: Asked for in turn.
        times: Calls of a round.
        rounds: How many, at the most.
        within: Seconds after which the rounds end, and the calls of the first.
    """
    end_at = true_monotonic() + within
    asked = list(itertools.islice(itertools.cycle(keys), times))
    turns: _Turns = [[key] for key in asked]  # the first round finds out whether there is time for whole ones
    means: list[float] = []
    if not subject.asynchronous:
        subject.ask("allow", keys[0], 1, lambda _: None)
    gc.collect()
    gc.disable()
    try:
        while len(means) < rounds and (not means or true_monotonic() < end_at):
            if subject.asynchronous:
                means.append(subject.run(_round_async(subject.limiter, turns, end_at)))
            else:
                means.append(_round(subject.limiter, turns, end_at))
            turns = [asked]
    finally:
        gc.enable()
    return means


def _round(limiter: Any, turns: _Turns, end_at: float) -> float:
    took = calls = 0
    for keys in turns:
        began = true_perf_ns()
        for key in keys:
            limiter.allow(key)
        took += true_perf_ns() - began
        calls += len(keys)
        if true_monotonic() >= end_at:
            break
    return took / calls / 1e9


async def _round_async(limiter: Any, turns: _Turns, end_at: float) -> float:
    took = calls = 0
    for keys in turns:
        began = true_perf_ns()
        for key in keys:
            await limiter.allow(key)
        took += true_perf_ns() - began
        calls += len(keys)
        if true_monotonic() >= end_at:
            break
    return took / calls / 1e9


def trace_memory() -> None:
    """Count memory from now on."""
    tracemalloc.start()


def held() -> int:
    """Return the bytes that Python's objects hold, once what nobody refers to is gone."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
