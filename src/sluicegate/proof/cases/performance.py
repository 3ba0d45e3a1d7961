"""Cases on performance: the cost of a decision does not grow with the requests before it, and memory is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import failure_if_raised, twice, undecided_if_cut, unless_stalled
from sluicegate.proof.environment import Environment
from sluicegate.proof.growth import Growth
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.servers import Server
from sluicegate.proof.verdict import CaseVerdict, EndCase, Finding
from sluicegate.proof.workers import ScenarioResult, Step, Worker, call, call_each

_LONG = 3600.0
_HUGE = 1_000_000
_TIME = "time of a decision, µs"


# Time


def _grown(by: str, sizes: Sequence[int], measure: Callable[[int], float]) -> Finding:
    """Time a decision at each size; fail if the time grows in proportion to the size, twice in a row."""

    def once() -> Finding:
        growth = Growth(_TIME, by, sizes, [measure(size) for size in sizes])
        if growth.linear:
            says = f"a decision takes longer in proportion to the {by}: {growth.factors} µs"
            return Finding(CaseVerdict.FAILED, says, growth=growth)
        return Finding(CaseVerdict.PASSED, f"{growth.factors} µs", growth=growth)

    return twice(once)


def _run(worker: Worker, *steps: Step) -> ScenarioResult:
    """Make calls and discard the records; a failure ends the case."""
    result = worker.run(steps, keep=False, lasts=60)
    failure = failure_if_raised(result) or undecided_if_cut(result)
    if failure:
        raise EndCase(failure)
    return result


def _fastest(worker: Worker, keys: Sequence[str], times: int = 20, rounds: int = 9) -> float:
    # The fastest round counts: other work on the machine can only add time.
    return min(worker.time_calls(keys, times, rounds)) * 1e6


@case(
    "performance/time/limit",
    "A decision on a full key takes no longer for a large limit than for a small one.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def time_by_limit(env: Environment) -> Finding:
    def measure(limit: int) -> float:
        with env.worker(limit=limit, window=_LONG) as worker:
            key = env.key()
            _run(worker, call(0, key, limit + 1))
            return _fastest(worker, [key])

    return _grown("limit", (10, 100, 1000, 8000), measure)


@case(
    "performance/time/requests",
    "A decision takes no longer after many requests in the window than after few.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def time_by_requests(env: Environment) -> Finding:
    def measure(requests: int) -> float:
        with env.worker(limit=_HUGE, window=_LONG) as worker:
            key = env.key()
            _run(worker, call(0, key, requests))
            return _fastest(worker, [key], times=5)

    return _grown("requests", (50, 500, 4000, 12000), measure)


@case(
    "performance/time/keys",
    "A decision takes no longer among many keys than among few.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def time_by_keys(env: Environment) -> Finding:
    def measure(number: int) -> float:
        with env.worker(limit=1000, window=_LONG) as worker:
            keys = env.keys(number)
            _run(worker, call_each(0, keys))
            return _fastest(worker, keys[:4])

    return _grown("number of keys", (10, 100, 1000, 8000), measure)


# Memory


_LEAK = 4.0  # bytes a request; anything that is stored for a request takes more


class _Memory:
    """The memory of a target: Python's objects in its process, and its keys on its Redis server."""

    def __init__(self, env: Environment, worker: Worker) -> None:
        self._worker = worker
        self._server: Server | None = env.server if Requirement.REDIS in env.survey.met else None

    def __call__(self) -> tuple[int, int]:
        return self._worker.memory(), self.stored()

    def stored(self) -> int:
        """Return the bytes of all keys on its Redis server."""
        if self._server is None:
            return 0
        client = self._server.client
        return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000))

    def left_on_redis(self, before: int, window: float) -> int:
        """Return the bytes on its Redis server above ``before``, once the server had time to delete expired keys."""
        end_at = time.monotonic() + 2 * window + 4
        while (left := self.stored() - before) > 0 and time.monotonic() < end_at:
            time.sleep(0.2)
        return left

    def never_expires(self) -> bool:
        """Tell whether any key on its Redis server has no time to live."""
        client = self._server.client if self._server else None
        return client is not None and any(client.ttl(key) == -1 for key in client.scan_iter(count=1000))


@case(
    "performance/memory/limit",
    "The memory of a full key grows at most in proportion to its limit.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
)
def memory_by_limit(env: Environment) -> Finding:
    return twice(lambda: _memory_by_limit(env))


