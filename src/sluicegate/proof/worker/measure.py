"""Measure the time of a decision, the processor time of each of many, and the memory that Python's objects hold."""

import asyncio
import contextlib
import gc
import itertools
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

from .clocks import TargetClock, true_monotonic, true_perf_ns, true_thread_ns
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
            target.call("allow", keys[0], 1, None, lambda _: None)
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


def time_each(
    target: LoadedTarget, clock: TargetClock, keys: Sequence[str], times: int, pause: float, within: float
) -> list[float]:
    """Return the processor seconds that each of ``times`` calls of ``allow`` took in this thread.

    Unlike the time on a clock, these do not grow when the machine has other work to do.

    Args:
        target: The target.
        clock: The clock that pauses between the calls: a manual one is advanced.
        keys: The keys to call for, in turn.
        times: The most calls.
        pause: Seconds between two calls.
        within: Seconds after which no call is made, but at least one is.
    """
    end_at = true_monotonic() + within
    in_order = itertools.islice(itertools.cycle(keys), times)
    took: list[float] = []
    if times > 1:  # a single call is one of many measured so, and a collection takes longer than all of them
        gc.collect()
    gc.disable()
    try:
        if target.asynchronous:
            target.run(_each_async(target.limiter, clock, in_order, pause, end_at, took))
        else:
            for key in in_order:
                began = true_thread_ns()
                target.limiter.allow(key)
                took.append((true_thread_ns() - began) / 1e9)
                if true_monotonic() >= end_at:
                    break
                clock.pause(pause)
    finally:
        gc.enable()
    return took


async def _each_async(
    limiter: Any, clock: TargetClock, keys: Iterator[str], pause: float, end_at: float, took: list[float]
) -> None:
    for key in keys:
        began = true_thread_ns()
        await limiter.allow(key)
        took.append((true_thread_ns() - began) / 1e9)
        if true_monotonic() >= end_at:
            break
        if clock.manual:
            clock.advance(pause)
        else:
            await asyncio.sleep(pause)


def trace_memory() -> None:
    """Trace memory from now on."""
    tracemalloc.start()


def traced_bytes() -> int:
    """Return the bytes that Python's objects hold after a garbage collection."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
