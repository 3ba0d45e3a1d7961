"""Cases on resilience: Redis outages and restarts, flushed scripts, clocks that differ or step, keys that expire."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import (
    answers_exact,
    failure_if_raised,
    limit_kept,
    limit_not_exceeded,
    unless,
    unless_paused,
    unless_raised,
    unless_stalled,
    worst,
)
from sluicegate.proof.environment import Environment
from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import never_over, never_under, over, unjustified
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.stalls import excused
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import Client, ScenarioResult, Step, Worker, call, call_each, keep_calling, soon

_LONG = 60.0
_HOUR = 3600.0
_DAY = 86400.0
_YEAR = 365 * 86400.0


# Keys that expire


@case("resilience/ttl/set", "Every key on Redis has a time to live.", RubricLine.RESILIENCE, Requirement.REDIS)
def ttl_is_set(env: Environment) -> Finding:
    worker = env.worker(window=_LONG)
    result = worker.run([call(0, key, env.limit + 2) for key in env.keys(3)], [call(0, env.key())])
    client = env.server.client
    lives = {bytes(key): int(client.ttl(key)) for key in client.scan_iter()}
    without = [key for key, seconds in lives.items() if seconds == -1]
    if without:
        says = f"{len(without)} of {len(lives)} keys have no time to live, {_shown(without[0])} among them"
        return Finding(CaseVerdict.FAILED, says)
    if not lives:
        return Finding(CaseVerdict.UNDECIDED, "the target stored nothing on the Redis server whose URL it was given")
    return failure_if_raised(result) or Finding(
        CaseVerdict.PASSED, f"{len(lives)} keys, each with a time to live; the longest is {max(lives.values())} s"
    )


@case(
    "resilience/ttl/long-enough",
    "Keys on Redis outlive their window: no request is forgotten early.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.CONSTRUCTOR,
)
def ttl_is_long_enough(env: Environment) -> Finding:
    limit, findings = 4, []
    for window in (1.0, 2.0):  # correctness/window/fractional has parts of a second
        key, early = env.key(), 0.5 * window
        client = [
            call(0, key),
            call(early, key, limit - 1),
            keep_calling(1.01 * window, early + 0.95 * window, key, pause=window / 60),
        ]
        result = env.worker(limit=limit, window=window).run(client)
        findings.append(limit_not_exceeded(env.history(result, limit=limit, window=window), result))
    return worst(*findings)


@case(
    "resilience/ttl/long",
    "With a window of a minute and a half, of days or of a month, no request is forgotten while nobody calls.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.FAKETIME,
    Requirement.CONSTRUCTOR,
)
def ttl_of_long_windows(env: Environment) -> Finding:
    server, limit, findings = env.stepped(), 3, []
    for window in (90.0, 2 * _DAY, 30 * _DAY):
        key = env.key()
        results = [env.worker(limit=limit, window=window).run([call(0, key, limit)])]
        server.step(server.off_by() + 0.75 * window)
        # Another process, as the first may remember that it was denied.
        results.append(env.worker(limit=limit, window=window).run([call(0, key, 3)]))
        history = env.history(*results, limit=limit, window=window, save=False)
        says = f"after three quarters of {window:g} s all requests still counted"
        findings.append(answers_exact(history, *results, denied=3, says=says))
    return worst(*findings)


@case(
    "resilience/ttl/peeked",
    "Peeking at a key does not keep it on Redis.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.PEEK,
    Requirement.CONSTRUCTOR,
)
def ttl_after_peeks(env: Environment) -> Finding:
    window, (key, other) = 1.0, env.keys(2)
    worker = env.worker(limit=4, window=window)
    filled = worker.run([call(0, key, 2), call(0, other, 2)])
    if not all(_stored(env, each) for each in (key, other)):
        return failure_if_raised(filled) or Finding(
            CaseVerdict.UNDECIDED, "no key on the server has the user's id in it"
        )
    # Until well after the other one is gone, which nobody looks at.
    end_at = time.monotonic() + 30
    while _stored(env, other) and time.monotonic() < end_at:
        looked = worker.run([call(0, key, verb="peek"), call(0.2 * window, key, verb="peek")])
        if raised := failure_if_raised(looked):
            return raised
    if _stored(env, other):
        return Finding(CaseVerdict.UNDECIDED, "keys stay on the server for longer than this case waits")
    worker.run([keep_calling(0, window, key, pause=0.2 * window, verb="peek")])
    left = _stored(env, key)
    if left:
        says = f"{_shown(left[0])} was on the server a window after a key of the same age had gone: peeks had kept it"
        return Finding(CaseVerdict.FAILED, says)
    return Finding(CaseVerdict.PASSED, "a key that was peeked at went when another of its age did")


def _stored(env: Environment, key: str) -> list[bytes]:
    """Return the keys on the server that have a user's id in them."""
    return [bytes(name) for name in env.server.client.scan_iter(count=1000) if key.encode() in bytes(name)]