def _memory_by_limit(env: Environment) -> Finding:
    sizes = (10, 100, 1000, 4000)
    keys = [_full_key(env, size) for size in sizes]
    growth = Growth("memory of a full key, bytes", "limit", sizes, [max(1, memory) for memory, _ in keys])
    each = (growth.costs[-1] - growth.costs[-2]) / (sizes[-1] - sizes[-2])
    # Reserved capacity at most doubles the memory: four times the limit may take eight times the memory.
    beyond = growth.costs[-1] > 2 * growth.costs[-2] * sizes[-1] / sizes[-2]
    says = f"{each:.1f} bytes for each unit of the limit: {growth.factors} bytes"
    verdict = CaseVerdict.FAILED if beyond else CaseVerdict.PASSED
    finding = Finding(verdict, says, growth=growth, figures={"bytes_a_unit": each})
    return unless_stalled(finding, *(result for _, result in keys))


def _full_key(env: Environment, limit: int) -> tuple[int, ScenarioResult]:
    """Return the memory that a full key takes, in the process and on Redis together, and the calls that filled it."""
    with env.worker(limit=limit, window=_LONG, trace=True) as worker:
        memory = _Memory(env, worker)
        _run(worker, call(0, env.key(), 2))  # allocates what is shared by all keys
        before, full = memory(), env.key()
        filled = _run(worker, call(0, full, limit))
        return sum(late - early for early, late in zip(before, memory(), strict=True)), filled


@case(
    "performance/memory/denied",
    "Denied requests leave nothing behind in memory.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
)
def memory_by_denials(env: Environment) -> Finding:
    return twice(lambda: _memory_by_denials(env))


def _memory_by_denials(env: Environment) -> Finding:
    limit, denials = 20, 4000
    worker, key = env.worker(limit=limit, window=_LONG, trace=True), env.key()
    memory = _Memory(env, worker)
    filled = _run(worker, call(0, key, limit + 200))
    before = memory()
    result = _run(worker, call(0, key, denials))
    grown = [late - early for early, late in zip(before, memory(), strict=True)]
    each = max(grown) / denials
    where = "in the process" if grown[0] >= grown[1] else "on Redis"
    says = f"{denials} denied requests left {max(0, *grown)} bytes {where}: {max(0.0, each):.2f} a request"
    verdict = CaseVerdict.FAILED if each > _LEAK else CaseVerdict.PASSED
    return unless_stalled(Finding(verdict, says, figures={"bytes_a_denial": each}), filled, result)


@case(
    "performance/memory/requests",
    "A key never holds more than one window of requests, however many windows pass.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
)
def memory_by_requests(env: Environment) -> Finding:
    if Requirement.MANUAL_CLOCK in env.survey.met:
        finding = _memory_by_requests(env, manual=True)
        if finding.verdict is CaseVerdict.PASSED:
            return finding
    # A thread that trims does not run while the clock is advanced by hand: then only real time shows it.
    finding = twice(lambda: _memory_by_requests(env, manual=False))
    return finding if finding.verdict is not CaseVerdict.FAILED else _unless_within_one_window(env, finding)


_IN_REAL_TIME = 600
"""The limit at which the memory of a key is measured in real time."""


def _memory_by_requests(env: Environment, *, manual: bool) -> Finding:
    window = 1.0
    limit, windows = (50, 24) if manual else (_IN_REAL_TIME, 2)
    worker, key = env.worker(limit=limit, window=window, clock="manual" if manual else "real", trace=True), env.key()
    memory, results = _Memory(env, worker), []

    def go_on() -> tuple[int, int]:
        # A window first, so that all units of the last call of this function are free.
        results.append(_run(worker, *(call((n + 1) * 1.02 * window, key, limit) for n in range(windows))))
        return memory()

    go_on()
    before, after = go_on(), go_on()
    grown = max(late - early for early, late in zip(before, after, strict=True))
    each = grown / (limit * windows)
    says = f"{windows} more windows of {limit} requests left {max(0, grown)} bytes: {max(0.0, each):.2f} a request"
    verdict = CaseVerdict.FAILED if each > _LEAK else CaseVerdict.PASSED
    finding = Finding(verdict, says, figures={"bytes_a_request": each, "bytes_left": grown})
    return unless_stalled(finding, *results)


