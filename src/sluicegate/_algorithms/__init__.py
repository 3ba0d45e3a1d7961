"""The algorithms, a pair of files each: ``name.py`` (state and rule) beside ``name.lua`` (the same, on the server).

To add one is to add its pair: it is found here by itself, and so by the stores and by the tests that hold the two
against each other and against the oracle.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.resources import files
from threading import get_ident
from time import sleep
from typing import Any, Protocol, TypeVar, cast

from sluicegate._core.decision import Verdict

State = Any
"""What an algorithm keeps of one key: known to its own file alone."""

States = dict[Any, State | None]
"""The states of one namespace by what is held of a key; None for one that was forgotten."""

Allow = Callable[[str, int], bool]
"""The brief's verb: key and cost in, allowed or not out."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_PAUSE = 0.000_001  # seconds; what counts is that others run meanwhile


class Bench:
    """What a store in memory lends to the quick way through an algorithm: its clock, and the turn at its states.

    The turn is a lock for sections of a microsecond. ``del bench.free[0]`` takes it, or raises `IndexError` where it is
    taken; what follows says whose it is; ``bench.owner = None`` and ``bench.free.append(None)`` give it back. The first
    two must stand next to each other: signals are handled at the ends of calls and at jumps back, and between them
    there is none. (What falls through at the end of an ``except`` is a jump back to CPython 3.12: the ``finally`` that
    gives the turn back stands inside of it.) `hold` waits for it, and is reentrant: a signal's handler or a finalizer
    may ask while its own thread has the turn.

    Why it is no `threading.RLock`: to take and release one is a third of a quick decision; and threads that queue for
    one are switched at each release, so that sixteen of them, each on a key of its own, did a tenth of what one does.

    Attributes:
        ticks: The store's clock, ns; a function in C where there is one.
        steady: Whether it never steps back.
        free: One None while nobody has the turn.
        owner: The thread that has it.
        wake_ns: The time from which the next call must go the whole way, so that the store gets its turn to give back
            idle keys.
    """

    __slots__ = ("__weakref__", "free", "owner", "steady", "ticks", "wake_ns")

    def __init__(self, ticks: Callable[[], int], *, steady: bool) -> None:
        self.ticks = ticks
        self.steady = steady
        self.free: list[None] = [None]
        self.owner: int | None = None
        self.wake_ns = 0

    def hold(self, work: Callable[[_Given], _Made], given: _Given) -> _Made:
        """Return ``work(given)``, done with the turn taken."""
        me = get_ident()
        while True:
            try:
                del self.free[0]
                self.owner = me
                break
            except IndexError:
                if self.owner == me:
                    return work(given)
                sleep(_PAUSE)
        try:
            return work(given)
        finally:
            self.owner = None
            self.free.append(None)

    def after_fork(self) -> None:
        """Free it in the child, unless it is this very thread that has it: no other is there to give it back."""
        if self.owner != get_ident():
            self.owner = None
            self.free[:] = [None]


class Algorithm(Protocol):
    """What the file of an algorithm has. Pure: state and time in, state and verdict out.

    Times are whole nanoseconds, as a process counts them; verdicts are in microseconds, rounded up.
    """

    NAME: str
    CALENDAR_TIME: bool
    """Whether its windows lie on the calendar: its times count from 1970 then, and not from an origin of any choice."""

    def arguments(self, policy: Any, cost: int, about_us: int) -> tuple[int, ...]:
        """Return what the Lua twin lists under ARGV. A CALENDAR_TIME one is told what the store's clock may read."""
        ...

    def look(self, state: State | None, policy: Any, now_ns: int, cost: int) -> Verdict:
        """Judge a charge; change nothing."""
        ...

    def charge(self, state: State | None, policy: Any, now_ns: int, cost: int) -> tuple[State, int]:
        """Enter what `look` allowed at the same time. Returns the state and its ``reset_after_us``."""
        ...

    def step(self, state: State | None, policy: Any, now_ns: int, cost: int, enter: bool) -> Verdict | None:
        """Mend, look and charge in one step for the common case; None where there is none, and nothing was done.

        What is allowed is charged only if ``enter``. Without it nothing is changed; and with it there would be an
        answer, too.
        """
        ...

    def mend(self, state: State, policy: Any, now_ns: int) -> bool:
        """Bring back what a clock step left in the future; tell whether there was need."""
        ...

    def trim(self, state: State, policy: Any, now_ns: int) -> None:
        """Give back memory that no verdict depends on. Called about once a window for a key in use."""
        ...

    def idle_at(self, state: State, policy: Any) -> int:
        """Return the time, ns, from which the state may be dropped."""
        ...

    def quick(self, policy: Any, states: States, bench: Bench, slow: Allow) -> Allow | None:
        """Return look and charge in one step for the common case, for a store in memory; None where there is none.

        ``slow`` is the whole way, for every other case. It is called outside the turn.
        """
        ...


def _found() -> dict[str, Algorithm]:
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    algorithms = [cast(Algorithm, module) for module in modules]
    return {algorithm.NAME: algorithm for algorithm in algorithms}


@cache
def lua(name: str) -> str:
    """Return the source of an algorithm's Lua twin, or of a file that several share. It is read once."""
    home, file = files(__name__), name.replace("-", "_") + ".lua"
    return (home / file if (home / file).is_file() else home / "shared" / file).read_text("utf-8")


BY_NAME = _found()
