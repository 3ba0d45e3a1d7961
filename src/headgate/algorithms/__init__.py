"""The algorithms, a pair of files each: ``name.py`` (state and rule) beside ``name.lua`` (the same, on the server).

To add one is to add its pair: it is found here by itself, and so by the stores and by the tests that hold the two
against each other and against the oracle.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol, cast

from headgate.decision import Verdict

State = Any
"""What an algorithm keeps of one key: known to its own file alone."""

States = dict[Any, State | None]
"""The states of one namespace by what is held of a key; None for one that was forgotten."""

Allow = Callable[[str, int], bool]
"""The brief's verb: key and cost in, allowed or not out."""


@dataclass(slots=True)
class Bench:
    """What a store in memory lends to the quick way through an algorithm.

    Attributes:
        lock: To be held around all of it.
        ticks: The store's clock, as it counts; a function in C where there is one.
        ticks_per_us: How many of its ticks are a microsecond.
        wake_us: The time from which the next call must go the whole way, so that the store gets its turn to give back
            idle keys.
    """

    lock: AbstractContextManager[Any]
    ticks: Callable[[], int]
    ticks_per_us: int
    wake_us: int = 0


class Algorithm(Protocol):
    """What the file of an algorithm has. Pure: state and time in, state and verdict out."""

    NAME: str

    def arguments(self, policy: Any, cost: int) -> tuple[int, ...]:
        """Return what the Lua twin lists under ARGV."""
        ...

    def look(self, state: State | None, policy: Any, now_us: int, cost: int) -> Verdict:
        """Judge a charge; change nothing."""
        ...

    def charge(self, state: State | None, policy: Any, now_us: int, cost: int) -> State:
        """Enter what `look` allowed at the same time."""
        ...

    def mend(self, state: State, policy: Any, now_us: int) -> bool:
        """Bring back what a clock step left in the future; tell whether there was need."""
        ...

    def trim(self, state: State, policy: Any, now_us: int) -> None:
        """Give back memory that no verdict depends on. Called about once a window for a key in use."""
        ...

    def idle_at(self, state: State, policy: Any) -> int:
        """Return the time, µs, from which the state may be dropped."""
        ...

    def quick(self, policy: Any, states: States, bench: Bench, slow: Allow) -> Allow | None:
        """Return look and charge in one step for the common case, for a store in memory; None where there is none.

        ``slow`` is the whole way, for every other case. It is called without the lock.
        """
        ...


def _found() -> dict[str, Algorithm]:
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    algorithms = [cast(Algorithm, module) for module in modules]
    return {algorithm.NAME: algorithm for algorithm in algorithms}


def lua(name: str) -> str:
    """Return the source of an algorithm's Lua twin."""
    return files(__name__).joinpath(name.replace("-", "_") + ".lua").read_text("utf-8")


BY_NAME = _found()
