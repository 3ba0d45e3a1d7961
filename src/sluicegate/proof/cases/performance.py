"""Performance: what a decision costs does not grow with what came before, and what is kept is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import cut, raised
from sluicegate.proof.crew import Step, Worker, ask, ask_each
from sluicegate.proof.growth import Growth
from sluicegate.proof.need import Need
from sluicegate.proof.rig import Rig
from sluicegate.proof.rubric import Line
from sluicegate.proof.servers import Server
from sluicegate.proof.verdict import Decided, Finding, Verdict

_LONG = 3600.0
_HUGE = 1_000_000
_TIME = "time of a decision, µs"


# Time


def _grown(by: str, sizes: Sequence[int], measure: Callable[[int], float]) -> Finding:
    """Measure a decision at each size; it fails where the time grows with the size itself, twice in a row."""

    def once() -> Finding:
        growth = Growth(_TIME, by, sizes, [measure(size) for size in sizes])
        if growth.linear:
            says = f"a decision takes longer in proportion to the {by}: {growth.factors} µs"
            return Finding(Verdict.FAILED, says, growth=growth)
        return Finding(Verdict.PASSED, f"{growth.factors} µs", growth=growth)

    return _twice(once)


def _twice(measure: Callable[[], Finding]) -> Finding:
    """Measure again what failed: noise, and what is made once for all keys, hardly comes a second time."""
    finding = measure()
    if finding.verdict is not Verdict.FAILED:
        return finding
    again = measure()
    if again.verdict is Verdict.FAILED:
        return again
    return Finding(Verdict.UNDECIDED, f"{again.says}; but before: {finding.says}", growth=again.growth)


def _play(worker: Worker, *steps: Step) -> None:
    """Ask, and keep nothing of it but the first failure, which ends the case."""
    played = worker.play(steps, keep=False, lasts=60)
    failure = raised(played) or cut(played)
    if failure:
        raise Decided(failure)


def _fastest(worker: Worker, keys: Sequence[str], times: int = 20, rounds: int = 9) -> float:
    # The fastest round: what else the machine does only ever adds.
    return min(worker.pace(keys, times, rounds)) * 1e6


@case(
    "performance/time/limit",
    "A decision on a full key takes no longer for a large limit than for a small one.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
    timed=True,
)
def time_by_limit(rig: Rig) -> Finding:
    def measure(limit: int) -> float:
        with rig.worker(limit=limit, window=_LONG) as worker:
            key = rig.key()
            _play(worker, ask(0, key, limit + 1))
            return _fastest(worker, [key])

    return _grown("limit", (10, 100, 1000, 8000), measure)


@case(
    "performance/time/requests",
    "A decision takes no longer after many requests in the window than after few.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
    timed=True,
)
def time_by_requests(rig: Rig) -> Finding:
    def measure(requests: int) -> float:
        with rig.worker(limit=_HUGE, window=_LONG) as worker:
            key = rig.key()
            _play(worker, ask(0, key, requests))
            return _fastest(worker, [key], times=5)

    return _grown("requests", (50, 500, 4000, 12000), measure)


@case(
    "performance/time/keys",
    "A decision takes no longer among many keys than among few.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
    timed=True,
)
def time_by_keys(rig: Rig) -> Finding:
    def measure(number: int) -> float:
        with rig.worker(limit=1000, window=_LONG) as worker:
            keys = rig.keys(number)
            _play(worker, ask_each(0, keys))
            return _fastest(worker, keys[:4])

    return _grown("number of keys", (10, 100, 1000, 8000), measure)


# Memory


_LEAK = 4.0  # bytes a request: less than anything that is kept of one


class _Kept:
    """What a target holds: Python's objects in its process, and its keys on its Redis."""

    def __init__(self, rig: Rig, worker: Worker) -> None:
        self._worker = worker
        self._server: Server | None = rig.server if Need.REDIS in rig.survey.met else None

    def __call__(self) -> tuple[int, int]:
        return self._worker.memory(), self.stored()

    def stored(self) -> int:
        """Return the bytes of all its keys on its Redis."""
        if self._server is None:
            return 0
        client = self._server.client
        return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000))

    def last(self, before: int, window: float) -> int:
        """Return the bytes on its Redis above ``before``, once the server has had time to come by what expired."""
        end_at = time.monotonic() + 2 * window + 4
        while (left := self.stored() - before) > 0 and time.monotonic() < end_at:
            time.sleep(0.2)
        return left

    def lasting(self) -> bool:
        """Tell whether a key on its Redis never expires."""
        client = self._server.client if self._server else None
        return client is not None and any(client.ttl(key) == -1 for key in client.scan_iter(count=1000))


