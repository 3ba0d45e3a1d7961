"""Cases on concurrency: calls made at once share one limit, and do not hold each other up."""

from __future__ import annotations

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import failure_if_raised, limit_kept, undecided_if_cut, worst
from sluicegate.proof.environment import Environment
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import Client, ScenarioResult, Worker, call, keep_calling, soon

_LONG = 60.0
_GAP = 0.02  # seconds between two keys: in memory all clients are done with one before the next begins


def _terms(env: Environment, limit: int) -> tuple[int, float]:
    """Return limit and window for a rush. If the kit may choose them, the window is too long for a unit to be freed."""
    return (limit, _LONG) if Requirement.CONSTRUCTOR in env.survey.met else (env.limit, env.window)


def _rush(keys: list[str], clients: int, limit: int) -> list[Client]:
    """Return clients that all call for the same key at the same moment, one key after the other, past its limit."""
    times = limit // clients + 2
    return [[call(n * _GAP, key, times) for n, key in enumerate(keys)] for _ in range(clients)]


def _run_rush(env: Environment, workers: list[Worker], clients: list[Client], limit: int, window: float) -> Finding:
    start_at = soon()
    for worker in workers:
        worker.start(*clients, start_at=start_at, lasts=5)
    results = [worker.result() for worker in workers]
    return limit_kept(env.history(*results, limit=limit, window=window), *results)


@case(
    "concurrency/threads/one-key",
    "However many threads call at once, a key is allowed N requests, and not one more.",
    RubricLine.CONCURRENCY,
    Requirement.SYNC,
    alone=True,
)
def threads(env: Environment) -> Finding:
    limit, window = _terms(env, env.limit)
    clients = _rush(env.keys(75), 16, limit)
    return _run_rush(env, [env.worker(limit=limit, window=window)], clients, limit, window)


@case(
    "concurrency/threads/new-keys",
    "Threads that use a new key at the same moment share one limit.",
    RubricLine.CONCURRENCY,
    Requirement.SYNC,
    Requirement.CONSTRUCTOR,
    alone=True,
)
def new_keys(env: Environment) -> Finding:
    limit, keys = 2, env.keys(80)
    clients = [[call(n * 0.01, key) for n, key in enumerate(keys)]] * 6
    worker = env.worker(limit=limit, window=_LONG)
    result = worker.run(*clients, preempt=Requirement.FILE in env.survey.met, lasts=10)
    # Call once more, one after the other: in the rush every denial overlaps other calls, so none is certainly right.
    after = worker.run([call(0, key) for key in keys], lasts=5)
    return limit_kept(env.history(result, after, limit=limit, window=_LONG), result, after)


@case(
    "concurrency/threads/interleaved",
    "The limit holds wherever a thread is interrupted, between any two lines of the code.",
    RubricLine.CONCURRENCY,
    Requirement.SYNC,
    Requirement.FILE,
    alone=True,
)
def interleaved(env: Environment) -> Finding:
    limit, keys = 4, env.keys(130)
    worker = env.worker(limit=limit, window=_LONG)
    known = worker.run([call(0, key) for key in keys])  # new keys have their own case
    clients = [[call(n * _GAP, key, 2) for n, key in enumerate(keys)]] * 6
    result = worker.run(*clients, preempt=True, lasts=10)
    after = worker.run([call(0, key) for key in keys], lasts=5)
    return limit_kept(env.history(known, result, after, limit=limit, window=_LONG), known, result, after)


@case(
    "concurrency/threads/window-end",
    "The limit holds when threads call just as units leave the window.",
    RubricLine.CONCURRENCY,
    Requirement.SYNC,
    Requirement.PROCESS,
    alone=True,
)
def window_end(env: Environment) -> Finding:
    findings = []
    for limit, window, clients in (
        (1, 0.05, _when_all_have_left(env, limit=1, window=0.05)),
        (5, 0.1, _as_one_leaves(env, limit=5, window=0.1)),
        (5, 0.25, _as_one_leaves(env, limit=5, window=0.25)),
    ):
        with env.worker(limit=limit, window=window) as worker:
            result = worker.run(*clients, preempt=Requirement.FILE in env.survey.met, lasts=3)
        findings.append(limit_kept(env.history(result, limit=limit, window=window), result))
    return worst(*findings)


_THREADS = 8


def _when_all_have_left(env: Environment, *, limit: int, window: float) -> list[Client]:
    """Return clients that all call at once for keys that were left alone for longer than a window, and between."""
    keys, times = env.keys(2), limit // _THREADS + 2
    rounds = int(1.5 / (0.4 * window))
    return [[call(n * 0.4 * window, keys[n % 2], times) for n in range(rounds)] for _ in range(_THREADS)]


def _as_one_leaves(env: Environment, *, limit: int, window: float) -> list[Client]:
    """Return clients that call without a pause for a key whose units were taken, and so leave, one by one."""
    key = env.key()
    first = call(0, key, limit, pause=window / limit)
    return [[first], *([keep_calling(0.9 * window, 1.5, key, pause=0.0005)] for _ in range(_THREADS))]


