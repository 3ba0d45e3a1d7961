"""One run of the benchmarks: how long each turn may last, how a contender is asked, and where the figures go."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from contenders.contender import Contender
from report import Report
from rounds import (
    ROUNDS,
    Awaited,
    Run,
    Spread,
    afresh,
    afresh_awaited,
    by_tasks,
    counted_rounds,
    measured,
    over,
    over_awaited,
    sized,
)

from sluicegate.proof import servers

_Value = TypeVar("_Value")


class Trial:
    """What every benchmark is given.

    Attributes:
        report: Where to.
        runner: The one event loop of all tasks, so that they can run in turn with what has none.
        quick: Whether this only tries it out.
        first: The first kind of server, on which what takes long is measured alone.
    """

    def __init__(self, report: Report, runner: asyncio.Runner, *, quick: bool) -> None:
        self.report, self.runner, self.quick = report, runner, quick
        self.first = next(iter(servers.binaries()))
        self.step = ""

    def measured(self, title: str, runs: Mapping[str, Run], rounds: int = ROUNDS) -> dict[str, Spread]:
        """Run all in turn; see `rounds.measured`."""
        return measured(f"{self.step} {title}", runs, min(rounds, 3) if self.quick else rounds)

    def rounds(self, title: str, rounds: int) -> Iterable[int]:
        """Count rounds, with progress, for what is not timed by `measured`; 0 is a turn that is not to be counted."""
        return counted_rounds(f"{self.step} {title}", min(rounds, 2) if self.quick else rounds)

    def seconds(self, full: float) -> float:
        """Return how long one contender's turn should last."""
        return full / 4 if self.quick else full

    def repeated(self, contender: Contender, keys: list[str], seconds: float) -> Run:
        """Return the run that asks a contender about these keys in turn, one at a time."""

        def make(times: int) -> Run:
            if contender.awaited:
                return over_awaited(self.runner, contender.call, keys, times)
            return over(contender.call, keys, times)

        return sized(make, self.seconds(seconds), least=100)

    def afresh(self, contender: Contender, times: int) -> Run:
        """Return the run that asks a contender so often about one key, another one in each turn."""
        if contender.awaited:
            return afresh_awaited(self.runner, contender.call, times)
        return afresh(contender.call, times)

    def by_tasks(self, contender: Contender, keys: list[str], tasks: int, seconds: float) -> Run:
        """Return the run that asks a contender about these keys in turn, from so many tasks at once."""
        return sized(
            lambda times: by_tasks(self.runner, contender.call, keys, tasks, times),
            self.seconds(seconds),
            least=4 * tasks,
        )

    def tasks(self, call: Awaited, keys: list[str], tasks: int, times: int) -> Run:
        """Return the run of so many decisions by so many tasks."""
        return by_tasks(self.runner, call, keys, tasks, times)

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[_Value]) -> Iterator[_Value]:
        """Enter an asynchronous context on the runner, and leave it."""

        async def enter() -> _Value:
            return await manager.__aenter__()

        async def leave() -> None:
            await manager.__aexit__(None, None, None)

        value = self.runner.run(enter())
        try:
            yield value
        finally:
            self.runner.run(leave())

    def said(self, contender: Contender, key: str) -> bool:
        """Ask once, and return whether it was allowed."""
        if not contender.awaited:
            return contender.allowed(contender.call(key))

        async def ask() -> Any:
            return await contender.call(key)

        return contender.allowed(self.runner.run(ask()))

    def filled(self, contender: Contender, key: str, limit: int) -> None:
        """Ask until the limit is used up; end the run where it is not, for then nothing would be measured."""
        for _ in range(limit):
            self.said(contender, key)
        if self.said(contender, key):
            sys.exit(f"{contender.name} allows more than its limit of {limit}: nothing is denied that could be timed")
