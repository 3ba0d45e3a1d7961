"""Grade a target: see what it is, run the cases that fit, and make the report.

Cases that only wait and look run side by side; those that measure time or load the machine run alone. A case that stays
undecided is run again, alone: on a busy machine the second look is often the clear one.
"""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from sluicegate.proof import faketime, servers
from sluicegate.proof.case import Case
from sluicegate.proof.cases import cases
from sluicegate.proof.crew import Abilities, NoInterpreter, TargetFailed, Worker, ask
from sluicegate.proof.facts import facts
from sluicegate.proof.need import Need
from sluicegate.proof.report import Report, Result
from sluicegate.proof.rig import Rig, Settings, Survey
from sluicegate.proof.target import Target
from sluicegate.proof.verdict import Decided, Finding, Verdict

RUNS = 3
"""How often a case is run at the most, while it stays undecided."""

_SIDE_BY_SIDE = 6
_LONG = 5.0  # seconds: in windows from here on cases do little but wait, so that all of them can do it at once

Told = Callable[[Result], None]
"""Called with each result as it comes."""


class CouldNotRun(Exception):
    """The target could not be graded at all: it cannot be loaded or asked, or a server is missing."""


def survey(target: Target, settings: Settings) -> Survey:
    """Load the target once and see what it is.

    Raises:
        CouldNotRun: It cannot be loaded, or does not answer.
    """
    try:
        return _survey(target, settings)
    except TargetFailed as failure:
        output = f"\nIt had printed:\n{failure.output}" if failure.output else ""
        raise CouldNotRun(f"{target.name} cannot be graded: {failure}{output}") from None
    except servers.NoServer as missing:
        raise CouldNotRun(f"{target.name} takes the URL of a Redis, and {missing}") from None


def _survey(target: Target, settings: Settings) -> Survey:
    versions = {"sluicegate": version("sluicegate"), "Python": platform.python_version()}
    with ExitStack() as stack:
        worker = stack.enter_context(_worker(target, settings))
        # Without a URL a target that takes one is only looked at.
        abilities, url = worker.load(settings.limit, settings.window), None
        if abilities.takes_redis:
            server = stack.enter_context(servers.running(settings.kind))
            versions["server"], url = server.version, server.url
            worker = stack.enter_context(_worker(target, settings))
            abilities = worker.load(settings.limit, settings.window, redis_url=url)
        key = f"survey-{time.monotonic_ns()}"
        played = worker.play([ask(0, key, settings.limit + 1)], lasts=30)
        if not played.records or all(record.allowed is None for record in played.records):
            raise TargetFailed(f"did not answer: {'; '.join(map(str, played.errors))}", worker.output)
        told = worker.play([ask(0, key, 2, verb="take")], lasts=10).records
        abilities = replace(abilities, asynchronous=abilities.asynchronous or played.asynchronous)
        versions["Python"] = worker.version
        met = _met(target, abilities)
        # Where nothing was denied, slow as it may have been, it may tell a wait all the same: the cases will see.
        tells = abilities.take or abilities.retry_after or target.is_service
        denied = [record for record in told if record.allowed is False]
        if any(record.retry_after is not None for record in denied) or (tells and not denied):
            met.add(Need.WAIT_TOLD)
        if any(record.remaining is not None for record in told):
            met.add(Need.REMAINING_TOLD)
        if not target.is_service and not abilities.takes_redis and _clock_can_be_moved(target, abilities, settings):
            met.add(Need.MOVED_CLOCK)
    return Survey(abilities, frozenset(met), versions)


def _met(target: Target, abilities: Abilities) -> set[Need]:
    met = {Need.HTTP, Need.SHARED, Need.SYNC} if target.is_service else {Need.MADE_HERE}
    if not target.is_service:
        met |= {Need.REDIS, Need.SHARED} if abilities.takes_redis else {Need.MEMORY}
        met.add(Need.ASYNC if abilities.asynchronous else Need.SYNC)
    if target.file is not None:
        met.add(Need.FILE)
    if abilities.takes_redis and not faketime.why_not():
        met.add(Need.FAKETIME)
    verbs = {Need.COST: abilities.cost, Need.TAKE_COST: abilities.take_cost}
    verbs |= {Need.PEEK: abilities.peek, Need.WAIT: abilities.wait}
    met |= {need for need, has in verbs.items() if has}
    return met


def _clock_can_be_moved(target: Target, abilities: Abilities, settings: Settings) -> bool:
    """Tell whether the target keeps the limit by a clock of Python's: full, then full again a window later."""
    limit, window, tries = 3, 64.0, 6
    # On a clock that stands still nobody has to wait; a target that does so all the same is asked in real time.
    with _worker(target, replace(settings, patience=min(settings.patience, 10))) as worker:
        try:
            worker.load(limit, window, clock="moved", asynchronous=abilities.asynchronous)
            answers = [r.allowed for r in worker.play([ask(at, "survey", tries) for at in (0.0, 2 * window)]).records]
        except TargetFailed:
            return False
    return answers[tries - 1] is False and answers[tries] is True


