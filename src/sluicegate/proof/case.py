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

from sluicegate.proof.need import Need
from sluicegate.proof.rig import Rig
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Finding

_ID = re.compile(r"[a-z]+(/[a-z0-9-]+){2}")


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence and how it is checked.

    Attributes:
        id: ``section/topic/name``.
        sentence: What a limiter has to keep.
        line: The line of the rubric that it belongs to.
        run: Checks it. Raises `sluicegate.proof.crew.TargetFailed` where the target itself went down.
        needs: What it needs of a target; without one of these it is skipped.
        should: Whether it is a recommendation: run only when asked for, with ``--strict``.
        alone: Whether it measures time or loads the machine, so that nothing else may run beside it.
        timed: Whether its verdict rests on how long something took, so that a machine that stood still may be to blame.
    """

    id: str
    sentence: str
    line: Line
    run: Callable[[Rig], Finding]
    needs: frozenset[Need] = frozenset()
    should: bool = False
    alone: bool = False
    timed: bool = False

    @property
    def section(self) -> str:
        """The part of the id before the first slash."""
        return self.id.partition("/")[0]


_cases: dict[str, Case] = {}


def case(
    id_: str,
    sentence: str,
    line: Line,
    *needs: Need,
    should: bool = False,
    alone: bool = False,
    timed: bool = False,
) -> Callable[[Callable[[Rig], Finding]], Callable[[Rig], Finding]]:
    """Enter a function as a case. See `Case` for the arguments."""
    assert _ID.fullmatch(id_), id_
    assert id_ not in _cases, id_

    def enter(run: Callable[[Rig], Finding]) -> Callable[[Rig], Finding]:
        _cases[id_] = Case(id_, sentence, line, run, frozenset(needs), should, alone, timed)
        return run

    return enter


def entered() -> list[Case]:
    """Return the cases entered so far, in their order; all of them are what `sluicegate.proof.cases.cases` returns."""
    return list(_cases.values())
