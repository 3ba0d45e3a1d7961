"""The algorithms: a pair of files each, ``name.py`` (the rule) beside ``name.lua`` (the same rule, on the server).

To add one, add its pair: it is found here, and so by the stores and by the tests, which compare the two with each other
and with the oracle. Lua that several algorithms share is in ``shared/``.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol, cast

from sluicegate._core.decision import Verdict
from sluicegate._core.request import Mark

State = Any
"""What an algorithm keeps of one key; only its own file knows the type."""


class Algorithm(Protocol):
    """What the Python file of an algorithm defines. All of it is pure: no clock, lock, key or store.

    Times are whole nanoseconds on the store's clock; verdicts are in microseconds, rounded up.
    """

    NAME: str
    CALENDAR_TIME: bool
    """Whether its windows lie on the calendar: times then count from 1970, and not from an arbitrary origin."""

    def decide(
        self, state: State | None, policy: Any, now_ns: int, cost: int, commit: bool
    ) -> tuple[State | None, Verdict]:
        """Allow or deny a charge of ``cost`` units, 1 or more, and enter it if it is allowed and ``commit`` is true.

        Otherwise nothing changes, and a state that a clock step left in the future is read as if it had been repaired.
        The caller repairs a state before it commits to it.

        Returns:
            The state to keep (the same object if it was changed in place; None while nothing was entered), and the
            verdict. Its ``remaining`` and ``reset_after_us`` are those after the charge if it was entered.
        """
        ...

    def mark(self, state: State) -> tuple[State, Mark]:
        """Return where the charge is that was just entered, and the state to keep, which may be in another form.

        A mark fits the state for as long as that has the charge: not once it was forgotten, or repaired.
        """
        ...

    def settle(
        self, state: State, policy: Any, now_ns: int, cost: int, mark: Mark, actual: int
    ) -> tuple[State | None, bool]:
        """Make a charge of ``cost`` units, at its mark, one of ``actual`` units, 0 or more, whatever the limit.

        Returns:
            The state to keep, None if nothing is left in it; and whether the charge was there. If not, because it has
            left its window for example, nothing changes.
        """
        ...

    def repair(self, state: State, policy: Any, now_ns: int) -> bool:
        """Move a state that a clock step left more than a window ahead back to now (G8). Returns whether it had to."""
        ...

    def trim(self, state: State, policy: Any, now_ns: int) -> None:
        """Free memory that no decision depends on. Called about once a window for a key in use."""
        ...

    def expires_at_ns(self, state: State, policy: Any) -> int:
        """Return the time from which the state may be dropped."""
        ...

    def arguments(self, policy: Any, cost: int, now_us: int) -> tuple[int, ...]:
        """Return the ARGV of the Lua file, in its order. Only `CALENDAR_TIME` needs ``now_us``, an estimate.

        A ``cost`` below 0 is one that is charged under a block, too.
        """
        ...


def _found() -> dict[str, Algorithm]:
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    algorithms = [cast(Algorithm, module) for module in modules]
    return {algorithm.NAME: algorithm for algorithm in algorithms}


@cache
def lua(name: str) -> str:
    """Return the source of an algorithm's Lua file, or of one that several share."""
    home, file = files(__name__), name.replace("-", "_") + ".lua"
    return (home / file if (home / file).is_file() else home / "shared" / file).read_text("utf-8")


BY_NAME = _found()
