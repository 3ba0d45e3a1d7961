"""Measuring: what a decision takes, and what is held in memory."""

import gc
import itertools
import tracemalloc
from collections.abc import Sequence
from typing import Any

from .clocks import true_perf_ns
from .subject import Subject


def pace(subject: Subject, keys: Sequence[str], times: int, rounds: int) -> list[float]:
    """Measure ``allow``: for each round the mean of so many calls, seconds."""
    turns = list(itertools.islice(itertools.cycle(keys), times))
    gc.collect()
    gc.disable()
    try:
        if subject.asynchronous:
            return [subject.run(_round_async(subject.limiter, turns)) for _ in range(rounds)]
        return [_round(subject.limiter, turns) for _ in range(rounds)]
    finally:
        gc.enable()


def _round(limiter: Any, turns: list[str]) -> float:
    began = true_perf_ns()
    for key in turns:
        limiter.allow(key)
    return (true_perf_ns() - began) / len(turns) / 1e9


async def _round_async(limiter: Any, turns: list[str]) -> float:
    began = true_perf_ns()
    for key in turns:
        await limiter.allow(key)
    return (true_perf_ns() - began) / len(turns) / 1e9


def trace_memory() -> None:
    """Count memory from now on."""
    tracemalloc.start()


def held() -> int:
    """Return the bytes that Python's objects hold, once what nobody refers to is gone."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