@case(
    "performance/memory/limit",
    "A full key takes no more memory than in proportion to its limit.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
)
def memory_by_limit(rig: Rig) -> Finding:
    return _twice(lambda: _memory_by_limit(rig))


def _memory_by_limit(rig: Rig) -> Finding:
    def measure(limit: int) -> int:
        with rig.worker(limit=limit, window=_LONG, trace=True) as worker:
            held = _Kept(rig, worker)
            _play(worker, ask(0, rig.key(), 2))  # what is made once, for all keys
            before, full = held(), rig.key()
            _play(worker, ask(0, full, limit))
            return sum(late - early for early, late in zip(before, held(), strict=True))

    sizes = (10, 100, 1000, 4000)
    growth = Growth("memory of a full key, bytes", "limit", sizes, [max(1, measure(size)) for size in sizes])
    each = (growth.costs[-1] - growth.costs[-2]) / (sizes[-1] - sizes[-2])
    # Room that is kept in reserve doubles at the most: four times the limit is eight times the memory at the worst.
    beyond = growth.costs[-1] > 2 * growth.costs[-2] * sizes[-1] / sizes[-2]
    says = f"{each:.1f} bytes for each unit of the limit: {growth.factors} bytes"
    verdict = Verdict.FAILED if beyond else Verdict.PASSED
    return Finding(verdict, says, growth=growth, figures={"bytes_a_unit": each})


@case(
    "performance/memory/denied",
    "Denied requests leave nothing behind.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
)
def memory_by_denials(rig: Rig) -> Finding:
    return _twice(lambda: _memory_by_denials(rig))


def _memory_by_denials(rig: Rig) -> Finding:
    limit, denials = 20, 4000
    worker, key = rig.worker(limit=limit, window=_LONG, trace=True), rig.key()
    held = _Kept(rig, worker)
    _play(worker, ask(0, key, limit + 200))
    before = held()
    _play(worker, ask(0, key, denials))
    grown = [late - early for early, late in zip(before, held(), strict=True)]
    each = max(grown) / denials
    where = "in the process" if grown[0] >= grown[1] else "on Redis"
    says = f"{denials} denied requests left {max(0, *grown)} bytes {where}: {max(0.0, each):.2f} a request"
    return Finding(Verdict.FAILED if each > _LEAK else Verdict.PASSED, says, figures={"bytes_a_denial": each})


@case(
    "performance/memory/requests",
    "However many windows pass, a key holds no more than one of them.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
)
def memory_by_requests(rig: Rig) -> Finding:
    moved = Need.MOVED_CLOCK in rig.survey.met
    finding = _memory_by_requests(rig, moved=moved)
    # A thread that trims gets no turn while a clock is moved: then only real time tells.
    return finding if finding.verdict is Verdict.PASSED else _twice(lambda: _memory_by_requests(rig, moved=False))


def _memory_by_requests(rig: Rig, *, moved: bool) -> Finding:
    window = 1.0
    limit, windows = (50, 24) if moved else (600, 2)
    worker, key = rig.worker(limit=limit, window=window, clock="moved" if moved else "real", trace=True), rig.key()
    held = _Kept(rig, worker)

    def go_on() -> tuple[int, int]:
        _play(worker, *(ask(n * 1.02 * window, key, limit) for n in range(windows)))
        return held()

    go_on()
    before, after = go_on(), go_on()
    grown = max(late - early for early, late in zip(before, after, strict=True))
    each = grown / (limit * windows)
    says = f"{windows} more windows of {limit} requests left {max(0, grown)} bytes: {max(0.0, each):.2f} a request"
    return Finding(Verdict.FAILED if each > _LEAK else Verdict.PASSED, says, figures={"bytes_a_request": each})