def _unless_within_one_window(env: Environment, finding: Finding) -> Finding:
    """Return a failure as undecided if a key of one window explains what was left.

    In real time a key may be measured nearly empty before, as the calls took long and their units have left the
    window, and full afterwards.
    """
    full, _ = _full_key(env, _IN_REAL_TIME)
    if finding.figures["bytes_left"] > full:
        return finding
    says = f"{finding.says}. But a full key takes {full} bytes"
    return replace(finding, verdict=CaseVerdict.UNDECIDED, says=says)


@case(
    "performance/memory/idle-keys",
    "The memory of keys that are no longer used is released.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def idle_keys(env: Environment) -> Finding:
    number, window, manual = 3000, 1.0, Requirement.MANUAL_CLOCK in env.survey.met
    worker = env.worker(limit=3, window=window, clock="manual" if manual else "real", trace=True)
    memory, busy, sprayed = _Memory(env, worker), env.keys(5), env.keys(number)
    _run(worker, call_each(0, busy, 50))
    before = memory()
    _run(worker, call_each(0, sprayed))
    full = memory()
    # A limiter may sweep a little on each call, so there are more calls than keys; or now and then, so an hour passes
    # on a manual clock.
    calls, lasts = 3 * number, 3600.0 if manual else 4 * window
    _run(worker, call_each(0, busy, calls, pause=lasts / calls))
    left, most = memory()[0] - before[0], full[0] - before[0]
    stored = memory.left_on_redis(before[1], window) if full[1] > before[1] else 0
    says = f"{number} keys took {_bytes(full, before)}; {lasts:g} s later {max(0, left)} and {max(0, stored)} were left"
    figures = {"left_in_the_process_bytes": max(0, left), "left_on_redis_bytes": max(0, stored)}
    if stored > (full[1] - before[1]) / 2 and memory.never_expires():
        return Finding(CaseVerdict.FAILED, f"{says}, some of it without a time to live", figures=figures)
    if most > 64 * number and left > most / 2:
        # In real time, or with a thread that sweeps, the sweep may still be to come.
        certain = manual and not worker.threads()
        return Finding(CaseVerdict.FAILED if certain else CaseVerdict.UNDECIDED, says, figures=figures)
    return Finding(CaseVerdict.PASSED, says, figures=figures)


def _bytes(late: tuple[int, int], early: tuple[int, int]) -> str:
    return f"{late[0] - early[0]} bytes in the process and {late[1] - early[1]} on Redis"


# Redis


@case(
    "performance/redis/round-trips",
    "A decision takes one round trip.",
    RubricLine.PERFORMANCE,
    Requirement.REDIS,
    should=True,
    alone=True,
)
def round_trips(env: Environment) -> Finding:
    calls, key, proxy = 200, env.key(), env.proxy()
    worker = env.worker(limit=100, window=_LONG, redis_url=proxy.url)
    results = [worker.run([call(0, key, 5)])]
    before = proxy.replies
    results.append(worker.run([call(0, key, calls)], lasts=5))
    each = (proxy.replies - before) / calls
    says = f"{each:.2f} round trips a decision, over {calls} decisions"
    verdict = CaseVerdict.PASSED if each < 1.1 else CaseVerdict.FAILED
    finding = Finding(verdict, says, figures={"round_trips_a_decision": each})
    return failure_if_raised(*results) or undecided_if_cut(*results) or unless_stalled(finding, *results)


@case(
    "performance/redis/connections",
    "Connections are kept and reused.",
    RubricLine.PERFORMANCE,
    Requirement.REDIS,
    should=True,
    alone=True,
)
def connections(env: Environment) -> Finding:
    calls, key = 100, env.key()
    worker = env.worker(limit=50, window=_LONG)
    results = [worker.run([call(0, key, 5)])]
    before = _connected(env.server)
    results.append(worker.run([call(0, key, calls)], lasts=5))
    made = _connected(env.server) - before
    says = f"{made} connections were opened for {calls} calls, one after the other"
    finding = Finding(CaseVerdict.PASSED if made <= 3 else CaseVerdict.FAILED, says)
    return failure_if_raised(*results) or undecided_if_cut(*results) or unless_stalled(finding, *results)


def _connected(server: Server) -> int:
    return int(server.client.info("stats")["total_connections_received"])
