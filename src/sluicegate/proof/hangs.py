"""`Hangs`: which sections end early because the target hangs, so that it costs a minute and not ten."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from sluicegate.proof.case import Case
from sluicegate.proof.text import counted

_ENOUGH = 2  # in a row, in one section; a target that has only hung so far needs no second one in the next section


class Hangs:
    """Keeps count of the cases in which the target hung. Its methods may be called from any thread.

    Args:
        cases: The cases that are to run.

    Attributes:
        any: Whether the target has hung in any case yet.
    """

    def __init__(self, cases: Iterable[Case]) -> None:
        self.any, self._only = False, True
        self._lock = threading.Lock()
        self._left = Counter(case.section for case in cases)
        self._begun: set[str] = set()
        self._in_a_row: Counter[str] = Counter()
        self._ended: dict[str, str] = {}

    def why_not(self, case: Case) -> str:
        """Return why a case is not to be run; empty if it is, and then it counts as begun."""
        with self._lock:
            if case.section not in self._ended and case.id not in self._begun:
                self._begun.add(case.id)
                self._left[case.section] -= 1
            return self._ended.get(case.section, "")

    def ran(self, case: Case, *, hung: bool) -> None:
        """Take note that a case was run, and whether the target hung in it."""
        with self._lock:
            section, self.any, self._only = case.section, self.any or hung, self._only and hung
            self._in_a_row[section] = in_a_row = self._in_a_row[section] + 1 if hung else 0
            enough = 1 if self._only and self._ended else _ENOUGH
            if in_a_row >= enough and section not in self._ended:
                left = self._left[section]
                cases = f"remaining {left} cases" if left > 1 else "last case"
                was = "were" if left > 1 else "was"
                self._ended[section] = f"{counted(enough, 'case')} hung, so the {cases} of {section} {was} not run"