def _shown(key: bytes) -> str:
    text = key.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


# Scripts and restarts


@case(
    "resilience/script/flush",
    "After SCRIPT FLUSH, decisions go on and no counted request is lost.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.CONSTRUCTOR,
)
def script_flush(env: Environment) -> Finding:
    worker, key = env.worker(window=_LONG, limit=4), env.key()
    results = [worker.run([call(0, key, 2)])]
    env.server.client.script_flush()
    results.append(worker.run([call(0, key, 4)]))
    history = env.history(*results, limit=4, window=_LONG)
    return answers_exact(
        history, *results, denied=2, says="after SCRIPT FLUSH the rest of the limit was allowed, and no more"
    )


@case(
    "resilience/restart/recovers",
    "After Redis restarts, decisions work again within two seconds, without a restart of the process.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    timed=True,
)
def restart(env: Environment) -> Finding:
    worker, keys, within = env.worker(window=_LONG, limit=1000), env.keys(50), 2.0
    # Each key is used once or twice: the kit cannot raise the limit of every service.
    before = worker.run([call_each(0, keys, 3)])
    env.server.kill()
    while_down = worker.run([call_each(0, keys, 8)], lasts=20)
    env.server.launch()
    after = worker.run([keep_calling(0, within, *keys, pause=0.05), call_each(within, env.keys(5))], lasts=10)
    history = env.history(before, while_down, after, limit=1000, window=_LONG, save=False)
    last = after.records[-5:]
    if all(record.allowed for record in last):
        failed = sum(record.allowed is None for record in after.records)
        return Finding(CaseVerdict.PASSED, f"answers again after the restart; {failed} calls failed at first", history)
    errors = f": {after.errors[-1]}" if after.errors else ""
    says = f"{within:g} s after the restart {sum(not r.allowed for r in last)} of 5 calls were not allowed{errors}"
    finding = Finding(CaseVerdict.FAILED, says, history, last[-1])
    allowed = [record for record in after.records if record.allowed]
    # If it had recovered, a stall of its last calls may have kept it from showing that.
    return unless_stalled(finding, ScenarioResult([*allowed, *last])) if allowed else finding


@case(
    "resilience/restart/limits",
    "After Redis restarts the limit holds again within two seconds, for all processes together.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    timed=True,
)
def restart_limits(env: Environment) -> Finding:
    return _after(env, [(0.5, env.server.kill), (2.0, env.server.launch)], keeps=False)


@case(
    "resilience/outage/thawed",
    "After Redis was frozen, every answer is that of its own request again: full keys are denied, fresh ones allowed.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    timed=True,
)
def thawed(env: Environment) -> Finding:
    freeze, thaw = env.server.freeze, env.server.thaw
    # Two short ones, at whose end a call may still wait; and one that outlasts what callers do about it.
    short = [(0.5, freeze), (0.65, thaw), (0.9, freeze), (1.15, thaw)]
    return _after(env, [*short, (1.4, freeze), (2.9, thaw)], keeps=True)