@case(
    "concurrency/tasks/one-key",
    "However many tasks call at once, a key is allowed N requests, and not one more.",
    RubricLine.CONCURRENCY,
    Requirement.ASYNC,
    alone=True,
)
def tasks(env: Environment) -> Finding:
    limit, window = _terms(env, env.limit)
    clients = _rush(env.keys(20), 64, limit)
    return _run_rush(env, [env.worker(limit=limit, window=window)], clients, limit, window)


@case(
    "concurrency/processes/one-key",
    "However many processes call at once, a key is allowed N requests, and not one more.",
    RubricLine.CONCURRENCY,
    Requirement.SHARED,
    alone=True,
)
def processes(env: Environment) -> Finding:
    limit, window = _terms(env, env.limit)
    clients = _rush(env.keys(15), 4, limit)
    return _run_rush(env, [env.worker(limit=limit, window=window) for _ in range(4)], clients, limit, window)


@case(
    "concurrency/processes/fleet",
    "Processes that never pause get N together in any window, and every unit that becomes free is handed out.",
    RubricLine.CONCURRENCY,
    Requirement.SHARED,
    alone=True,
)
def fleet(env: Environment) -> Finding:
    client = env.busy_client(env.keys(3), 2.5 * env.window)
    return _run_rush(env, [env.worker() for _ in range(3)], [client] * 2, env.limit, env.window)


# Calls do not hold each other up


@case(
    "concurrency/keys/apart",
    "While the store is slow to answer for one key, calls for other keys do not wait.",
    RubricLine.CONCURRENCY,
    Requirement.REDIS,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def keys_apart(env: Environment) -> Finding:
    number, delay, times = 8, 0.04, 3
    proxy = env.proxy()
    worker = env.worker(window=_LONG, limit=1000, redis_url=proxy.url)
    keys = env.keys(number)
    rush: list[Client] = [[call(0, key, times)] for key in keys]
    worker.run(*rush, lasts=5)  # opens all connections
    proxy.delay = delay
    alone = worker.run([call(0, keys[0], times)], lasts=5)
    # Measured twice, and the better one counts: a busy machine delays calls as well, but hardly both times.
    measured = []
    for _ in range(2):
        before = proxy.owing
        together = worker.run(*rush, lasts=number * times)
        measured.append((_took(together), together, max(proxy.owing - before, together.paused)))
    all_, together, stalled = min(measured, key=lambda each: each[0])
    failure = failure_if_raised(alone, together) or undecided_if_cut(alone, together)
    if failure:
        return failure
    one = _took(alone)
    history = env.history(together, limit=1000, window=_LONG)
    says = f"{times} calls for one key took {one:.3f} s, and {times} for each of {number} keys at once {all_:.3f} s"

    def share(took: float) -> float:
        # If the keys waited for each other, all of them would take `number` times as long as one: a share of 1.
        return (took / one - 1) / (number - 1)

    # Time that the store or the machine took is no evidence against the target.
    held_up = share(all_ - stalled) > 0.6
    verdict = CaseVerdict.PASSED if share(all_) < 0.25 else CaseVerdict.FAILED if held_up else CaseVerdict.UNDECIDED
    if verdict is CaseVerdict.UNDECIDED:
        says = f"{says}; for {stalled:.3f} s of that the store owed an answer, or the machine did not run the target"
    return Finding(verdict, says, history, figures={"one_key_seconds": one, "all_keys_seconds": all_})


def _took(result: ScenarioResult) -> float:
    return max(record.end for record in result.records) - min(record.start for record in result.records)


@case(
    "concurrency/loop/free",
    "While the store is slow to answer, the event loop is not blocked.",
    RubricLine.CONCURRENCY,
    Requirement.REDIS,
    Requirement.ASYNC,
    Requirement.CONSTRUCTOR,
    alone=True,
    timed=True,
)
def loop_is_free(env: Environment) -> Finding:
    delay = 0.3
    proxy = env.proxy()
    worker = env.worker(window=_LONG, limit=1000, redis_url=proxy.url)
    clients: list[Client] = [[call(0, key, 2)] for key in env.keys(4)]
    worker.run(*clients, lasts=5)
    proxy.delay = delay
    # Measured twice, and the better one counts: a busy machine delays the loop as well, but hardly both times.
    results = [worker.run(*clients, lasts=8) for _ in range(2)]
    loop_blocked = min(each.loop_blocked for each in results)
    says = f"with a store that answers after {delay} s the event loop was blocked for up to {loop_blocked:.3f} s"
    # Tasks that are ready at once block it one after the other, each for a whole answer.
    held_up = all(each.loop_blocked - each.paused > 1.5 * delay for each in results)
    verdict = (
        CaseVerdict.FAILED if held_up else CaseVerdict.PASSED if loop_blocked < 0.5 * delay else CaseVerdict.UNDECIDED
    )
    return (
        failure_if_raised(*results)
        or undecided_if_cut(*results)
        or Finding(verdict, says, figures={"stalled_seconds": loop_blocked})
    )
