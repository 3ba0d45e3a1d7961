"""Cases on performance: the cost of a decision does not grow with the requests before it, and memory is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from statistics import median

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import failure_if_raised, twice, undecided_if_cut, unless_stalled, worst
from sluicegate.proof.cases.moving import MovedClock
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


_FLOOR = 20.0
"""Microseconds by which a decision must have become slower: a cache that overflows makes a dictionary slower, too."""


def _grown(
    by: str, sizes: Sequence[int], measure: Callable[[int], float], *, of: str = _TIME, least: float = _FLOOR
) -> Finding:
    """Time a decision at each size; fail if the time grows in proportion to the size, twice in a row.

    Args:
        by: What the sizes are of.
        sizes: The sizes, rising.
        measure: Returns the microseconds at one size.
        of: What it measures.
        least: Microseconds by which the time must have grown.
    """

    def once() -> Finding:
        growth = Growth(of, by, sizes, [measure(size) for size in sizes])
        if growth.linear and growth.costs[-1] - growth.costs[0] >= least:
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
    Requirement.PROCESS,
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
    Requirement.PROCESS,
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
    Requirement.PROCESS,
    alone=True,
    timed=True,
)
def time_by_keys(env: Environment) -> Finding:
    def measure(number: int) -> float:
        _flush(env)
        with env.worker(limit=1000, window=_LONG) as worker:
            keys = env.keys(number)
            _run(worker, call_each(0, keys))
            return _fastest(worker, keys[:4])

    return _grown("number of keys", (10, 100, 1000, 8000), measure)


def _flush(env: Environment) -> None:
    """Empty the Redis server of the case, so that the keys of a measurement are all that it holds."""
    if Requirement.REDIS in env.survey.met:
        env.server.client.flushall()


_SINGLE = "longest decision, processor time in µs"

_LONG_DECISION = 3000.0
"""Microseconds that one call may take longer among many keys than among few."""

_LONG_AMONG_FEW = 5000.0
"""Microseconds that one call may take in any case: hundreds of times what others take."""


@case(
    "performance/time/worst",
    "No single decision takes long, for instance because there are many keys.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    Requirement.PROCESS,
    alone=True,
    timed=True,
)
def worst_time(env: Environment) -> Finding:
    sizes = (500, 2000, 8000) if Requirement.REDIS in env.survey.met else (1000, 4000, 16000)
    found = _grown("number of keys", sizes, lambda number: _among(env, number), of=_SINGLE, least=_LONG_DECISION)
    if found.verdict is not CaseVerdict.PASSED or found.growth is None or found.growth.costs[0] < _LONG_AMONG_FEW:
        return found
    among_few = twice(lambda: _long_among_few(env, sizes[0]))
    return among_few if among_few.verdict is not CaseVerdict.PASSED else found


def _long_among_few(env: Environment, number: int) -> Finding:
    longest = _among(env, number)
    says = f"among {number} keys one decision took {longest / 1000:.1f} ms of processor time"
    return Finding(CaseVerdict.FAILED if longest >= _LONG_AMONG_FEW else CaseVerdict.PASSED, says)


def _among(env: Environment, number: int) -> float:
    """Return the processor time of the longest of many decisions among so many keys, in µs."""
    manual = Requirement.MANUAL_CLOCK in env.survey.met
    _flush(env)
    with env.worker(limit=5, window=_LONG, clock="manual" if manual else "real") as worker:
        keys = env.keys(number)
        _run(worker, call_each(0, keys))
        # Long enough for what is done once in a thousand calls, or once a second.
        if Requirement.REDIS in env.survey.met:
            return max(_time_of_one(env, worker, key) for key in islice(cycle(keys[:50]), 1500))
        # Twice: a page fault, or whatever else may stop a thread, hardly does so both times.
        pause = 0.1 if manual else 0.0005
        return min(max(worker.time_each(keys[:50], 2500, pause)) for _ in range(2 if manual else 1)) * 1e6


_PROCESSOR = "processor time of a decision, µs"


@case(
    "performance/time/expiry",
    "A decision takes no longer while units leave a large window than while they leave a small one.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    Requirement.PROCESS,
    alone=True,
    timed=True,
)
def time_by_expiry(env: Environment) -> Finding:
    clock = MovedClock(env)
    return _grown("limit", (100, 1000, 8000), lambda limit: _as_units_leave(env, clock, limit), of=_PROCESSOR)


def _as_units_leave(env: Environment, clock: MovedClock, limit: int) -> float:
    """Return the usual processor time, in µs, of a call before which a unit has left the window."""
    number, took = 20, []
    with clock.worker(limit, _LONG) as worker:
        key = env.key()
        for _ in range(number):
            _run(worker, call(0, key))
            clock.pass_(worker, 10.0)
        _run(worker, call(0, key, limit - number))
        clock.pass_(worker, _LONG - 10.0 * number + 5.0)
        for _ in range(number):
            took.append(_time_of_one(env, worker, key))
            clock.pass_(worker, 10.0)
    return median(took)


def _time_of_one(env: Environment, worker: Worker, key: str) -> float:
    """Return the processor time of one call in the process and on the server, in µs."""
    before = _server_time(env)
    (took,) = worker.time_each([key], 1)
    return (took + _server_time(env) - before) * 1e6


@case(
    "performance/time/ends",
    "When a whole window of requests has ended at once, the next decision does not take longer in proportion.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    Requirement.PROCESS,
    alone=True,
    timed=True,
)
def time_when_all_end(env: Environment) -> Finding:
    clock, sizes = MovedClock(env), (1000, 4000, 16000)
    return _grown("limit", sizes, lambda limit: _when_all_end(env, clock, limit), of=_FIRST, least=_ALL_LEAVE)


_FIRST = "first decision after the window, processor time in µs"

_ALL_LEAVE = 10_000.0
"""Microseconds that it may take to drop 16 000 requests: a microsecond for each is less than that."""


def _when_all_end(env: Environment, clock: MovedClock, limit: int) -> float:
    """Return the processor time, in µs, of the first call when all but one request have left the window at once."""
    with clock.worker(limit, _LONG) as worker:
        key = env.key()
        _run(worker, call(0, key, limit - 1))
        clock.pass_(worker, 0.6 * _LONG)
        _run(worker, call(0, key))  # so that the key outlives the others
        clock.pass_(worker, 0.6 * _LONG)
        return _time_of_one(env, worker, key)


def _server_time(env: Environment) -> float:
    """Return the processor time in seconds that the server's main thread has used."""
    if Requirement.REDIS not in env.survey.met:
        return 0.0
    used = env.server.client.info("cpu")
    of_main_thread = [used.get(f"used_cpu_{kind}_main_thread", used[f"used_cpu_{kind}"]) for kind in ("user", "sys")]
    return float(sum(of_main_thread))


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
    Requirement.PROCESS,
    alone=True,
)
def memory_by_limit(env: Environment) -> Finding:
    return _twice_in_one_process(lambda again: _memory_by_limit(env, again=again))


