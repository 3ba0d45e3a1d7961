"""Time several things in turn, round after round in one process, so that a machine that drifts drifts for all."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice

from rich.console import Console
from rich.progress import track

ROUNDS = 15

Run = Callable[[], float]
"""Does something many times, and returns seconds for one of them."""


@dataclass(frozen=True)
class Spread:
    """Seconds for one operation, over the rounds."""

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        return cls(statistics.median(rounds), min(rounds), max(rounds), tuple(rounds))

    def times(self, other: Spread) -> float:
        """Return how many times the other this is: the median of the ratios in each round, which no drift reaches."""
        return statistics.median(mine / its for mine, its in zip(self.rounds, other.rounds, strict=True))

    def __str__(self) -> str:
        return f"{span(self.median)} ({span(self.low)} to {span(self.high)})"


def span(seconds: float) -> str:
    """Return so many seconds in the unit that suits them, with two digits or three."""
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            number = seconds / size
            return f"{number:.0f} {unit}" if number >= 9.95 or unit == "ns" else f"{number:.1f} {unit}"
    return f"{seconds:.1f} s"


def measured(title: str, contenders: Mapping[str, Run], rounds: int = ROUNDS) -> dict[str, Spread]:
    """Run every contender once a round, after a turn each that is not counted."""
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    with _no_old_garbage():
        for turn in counted_rounds(title, rounds):
            gc.collect()
            for name, run in contenders.items():
                seconds = run()
                _wait_for_timers()
                if turn:
                    seen[name].append(seconds)
    return {name: Spread.of(all_) for name, all_ in seen.items()}


def counted_rounds(title: str, rounds: int) -> Iterable[int]:
    """Count a round that is not to be counted, 0, and so many more, with a bar on stderr."""
    return track(range(rounds + 1), title, console=Console(stderr=True), transient=True)


@contextmanager
def _no_old_garbage() -> Iterator[None]:
    """Let the collector pass over what is there already: one contender's objects are not another's time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _wait_for_timers() -> None:
    # `limits` looks for what has expired in a thread of its own, 10 ms after a call: in the next one's turn.
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)


def sized(make: Callable[[int], Run], seconds: float, least: int = 1, most: int = 1_000_000) -> Run:
    """Return the run of so many operations that it lasts about so long, ``least`` of them and ``most`` of them.

    What starts a thread, as `limits` does in memory, needs some of them in a run: the thread is no one call's.
    """
    times = least
    while True:
        each = make(times)()
        if each * times >= seconds / 3 or times >= most:
            break
        times = min(4 * times, most)
    _wait_for_timers()
    return make(int(min(max(seconds / each, least), most)))


def over(call: Callable[[str], object], keys: Sequence[str], times: int) -> Run:
    """Time ``call(key)`` over the keys in turn, each run going on where the last one stopped.

    The loop's own cost is in it, for all contenders alike.
    """
    turn = cycle(keys)

    def run() -> float:
        some = list(islice(turn, times))
        began = time.perf_counter()
        for key in some:
            call(key)
        return (time.perf_counter() - began) / times

    return run


def loop(call: Callable[[str], object], key: str, times: int) -> Run:
    """Time ``call(key)`` by repeating it."""
    return over(call, [key], times)


def afresh(call: Callable[[str], object], times: int) -> Run:
    """Time ``call(key)`` on one key, another one in each run: a log begins empty, however often it is run."""
    names = count()

    def run() -> float:
        return loop(call, f"fresh-{next(names)}", times)()

    return run


Awaited = Callable[[str], Awaitable[object]]


def over_awaited(runner: asyncio.Runner, call: Awaited, keys: Sequence[str], times: int) -> Run:
    """Do as `over` does, in one task."""
    return by_tasks(runner, call, keys, 1, times)


def afresh_awaited(runner: asyncio.Runner, call: Awaited, times: int) -> Run:
    """Do as `afresh` does, in one task."""
    names = count()

    def run() -> float:
        return over_awaited(runner, call, [f"fresh-{next(names)}"], times)()

    return run


def by_tasks(runner: asyncio.Runner, call: Awaited, keys: Sequence[str], tasks: int, times: int) -> Run:
    """Time one decision of many tasks that go on at once. With as many keys as tasks, each has a key of its own."""
    turn = cycle(keys)

    async def one(mine: Sequence[str]) -> None:
        for key in mine:
            await call(key)

    async def all_() -> float:
        some = list(islice(turn, max(times // tasks, 1) * tasks))
        began = time.perf_counter()
        if tasks == 1:
            await one(some)
        else:
            await asyncio.gather(*(one(some[n::tasks]) for n in range(tasks)))
        return (time.perf_counter() - began) / len(some)

    return lambda: runner.run(all_())


def by_threads(call: Callable[[str], object], keys: Sequence[str], threads: int, times: int) -> Run:
    """Time one decision of many threads that go on at once."""
    each = max(times // threads, 1)

    def one(key: str) -> None:
        for _ in range(each):
            call(key)

    def run() -> float:
        with ThreadPoolExecutor(threads) as pool:
            began = time.perf_counter()
            list(pool.map(one, islice(cycle(keys), threads)))
            return (time.perf_counter() - began) / (each * threads)

    return run
