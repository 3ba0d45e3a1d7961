"""Run one case on one target, without a survey, for tests of how a case judges."""

from __future__ import annotations

from sluicegate.proof.cases import cases
from sluicegate.proof.environment import Environment, GradeSettings, Survey
from sluicegate.proof.replies import Abilities
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.target import Target
from sluicegate.proof.verdict import Finding

ABILITIES = Abilities(**dict.fromkeys(Abilities.__slots__, False))
"""Those of a limiter in memory with nothing but ``allow``."""

_IN_MEMORY = {Requirement.CONSTRUCTOR, Requirement.MEMORY, Requirement.PROCESS, Requirement.SYNC, Requirement.FILE}
_RUN = {case.id: case.run for case in cases()}


def found(case: str, target: Target) -> Finding:
    """Return the finding of a case on a limiter in memory."""
    with Environment(case, target, Survey(ABILITIES, frozenset(_IN_MEMORY)), GradeSettings(patience=10)) as env:
        return _RUN[case](env)