def _twice_in_one_process(measure: Callable[[bool], Finding]) -> Finding:
    """Measure, and after a failure once more, in a process that has done the same before.

    What is allocated once for all keys shows the first time only: a table of the interpreter's, for example, that
    doubles when it is full.
    """
    runs = iter((False, True))
    return twice(lambda: measure(next(runs)))


def _memory_by_limit(env: Environment, *, again: bool) -> Finding:
    sizes = (10, 100, 1000, 4000)
    keys = [_full_key(env, size, again=again) for size in sizes]
    growth = Growth("memory of a full key, bytes", "limit", sizes, [max(1, memory) for memory, _ in keys])
    each = (growth.costs[-1] - growth.costs[-2]) / (sizes[-1] - sizes[-2])
    # Reserved capacity at most doubles the memory: four times the limit may take eight times the memory.
    beyond = growth.costs[-1] > 2 * growth.costs[-2] * sizes[-1] / sizes[-2]
    says = f"{each:.1f} bytes for each unit of the limit: {growth.factors} bytes"
    verdict = CaseVerdict.FAILED if beyond else CaseVerdict.PASSED
    finding = Finding(verdict, says, growth=growth, figures={"bytes_a_unit": each})
    return unless_stalled(finding, *(result for _, result in keys))


def _full_key(env: Environment, limit: int, *, again: bool = False) -> tuple[int, ScenarioResult]:
    """Return the memory that a full key takes, in the process and on Redis together, and the calls that filled it.

    With ``again``, that of the second one in a process.
    """
    with env.worker(limit=limit, window=_LONG, trace=True) as worker:
        memory = _Memory(env, worker)
        _run(worker, call(0, env.key(), limit if again else 2))  # allocates what is shared by all keys
        before, full = memory(), env.key()
        filled = _run(worker, call(0, full, limit))
        return sum(late - early for early, late in zip(before, memory(), strict=True)), filled


