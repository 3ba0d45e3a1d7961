"""Measure the time of a decision, and the memory that Python's objects hold."""

import contextlib
import gc
import itertools
import tracemalloc
from collections.abc import Sequence
from typing import Any

from .clocks import true_monotonic, true_perf_ns
from .loaded_target import LoadedTarget

_Batches = Sequence[Sequence[str]]
"""The keys of one round, in parts; the deadline is checked after each part."""


def time_calls(target: LoadedTarget, keys: Sequence[str], times: int, rounds: int, within: float) -> list[float]:
    """Time ``allow``: return the mean seconds of a call in each round.

    Args:
        target: The target. It gets one more call than that, to find out whether its answer must be awaited.
        keys: The keys to call for, in turn.
        times: Calls in a round.
        rounds: The most rounds.
        within: Seconds after which no round begins; the first round ends early at that point.

    A round in which a call raises is left out, as a stalled store raises now and then; if all of them do, so does this.
    """
    end_at = true_monotonic() + within
    in_order = list(itertools.islice(itertools.cycle(keys), times))
    batches: _Batches = [[key] for key in in_order]  # the first round checks the deadline after each call
    means: list[float] = []
    error: Exception | None = None
    if not target.asynchronous:
        with contextlib.suppress(Exception):  # if it raises always, the rounds show it
            target.call("allow", keys[0], 1, lambda _: None)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            if (means or error) and true_monotonic() >= end_at:
                break
            try:
                if target.asynchronous:
                    means.append(target.run(_round_async(target.limiter, batches, end_at)))
                else:
                    means.append(_round(target.limiter, batches, end_at))
            except Exception as raised:  # noqa: BLE001 - the target's own, whatever it is
                error = raised
            else:
                batches = [in_order]
    finally:
        gc.enable()
    if error is not None and not means:
        raise error
    return means


def _round(limiter: Any, batches: _Batches, end_at: float) -> float:
    took = calls = 0
    for keys in batches:
        began = true_perf_ns()
        for key in keys:
            limiter.allow(key)
        took += true_perf_ns() - began
        calls += len(keys)
        if true_monotonic() >= end_at:
            break
    return took / calls / 1e9


async def _round_async(limiter: Any, batches: _Batches, end_at: float) -> float:
    took = calls = 0
    for keys in batches:
        began = true_perf_ns()
        for key in keys:
            await limiter.allow(key)
        took += true_perf_ns() - began
        calls += len(keys)
        if true_monotonic() >= end_at:
            break
    return took / calls / 1e9


def trace_memory() -> None:
    """Trace memory from now on."""
    tracemalloc.start()


def traced_bytes() -> int:
    """Return the bytes that Python's objects hold after a garbage collection."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