@case(
    "performance/memory/idle-keys",
    "Keys that nobody asks for any more are given back.",
    Line.PERFORMANCE,
    Need.MADE_HERE,
    alone=True,
    timed=True,
)
def idle_keys(rig: Rig) -> Finding:
    number, window, moved = 3000, 1.0, Need.MOVED_CLOCK in rig.survey.met
    worker = rig.worker(limit=3, window=window, clock="moved" if moved else "real", trace=True)
    held, busy, sprayed = _Kept(rig, worker), rig.keys(5), rig.keys(number)
    _play(worker, ask_each(0, busy, 50))
    before = held()
    _play(worker, ask_each(0, sprayed))
    full = held()
    # A sweep may be shared out over the calls that come anyway, so there are more of them than keys; or it may come
    # now and then, so on a moved clock an hour passes.
    calls, lasts = 3 * number, 3600.0 if moved else 4 * window
    _play(worker, ask_each(0, busy, calls, pause=lasts / calls))
    left, most = held()[0] - before[0], full[0] - before[0]
    stored = held.last(before[1], window) if full[1] > before[1] else 0
    says = f"{number} keys took {_bytes(full, before)}; {lasts:g} s later {max(0, left)} and {max(0, stored)} were left"
    figures = {"left_in_the_process_bytes": max(0, left), "left_on_redis_bytes": max(0, stored)}
    if stored > (full[1] - before[1]) / 2 and held.lasting():
        return Finding(Verdict.FAILED, f"{says}, some of it without a time to live", figures=figures)
    if most > 64 * number and left > most / 2:
        # A sweep that comes every minute, or that a thread of the target's own does, may be yet to come.
        certain = moved and not worker.threads()
        return Finding(Verdict.FAILED if certain else Verdict.UNDECIDED, says, figures=figures)
    return Finding(Verdict.PASSED, says, figures=figures)


def _bytes(late: tuple[int, int], early: tuple[int, int]) -> str:
    return f"{late[0] - early[0]} bytes in the process and {late[1] - early[1]} on Redis"


# Redis


@case(
    "performance/redis/round-trips",
    "A decision is one round trip.",
    Line.PERFORMANCE,
    Need.REDIS,
    should=True,
    alone=True,
)
def round_trips(rig: Rig) -> Finding:
    calls, key, proxy = 200, rig.key(), rig.proxy()
    worker = rig.worker(limit=100, window=_LONG, redis_url=proxy.url)
    played = [worker.play([ask(0, key, 5)])]
    before = proxy.replies
    played.append(worker.play([ask(0, key, calls)], lasts=5))
    each = (proxy.replies - before) / calls
    says = f"{each:.2f} round trips a decision, over {calls} of them"
    return (
        raised(*played)
        or cut(*played)
        or Finding(Verdict.PASSED if each < 1.1 else Verdict.FAILED, says, figures={"round_trips_a_decision": each})
    )


@case(
    "performance/redis/connections",
    "Connections are kept and used again.",
    Line.PERFORMANCE,
    Need.REDIS,
    should=True,
    alone=True,
)
def connections(rig: Rig) -> Finding:
    calls, key = 100, rig.key()
    worker = rig.worker(limit=50, window=_LONG)
    played = [worker.play([ask(0, key, 5)])]
    before = _connected(rig.server)
    played.append(worker.play([ask(0, key, calls)], lasts=5))
    made = _connected(rig.server) - before
    says = f"{made} connections made for {calls} calls, one after the other"
    return raised(*played) or cut(*played) or Finding(Verdict.PASSED if made <= 3 else Verdict.FAILED, says)


def _connected(server: Server) -> int:
    return int(server.client.info("stats")["total_connections_received"])
