"""`MovedClock`: the clock by which the target counts, its own or that of its Redis server, moved on by the kit."""

from __future__ import annotations

from sluicegate.proof.environment import Environment
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.verdict import CaseVerdict, EndCase, Finding
from sluicegate.proof.workers import Worker, call


class MovedClock:
    """A clock that stands still or runs on by itself, and that `pass_` moves on.

    Raises:
        EndCase: The case is skipped, as the target counts by a clock that the kit cannot move.
    """

    def __init__(self, env: Environment) -> None:
        if not {Requirement.MANUAL_CLOCK, Requirement.FAKETIME} & env.survey.met:
            raise EndCase(Finding(CaseVerdict.SKIPPED, "the kit cannot move the clock by which the target counts"))
        self._env = env
        self._stepped = None if Requirement.MANUAL_CLOCK in env.survey.met else env.stepped()
        if self._stepped and not self._counts_by_it():
            raise EndCase(Finding(CaseVerdict.SKIPPED, "the target does not count by the clock of its Redis server"))

    def _counts_by_it(self) -> bool:
        with self.worker(1, 60.0) as worker:
            key = self._env.key()
            first = worker.run([call(0, key)])  # no denial, which a target may remember by another clock
            self.pass_(worker, 61.0)
            again = worker.run([call(0, key)])
        return [record.allowed for record in (*first.records, *again.records)] != [True, False]

    def worker(self, limit: int, window: float) -> Worker:
        """Start a worker that counts by this clock."""
        return self._env.worker(limit=limit, window=window, clock="real" if self._stepped else "manual")

    def pass_(self, worker: Worker, seconds: float) -> None:
        """Let so many seconds pass."""
        if self._stepped:
            self._stepped.step(self._stepped.off_by() + seconds)
        else:
            worker.advance(seconds)