_RECOVERS = 2.0
"""Seconds after an outage until the limit holds again."""


def _after(env: Environment, outage: list[tuple[float, Callable[[], None]]], *, keeps: bool) -> Finding:
    """Let two processes call before, during and after an outage; then see that they share the limit of fresh keys.

    Args:
        env: The environment.
        outage: What happens to the server, and when, in seconds.
        keeps: Whether it keeps its data, so that a key that was full before is still.
    """
    limit, window = (3, _LONG) if Requirement.CONSTRUCTOR in env.survey.met else (env.limit, env.window)
    judged_at = outage[-1][0] + _RECOVERS
    full = [env.key()] if keeps and window > 2 * judged_at else []
    ask_full = [call(judged_at, key) for key in full]
    # The same callers all the time, as each may have a connection of its own: four in each process, with four keys.
    fresh = [env.keys(4) for _ in range(4)]
    fill: list[Client] = [
        [
            *([call(0, key, limit) for key in full] if n == 0 else []),
            *_calling_on(env, judged_at),
            *(step for key in keys for step in (call(judged_at + 0.1, key, limit + 1), *ask_full)),
        ]
        for n, keys in enumerate(fresh)
    ]
    later = judged_at + min(1.0, 0.4 * window)
    again: list[Client] = [
        [*_calling_on(env, judged_at), *(step for key in keys for step in (call(later, key), *ask_full))]
        for keys in fresh
    ]
    workers, start_at = [env.worker(limit=limit, window=window) for _ in range(2)], soon()
    for worker, clients in zip(workers, (fill, again), strict=True):
        worker.start(*clients, start_at=start_at, lasts=8 * env.deadline + 10)
    for at, happens in outage:
        time.sleep(max(0.0, start_at + at - time.monotonic()))
        happens()
    late = time.monotonic() - start_at - outage[-1][0]
    results = [worker.result() for worker in workers]
    found = _shared_again(env, results, {*full, *(key for keys in fresh for key in keys)}, limit, window)
    return unless(found, f"the server was back {late:.2f} s late" if late > 0.2 else "")


def _calling_on(env: Environment, until: float) -> list[Step]:
    return [call_each(0, env.keys(3)), keep_calling(0.3, until, *env.keys(50), pause=0.03)]


def _shared_again(
    env: Environment, results: list[ScenarioResult], keys: set[str], limit: int, window: float
) -> Finding:
    """Judge the keys that were not used during the outage."""
    judged = [ScenarioResult([record for record in each.records if record.key in keys]) for each in results]
    if any(record.allowed is None for each in judged for record in each.records):
        judged = [replace(each, records=mine.records) for each, mine in zip(results, judged, strict=True)]
        return failure_if_raised(*judged) or Finding(CaseVerdict.UNDECIDED, "some calls were not answered")
    history = env.history(*judged, limit=limit, window=window, save=False)
    says = f"fresh keys were allowed {limit} by two processes together, and no key more than that"
    return answers_exact(history, *judged, denied=2 * 16, says=says)


# Outages


@case(
    "resilience/outage/killed",
    "With Redis down, every call returns True or False within the deadline.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    alone=True,
    timed=True,
)
def killed(env: Environment) -> Finding:
    return _outage(env, env.server.kill)


@case(
    "resilience/outage/paused",
    "With Redis frozen, every call returns True or False within the deadline.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    alone=True,
    timed=True,
)
def paused(env: Environment) -> Finding:
    return _outage(env, env.server.freeze)