@case(
    "performance/memory/denied",
    "Denied requests leave nothing behind in memory.",
    RubricLine.PERFORMANCE,
    Requirement.CONSTRUCTOR,
    Requirement.PROCESS,
    alone=True,
)
def memory_by_denials(env: Environment) -> Finding:
    return _twice_in_one_process(lambda again: _memory_by_denials(env, again=again))


def _memory_by_denials(env: Environment, *, again: bool) -> Finding:
    limit, denials = 20, 4000
    worker, key = env.worker(limit=limit, window=_LONG, trace=True), env.key()
    memory = _Memory(env, worker)
    filled = _run(worker, call(0, key, limit + (denials if again else 200)))
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
    Requirement.PROCESS,
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
    Requirement.PROCESS,
    alone=True,
    timed=True,
)
def idle_keys(env: Environment) -> Finding:
    manual = Requirement.MANUAL_CLOCK in env.survey.met
    worker = env.worker(limit=3, window=1.0, clock="manual" if manual else "real", trace=True)
    memory = _Memory(env, worker)
    _run(worker, call_each(0, env.keys(5), 50))

    def requests() -> list[Step]:
        keys = env.keys(3000)
        return [call_each(0, keys), call_each(0, keys[:1000], 4000)]  # the second time around they are denied

    def looks() -> list[Step]:
        return [call_each(0, env.keys(3000), verb="peek")]

    found = twice(lambda: _left_of(env, worker, memory, requests(), "keys took"))
    if Requirement.PEEK in env.survey.met:
        found = worst(
            found, twice(lambda: _left_of(env, worker, memory, looks(), "keys that were only peeked at took"))
        )
    return found


def _left_of(env: Environment, worker: Worker, memory: _Memory, steps: Sequence[Step], took: str) -> Finding:
    """Make calls for 3000 keys, and see what is left of them once nobody has used them for long."""
    number, window, manual = 3000, 1.0, Requirement.MANUAL_CLOCK in env.survey.met
    before = memory()
    _run(worker, *steps)
    full = memory()
    # A limiter may sweep a little on each call, so there are more calls than keys; or now and then, so an hour passes
    # on a manual clock.
    calls, lasts = 3 * number, 3600.0 if manual else 4 * window
    _run(worker, call_each(0, env.keys(5), calls, pause=lasts / calls))
    left, most = memory()[0] - before[0], full[0] - before[0]
    stored = memory.left_on_redis(before[1], window) if full[1] > before[1] else 0
    says = f"{number} {took} {_bytes(full, before)}; {lasts:g} s later {max(0, left)} and {max(0, stored)} were left"
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
    Requirement.CONSTRUCTOR,
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
    Requirement.CONSTRUCTOR,
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
