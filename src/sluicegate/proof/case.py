"""`Case` and the `case` decorator: one sentence that a limiter must keep, and the function that checks it.

The cases live in ``cases``, one file a topic. Each is a function that takes an `Environment` and returns a `Finding`:

    @case("correctness/limit/one", "With N = 1 the first request is allowed and the second is denied.", ...)
    def one(env: Environment) -> Finding: ...

People name a case by its id, so an id keeps its meaning once it is released. A case may return `CaseVerdict.FAILED`
only on certain evidence, and `CaseVerdict.PASSED` only on evidence that would have shown the fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sluicegate.proof.environment import Environment
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import Finding

_ID = re.compile(r"[a-z]+(/[a-z0-9-]+){2}")


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence and how to check it.

    Attributes:
        id: ``section/topic/name``.
        sentence: What a limiter must keep.
        line: The line of the rubric it belongs to.
        run: Checks it. Raises `sluicegate.proof.workers.TargetFailed` when the target itself goes down.
        requires: What the target must offer; without all of these the case is skipped.
        should: Whether it is a recommendation: run only with ``--strict``, or by its id.
        alone: Whether it measures time or loads the machine, so that nothing else may run beside it.
        timed: Whether its verdict depends on how long something took, so that a stalled machine can fail it.
    """

    id: str
    sentence: str
    line: RubricLine
    run: Callable[[Environment], Finding]
    requires: frozenset[Requirement] = frozenset()
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
    line: RubricLine,
    *requires: Requirement,
    should: bool = False,
    alone: bool = False,
    timed: bool = False,
) -> Callable[[Callable[[Environment], Finding]], Callable[[Environment], Finding]]:
    """Register a function as a case. `Case` describes the arguments."""
    assert _ID.fullmatch(id_), id_
    assert id_ not in _cases, id_

    def register(run: Callable[[Environment], Finding]) -> Callable[[Environment], Finding]:
        # A target lends permits or limits a rate: what does not require the one requires the other.
        kind = frozenset() if Requirement.LEASES in requires else frozenset((Requirement.RATE,))
        _cases[id_] = Case(id_, sentence, line, run, kind.union(requires), should, alone, timed)
        return run

    return register


def registered() -> list[Case]:
    """Return the cases registered so far. Use `sluicegate.proof.cases.cases` to get all of them."""
    return list(_cases.values())