def _outage(env: Environment, begin: Callable[[], None]) -> Finding:
    """Begin an outage; check what the callers get, and how long it takes."""
    most = 4 * env.deadline + 2
    worker, keys = env.worker(window=_LONG, limit=1000, patience=3 * most), env.keys(3)
    worker.run(*([call(0, key, 2)] for key in keys), lasts=5)
    begin()
    result = worker.run(*([call(0, key, 3)] for key in keys))
    history = env.history(result, limit=1000, window=_LONG, save=False)
    slowest = max(result.records, key=_took)
    answered = [record for record in result.records if record.allowed is not None]
    what = ", ".join(
        f"{sum(record.allowed is answer for record in result.records)} {word}"
        for answer, word in ((True, "allowed"), (False, "denied"), (None, "raised"))
    )
    says = f"of {len(result.records)} calls {what}; the slowest took {_took(slowest):.2f} s"
    figures = {"slowest_seconds": _took(slowest), "deadline_seconds": env.deadline}
    if len(answered) < len(result.records):
        says += f". It raised {result.errors[0]}"
    elif _took(slowest) <= env.deadline:
        return Finding(CaseVerdict.PASSED, says, history, slowest, figures=figures)
    elif _took(slowest) <= 3 * env.deadline and min(map(_took, result.records)) <= env.deadline:
        # Some were in time: the machine may have been the reason that the others were late.
        return Finding(CaseVerdict.UNDECIDED, says, history, slowest, figures=figures)
    says = f"{says}; expected True or False within {env.deadline:g} s"
    failure = Finding(CaseVerdict.FAILED, says, history, slowest, figures=figures)
    return failure if len(answered) < len(result.records) else unless_paused(failure, result, for_=env.deadline)


def _took(record: Record) -> float:
    return record.end - record.start


@case(
    "resilience/reply/lost",
    "A call whose reply is lost is charged at most once.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.CONSTRUCTOR,
    should=True,
)
def reply_lost(env: Environment) -> Finding:
    limit, key, proxy = 20, env.key(), env.proxy()
    worker = env.worker(limit=limit, window=_LONG, redis_url=proxy.url)
    results = [worker.run([call(0, key, 2)])]
    for _ in range(3):
        proxy.cut_reply = 1
        results.append(_without_denials(worker.run([call(0, key)], lasts=15)))
        proxy.cut_reply = 0
        results.append(worker.run([call(0, key)], lasts=15))
    results.append(worker.run([call(0, key, limit)], lasts=15))
    history = env.history(*results, limit=limit, window=_LONG)
    over = never_over(history)
    if over.verdict is CaseVerdict.FAILED:
        return over
    if unjustified(history.records, history.limit, history.window):
        return never_under(history)
    # Each lost call may have been charged once, so no denial is certainly right. If one was charged twice, a denial is
    # certainly wrong.
    taken = sum(record.allowed is True for record in history.records)
    says = f"after 3 lost replies {taken} of {limit} units were allowed to other calls"
    return Finding(CaseVerdict.PASSED, says, history, history.records[-1])


def _without_denials(result: ScenarioResult) -> ScenarioResult:
    # A limiter that fails closed denies when the reply is lost, and the unit may be taken all the same.
    return ScenarioResult([record._replace(allowed=record.allowed or None) for record in result.records])


# Clocks


@case(
    "resilience/clock/clients",
    "Processes whose clocks differ by an hour share one limit; so do those whose monotonic clocks began elsewhere.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.PROCESS,
    alone=True,
)
def clients_apart(env: Environment) -> Finding:
    keys, window = env.keys(3), env.window
    off = ((0.0, 0.0), (_HOUR, 2 * _HOUR), (-_HOUR, 5 * _HOUR))
    workers = [env.worker(wall=wall, monotonic=monotonic) for wall, monotonic in off]
    start_at = soon()
    for worker in workers:
        worker.start(env.busy_client(keys, 2.3 * window), start_at=start_at)
    results = [worker.result() for worker in workers]
    return limit_kept(env.history(*results), *results)


