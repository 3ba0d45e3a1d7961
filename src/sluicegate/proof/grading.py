"""`grade`: find out what a target offers, run the cases that apply to it, and return the report.

Cases that mostly wait run side by side; those that measure time or load the machine run alone. A case that ends
undecided is run again, alone: on a busy machine the second run is often the clear one.
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
from sluicegate.proof.environment import Environment, GradeSettings, Survey
from sluicegate.proof.facts import facts
from sluicegate.proof.hangs import Hangs
from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.served import DidNotStart, Served
from sluicegate.proof.target import Target, at_port
from sluicegate.proof.verdict import CaseVerdict, EndCase, Finding
from sluicegate.proof.workers import Abilities, NoInterpreter, TargetFailed, TargetHung, Worker, call

RUNS = 3
"""The most runs of a case that keeps ending undecided."""

_SIDE_BY_SIDE = 6
_PATIENCE_AFTER_A_HANG, _SLACK = 5.0, 10.0  # seconds; the first hang may cost several times as much
_LONG = 5.0  # seconds; with windows from here on, cases do little but wait, so all of them can run at once

_NOT_CHOSEN = "the kit cannot choose the service's limit and window: put {limit} and {window} in the command of --serve"

OnResult = Callable[[CaseResult], None]
"""Called with each result as soon as it is known."""

OnStart = Callable[[Case], None]
"""Called when a case begins to run, in any thread."""


class CouldNotRun(Exception):
    """The target could not be graded at all: it does not load, does not answer, or needs a server that is missing."""


def survey(target: Target, settings: GradeSettings) -> Survey:
    """Load the target once and find out what it offers.

    Raises:
        CouldNotRun: It does not load, or does not answer.
    """
    try:
        return _survey(target, settings)
    except DidNotStart as failure:
        raise CouldNotRun(f"the service of --serve {failure}{_and_output(failure.output)}") from None
    except TargetFailed as failure:
        raise CouldNotRun(f"{target.name} cannot be graded: {failure}{_and_output(failure.output)}") from None
    except servers.NoServer as missing:
        raise CouldNotRun(f"{target.name} takes a Redis URL, but {missing}") from None


def _and_output(output: str) -> str:
    return f"\nIts output was:\n{output}" if output else ""


def _survey(target: Target, settings: GradeSettings) -> Survey:
    versions = {"sluicegate": version("sluicegate"), "Python": platform.python_version()}
    with ExitStack() as stack:
        # Without a URL, a target that takes one is inspected but not constructed. A service is not called yet.
        worker = stack.enter_context(_worker(at_port(target, 1) if target.serve else target, settings))
        abilities, url, served = worker.load(settings.limit, settings.window), None, None
        abilities = replace(abilities, takes_redis=abilities.takes_redis or target.takes_redis)
        if abilities.takes_redis:
            server = stack.enter_context(servers.running(settings.kind))
            versions["server"], url = server.version, server.url
        if target.serve:
            served = stack.enter_context(Served(target, settings.limit, settings.window, url))
        if url or served:
            worker = stack.enter_context(_worker(served.target if served else target, settings))
            loaded = worker.load(settings.limit, settings.window, redis_url=url)
            abilities = replace(loaded, takes_redis=abilities.takes_redis)
        key = f"survey-{time.monotonic_ns()}"
        decide = "acquire" if abilities.acquire else "allow"
        result = worker.run([call(0, key, settings.limit + 1, verb=decide)], lasts=30)
        if not result.records or all(record.allowed is None for record in result.records):
            raise TargetFailed(f"did not answer: {'; '.join(map(str, result.errors))}", (served or worker).output)
        taken = [] if abilities.acquire else worker.run([call(0, key, 2, verb="take")], lasts=10).records
        abilities = replace(abilities, asynchronous=abilities.asynchronous or result.asynchronous)
        versions["Python"] = worker.version
        met = _met(target, abilities)
        # If the target was so slow that no call was denied, it may still report waits: the cases will find out.
        may_report = abilities.take or abilities.retry_after or target.is_service
        denied = [record for record in taken if record.allowed is False]
        if any(record.retry_after is not None for record in denied) or (may_report and not denied):
            met.add(Requirement.REPORTS_WAIT)
        if any(record.remaining is not None for record in taken):
            met.add(Requirement.REPORTS_REMAINING)
        if not target.is_service and not abilities.takes_redis and _reads_manual_clock(target, abilities, settings):
            met.add(Requirement.MANUAL_CLOCK)
    return Survey(abilities, frozenset(met), versions)


def _met(target: Target, abilities: Abilities) -> set[Requirement]:
    if target.is_service:
        met = {Requirement.HTTP, Requirement.SHARED, Requirement.SYNC}
    else:
        met = {Requirement.PROCESS, Requirement.ASYNC if abilities.asynchronous else Requirement.SYNC}
        met.add(Requirement.SHARED if abilities.takes_redis else Requirement.MEMORY)
    if target.takes_limit or not target.is_service:
        met.add(Requirement.CONSTRUCTOR)
    if abilities.takes_redis:
        met.add(Requirement.REDIS)
    if target.file is not None:
        met.add(Requirement.FILE)
    if abilities.takes_redis and not faketime.why_not():
        met.add(Requirement.FAKETIME)
    verbs = {Requirement.COST: abilities.cost, Requirement.TAKE_COST: abilities.take_cost}
    verbs |= {Requirement.PEEK: abilities.peek, Requirement.WAIT: abilities.wait}
    verbs |= {Requirement.TIMEOUT: abilities.timeout, Requirement.RESERVE: abilities.reserve}
    verbs |= {Requirement.RETRY_AFTER: abilities.retry_after}
    verbs |= {Requirement.LEASES: abilities.acquire, Requirement.RATE: not abilities.acquire}
    met |= {requirement for requirement, has in verbs.items() if has}
    return met


def _reads_manual_clock(target: Target, abilities: Abilities, settings: GradeSettings) -> bool:
    """Tell whether the target counts by a Python clock: it must fill up, and be free again two windows later."""
    limit, window, tries, decide = 3, 64.0, 6, "acquire" if abilities.acquire else "allow"
    # With a manual clock no call needs to wait. A target that waits all the same is graded in real time only.
    with _worker(target, replace(settings, patience=min(settings.patience, 10))) as worker:
        try:
            worker.load(limit, window, clock="manual", asynchronous=abilities.asynchronous)
            steps = [call(at, "survey", tries, verb=decide) for at in (0.0, 2 * window)]
            records = worker.run(steps).records
        except TargetFailed:
            return False
    if any(record.start != record.end for record in records):
        return False  # it sleeps, and so moves the clock itself: only real time shows when it decides what
    return records[tries - 1].allowed is False and records[tries].allowed is True


def _worker(target: Target, settings: GradeSettings) -> Worker:
    return Worker(target, python=settings.python, memory=settings.memory, patience=settings.patience)


def grade(
    target: Target,
    settings: GradeSettings,
    wanted: Iterable[Case],
    on_result: OnResult = lambda _: None,
    on_start: OnStart = lambda _: None,
) -> Report:
    """Run cases on a target and return the report.

    Args:
        target: The limiter to grade.
        settings: The limit and window to hold it to, and the means to do it.
        wanted: The cases to run.
        on_result: Called in this thread with each result as soon as it is known.
        on_start: Called with each case that begins to run, in any thread.

    Raises:
        CouldNotRun: The target does not load, does not answer, or needs a server that is missing.
    """
    began, made_at = time.monotonic(), datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    seen = survey(target, settings)
    chosen = list(wanted)
    with _Grading(target, seen, settings, chosen, on_start) as grading:
        found: dict[str, CaseResult] = {}
        for result in grading.results():
            found[result.case.id] = result
            on_result(result)
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
    """Return the cases whose id is or begins with one of ``only``; all by default. SHOULDs if ``strict`` or named."""
    found = [
        case
        for case in cases()
        if not only or any(case.id == name or case.id.startswith(f"{name.rstrip('/')}/") for name in only)
    ]
    return [case for case in found if strict or not case.should or case.id in only]


class _Grading:
    """Runs the cases of one target, and keeps track of the environments that are open."""

    def __init__(
        self, target: Target, seen: Survey, settings: GradeSettings, chosen: Sequence[Case], on_start: OnStart
    ) -> None:
        self._target, self._seen, self._settings = target, seen, settings
        self._chosen, self._on_start = chosen, on_start
        self._runnable = [case for case in chosen if not case.requires - seen.met]
        self._hangs = Hangs(self._runnable)
        self._open: set[Environment] = set()

    def results(self) -> Iterator[CaseResult]:
        """Yield the result of each case as soon as it is known."""
        runnable = self._runnable
        yield from (self._not_met(case) for case in self._chosen if case not in runnable)
        unsure = []
        for result in self._side_by_side([case for case in runnable if not case.alone]):
            if result.finding.verdict is CaseVerdict.UNDECIDED:
                unsure.append(result)
            else:
                yield result
        for case in runnable:
            if case.alone:
                yield self._rerun_while_undecided(self._run(case))
        yield from map(self._rerun_while_undecided, unsure)

    def _not_met(self, case: Case) -> CaseResult:
        # Requirement lists the most telling reasons first.
        missing = next(each for each in Requirement if each in case.requires - self._seen.met)
        if self._target.is_service and not self._target.serve:
            missing = Requirement.CONSTRUCTOR
        return _skipped(
            case, _NOT_CHOSEN if self._target.serve and missing is Requirement.CONSTRUCTOR else missing.value
        )

    def _side_by_side(self, quiet: Sequence[Case]) -> Iterator[CaseResult]:
        many = _SIDE_BY_SIDE if self._settings.window < _LONG else max(1, len(quiet))
        with ThreadPoolExecutor(many) as pool:
            running = [pool.submit(self._run, case) for case in quiet]
            try:
                for each in as_completed(running):
                    yield each.result()
            except BaseException:
                # Do not make an interrupt wait for windows to end: without their environments the cases end at once.
                pool.shutdown(wait=False, cancel_futures=True)
                self._close()
                raise

    def _rerun_while_undecided(self, result: CaseResult) -> CaseResult:
        while result.finding.verdict is CaseVerdict.UNDECIDED and result.runs < RUNS:
            again = self._run(result.case)
            result = CaseResult(result.case, again.finding, result.seconds + again.seconds, result.runs + 1)
        return result

    def _run(self, case: Case) -> CaseResult:
        why_not = self._hangs.why_not(case)
        if why_not:
            return _skipped(case, why_not)
        began = time.monotonic()
        self._on_start(case)
        env = Environment(case.id, self._target, self._seen, self._hurried() if self._hangs.any else self._settings)
        self._open.add(env)
        hung = False
        try:
            with env:
                finding = _found(case, env)
                if self._target.serve and finding.verdict is CaseVerdict.FAILED and not finding.output:
                    finding = replace(finding, output=env.service_output)
        except TargetHung as hang:
            finding, hung = Finding(CaseVerdict.FAILED, str(hang), output=hang.output), True
        finally:
            self._open.discard(env)
        self._hangs.ran(case, hung=hung)
        return CaseResult(case, finding, time.monotonic() - began)

    def _hurried(self) -> GradeSettings:
        return replace(self._settings, patience=min(self._settings.patience, _PATIENCE_AFTER_A_HANG), slack=_SLACK)

    def _close(self) -> None:
        for env in list(self._open):
            env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _skipped(case: Case, why: str) -> CaseResult:
    return CaseResult(case, Finding(CaseVerdict.SKIPPED, why), 0.0, 0)


def _found(case: Case, env: Environment) -> Finding:
    try:
        return case.run(env)
    except EndCase as early:
        return early.finding
    except (servers.NoServer, faketime.NoFaketime, NoInterpreter, redis.RedisError) as missing:
        return Finding(CaseVerdict.UNDECIDED, f"the kit could not run the case: {missing}")
    except DidNotStart as failure:
        verdict = CaseVerdict.UNDECIDED if failure.whole else CaseVerdict.SKIPPED
        return Finding(verdict, f"the service of --serve {failure}", output=failure.output)
    except TargetHung:
        raise
    except TargetFailed as failure:
        return Finding(CaseVerdict.FAILED, str(failure), output=failure.output)
    except Exception as error:  # noqa: BLE001 - a bug in one case must not lose the findings of the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        return Finding(CaseVerdict.UNDECIDED, f"the case itself failed: {type(error).__name__}: {error} at {where}")