def _worker(target: Target, settings: Settings) -> Worker:
    return Worker(target, python=settings.python, memory=settings.memory, patience=settings.patience)


def grade(target: Target, settings: Settings, wanted: Iterable[Case], told: Told = lambda _: None) -> Report:
    """Run the wanted cases on a target.

    Args:
        target: What is graded.
        settings: What it is held to.
        wanted: The cases.
        told: Called with each result as it comes, in this thread.

    Raises:
        CouldNotRun: The target cannot be loaded or asked.
    """
    began, made_at = time.monotonic(), datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    seen = survey(target, settings)
    with _Grading(target, seen, settings) as grading:
        found: dict[str, Result] = {}
        chosen = list(wanted)
        for result in grading.results(chosen):
            found[result.case.id] = result
            told(result)
    return Report(
        target=target.name,
        limit=settings.limit,
        window=settings.window,
        results=tuple(found[case.id] for case in chosen),
        made_at=made_at,
        seconds=time.monotonic() - began,
        versions=seen.versions,
        facts=facts(target.file) if target.file else None,
    )


def choose(only: Sequence[str] = (), *, strict: bool = False) -> list[Case]:
    """Return the cases whose id is, or begins with, one of ``only``; without it all. SHOULDs if ``strict`` or named."""
    found = [
        case
        for case in cases()
        if not only or any(case.id == name or case.id.startswith(f"{name.rstrip('/')}/") for name in only)
    ]
    return [case for case in found if strict or not case.should or case.id in only]


class _Grading:
    """The cases of one target as they run, and the rigs that are open meanwhile."""

    def __init__(self, target: Target, seen: Survey, settings: Settings) -> None:
        self._target, self._seen, self._settings = target, seen, settings
        self._open: set[Rig] = set()

    def results(self, chosen: Sequence[Case]) -> Iterator[Result]:
        """Yield the result of each case as it comes."""
        runnable = [case for case in chosen if not case.needs - self._seen.met]
        yield from (self._skipped(case) for case in chosen if case not in runnable)
        unsure = []
        for result in self._side_by_side([case for case in runnable if not case.alone]):
            if result.finding.verdict is Verdict.UNDECIDED:
                unsure.append(result)
            else:
                yield result
        for case in runnable:
            if case.alone:
                yield self._settled(self._run(case))
        yield from map(self._settled, unsure)

    def _skipped(self, case: Case) -> Result:
        missing = [need for need in Need if need in case.needs - self._seen.met]  # the most telling comes first
        why = Need.MADE_HERE if self._target.is_service else missing[0]
        return Result(case, Finding(Verdict.SKIPPED, why.value), 0.0, 0)

    def _side_by_side(self, quiet: Sequence[Case]) -> Iterator[Result]:
        many = _SIDE_BY_SIDE if self._settings.window < _LONG else max(1, len(quiet))
        with ThreadPoolExecutor(many) as pool:
            running = [pool.submit(self._run, case) for case in quiet]
            try:
                for each in as_completed(running):
                    yield each.result()
            except BaseException:
                # Whoever interrupts is not to wait for windows to end: without their rigs the cases end at once.
                pool.shutdown(wait=False, cancel_futures=True)
                self._close()
                raise

    def _settled(self, result: Result) -> Result:
        while result.finding.verdict is Verdict.UNDECIDED and result.runs < RUNS:
            again = self._run(result.case)
            result = Result(result.case, again.finding, result.seconds + again.seconds, result.runs + 1)
        return result

    def _run(self, case: Case) -> Result:
        began = time.monotonic()
        rig = Rig(case.id, self._target, self._seen, self._settings)
        self._open.add(rig)
        try:
            with rig:
                finding = _found(case, rig)
        finally:
            self._open.discard(rig)
        return Result(case, finding, time.monotonic() - began)

    def _close(self) -> None:
        for rig in list(self._open):
            rig.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _found(case: Case, rig: Rig) -> Finding:
    try:
        return case.run(rig)
    except Decided as decided:
        return decided.finding
    except (servers.NoServer, faketime.NoFaketime, NoInterpreter, redis.RedisError) as missing:
        return Finding(Verdict.UNDECIDED, f"the kit could not do its part: {missing}")
    except TargetFailed as failure:
        return Finding(Verdict.FAILED, str(failure), output=failure.output)
    except Exception as error:  # noqa: BLE001 - a fault of one case is not to lose what the others found
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        return Finding(Verdict.UNDECIDED, f"the case itself went wrong: {type(error).__name__}: {error} at {where}")