@case(
    "resilience/clock/wall",
    "A step of the host's wall clock does not affect a limiter in memory.",
    RubricLine.RESILIENCE,
    Requirement.MEMORY,
    Requirement.CONSTRUCTOR,
    should=True,
)
def wall_clock(env: Environment) -> Finding:
    window, limit = 2.0, 3
    ahead, behind = env.keys(2)
    worker = env.worker(limit=limit, window=window, clock="wall")
    start_at = soon()
    results = [worker.run([call(0, ahead, limit), call(0, behind, limit)], start_at=start_at)]
    worker.set_wall(_HOUR)
    results.append(worker.run([call(0.3, ahead, limit)], start_at=start_at))
    worker.set_wall(-_HOUR)
    results.append(worker.run([call(0.5, behind, 1), call(window + 0.2, behind, 1)], start_at=start_at))
    history = env.history(*results, limit=limit, window=window)
    return answers_exact(
        history,
        *results,
        denied=limit + 1,
        says="no unit was freed early by a step ahead, or held longer after a step back",
    )


def _stepped(env: Environment, by: float) -> tuple[History, ScenarioResult]:
    """Keep a worker calling without a pause while the server's clock is stepped."""
    server, window = env.stepped(), max(env.window, 1.0)
    keys = env.keys(2)
    worker: Worker = env.worker(window=window)
    start_at = soon()
    worker.start(env.busy_client(keys, 2.5 * window), start_at=start_at)
    time.sleep(max(0.0, start_at + 0.7 * window - time.monotonic()))
    server.step(by)
    result = worker.result()
    return env.history(result, window=window, save=False), result


@case(
    "resilience/clock/server-back",
    "After the server's clock steps back, the limit is not exceeded.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.FAKETIME,
    Requirement.CONSTRUCTOR,
)
def server_back(env: Environment) -> Finding:
    history, result = _stepped(env, -0.9 * max(env.window, 1.0))
    return limit_not_exceeded(history, result)


@case(
    "resilience/clock/server-forward",
    "A step forward of the server's clock allows at most N more.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.FAKETIME,
    Requirement.CONSTRUCTOR,
)
def server_forward(env: Environment) -> Finding:
    history, result = _stepped(env, 30.0)
    twice = replace(history, limit=2 * history.limit)
    finding = unless_raised(never_over(twice), result)
    # Here the fullest window need not be full: a limiter does not have to allow a second limit.
    within = not over(twice.records, twice.limit, twice.window)
    if (
        finding.verdict is CaseVerdict.UNDECIDED
        and within
        and any(record.allowed is False for record in history.records)
    ):
        return Finding(CaseVerdict.PASSED, finding.says, history, finding.at)
    return finding


@case(
    "resilience/clock/server-glitch",
    "If the server's clock jumps a year ahead and straight back, a key is denied for at most two windows.",
    RubricLine.RESILIENCE,
    Requirement.REDIS,
    Requirement.FAKETIME,
    Requirement.CONSTRUCTOR,
    should=True,
)
def server_glitch(env: Environment) -> Finding:
    server, key, window = env.stepped(), env.key(), max(env.window, 1.0)
    worker = env.worker(window=window)
    server.step(_YEAR)
    filled = worker.run([call(0, key, env.limit + 1)])
    server.step(0.0)
    back_at = time.monotonic()
    after = worker.run([keep_calling(0, 2.2 * window, key, pause=window / 50)])
    history = env.history(filled, after, window=window, save=False)
    free = [record for record in after.records if record.allowed]
    if free:
        since = free[0].start - filled.records[-1].end
        return Finding(CaseVerdict.PASSED, f"allowed again {since:.2f} s after the glitch", history, free[0])
    raised = failure_if_raised(filled, after)
    late = [r for r in excused(after.records) if r.allowed is False and r.start >= back_at + 2 * window]
    if raised or not late:
        says = "no call was answered in time when two windows had passed"
        return raised or Finding(CaseVerdict.UNDECIDED, says, history)
    says = f"still denied {late[-1].start - back_at:.2f} s after the glitch"
    return Finding(CaseVerdict.FAILED, says, history, late[-1])
