"""Concurrency: many at once are held to the limit together, and do not hold each other up."""

from __future__ import annotations

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import cut, kept, raised
from sluicegate.proof.crew import Lane, Played, Worker, ask, soon
from sluicegate.proof.need import Need
from sluicegate.proof.rig import Rig
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Finding, Verdict

_LONG = 60.0
_GAP = 0.02  # seconds between two rounds: in memory all lanes have ended one before the next begins


def _terms(rig: Rig, limit: int) -> tuple[int, float]:
    """Return limit and window for a rush: ones in which nothing is freed meanwhile, where the kit may choose."""
    return (limit, _LONG) if Need.MADE_HERE in rig.survey.met else (rig.limit, rig.window)


def _rush(keys: list[str], lanes: int, limit: int) -> list[Lane]:
    """Let all lanes ask for the same key at the same moment, one key after the other, for more than its limit."""
    times = limit // lanes + 2
    return [[ask(n * _GAP, key, times) for n, key in enumerate(keys)] for _ in range(lanes)]


def _rushed(rig: Rig, workers: list[Worker], lanes: list[Lane], limit: int, window: float) -> Finding:
    begin_at = soon()
    for worker in workers:
        worker.begin(*lanes, begin_at=begin_at, lasts=5)
    played = [worker.played() for worker in workers]
    return kept(rig.history(*played, limit=limit, window=window), *played)


@case(
    "concurrency/threads/one-key",
    "However many threads ask at once, a key is allowed N requests, and not one more.",
    Line.CONCURRENCY,
    Need.SYNC,
    alone=True,
)
def threads(rig: Rig) -> Finding:
    limit, window = _terms(rig, rig.limit)
    lanes = _rush(rig.keys(75), 16, limit)
    return _rushed(rig, [rig.worker(limit=limit, window=window)], lanes, limit, window)


@case(
    "concurrency/threads/new-keys",
    "Threads that meet at a key which nobody has used share one limit.",
    Line.CONCURRENCY,
    Need.SYNC,
    Need.MADE_HERE,
    alone=True,
)
def new_keys(rig: Rig) -> Finding:
    limit, keys = 2, rig.keys(80)
    lanes = [[ask(n * 0.01, key) for n, key in enumerate(keys)]] * 6
    worker = rig.worker(limit=limit, window=_LONG)
    played = worker.play(*lanes, restless=Need.FILE in rig.survey.met, lasts=10)
    # Once more, one after the other: in the rush every denial overlaps with others, and none is certainly right.
    after = worker.play([ask(0, key) for key in keys], lasts=5)
    return kept(rig.history(played, after, limit=limit, window=_LONG), played, after)


@case(
    "concurrency/threads/interleaved",
    "Wherever between two lines of the code a thread is stopped, the limit is kept.",
    Line.CONCURRENCY,
    Need.SYNC,
    Need.FILE,
    alone=True,
)
def interleaved(rig: Rig) -> Finding:
    limit, keys = 4, rig.keys(130)
    worker = rig.worker(limit=limit, window=_LONG)
    known = worker.play([ask(0, key) for key in keys])  # new ones have a case of their own
    lanes = [[ask(n * _GAP, key, 2) for n, key in enumerate(keys)]] * 6
    played = worker.play(*lanes, restless=True, lasts=10)
    after = worker.play([ask(0, key) for key in keys], lasts=5)
    return kept(rig.history(known, played, after, limit=limit, window=_LONG), known, played, after)


@case(
    "concurrency/tasks/one-key",
    "However many tasks ask at once, a key is allowed N requests, and not one more.",
    Line.CONCURRENCY,
    Need.ASYNC,
    alone=True,
)
def tasks(rig: Rig) -> Finding:
    limit, window = _terms(rig, rig.limit)
    lanes = _rush(rig.keys(20), 64, limit)
    return _rushed(rig, [rig.worker(limit=limit, window=window)], lanes, limit, window)


@case(
    "concurrency/processes/one-key",
    "However many processes ask at once, a key is allowed N requests, and not one more.",
    Line.CONCURRENCY,
    Need.SHARED,
    alone=True,
)
def processes(rig: Rig) -> Finding:
    limit, window = _terms(rig, rig.limit)
    lanes = _rush(rig.keys(15), 4, limit)
    return _rushed(rig, [rig.worker(limit=limit, window=window) for _ in range(4)], lanes, limit, window)


@case(
    "concurrency/processes/fleet",
    "Processes that never pause are held to N together in any window, and each unit that is freed is given out.",
    Line.CONCURRENCY,
    Need.SHARED,
    alone=True,
)
def fleet(rig: Rig) -> Finding:
    lane = rig.pressing(rig.keys(3), 2.5 * rig.window)
    return _rushed(rig, [rig.worker() for _ in range(3)], [lane] * 2, rig.limit, rig.window)


# Nobody is held up by others


@case(
    "concurrency/keys/apart",
    "While the store is slow to answer for one key, the others are not kept waiting.",
    Line.CONCURRENCY,
    Need.REDIS,
    alone=True,
    timed=True,
)
def keys_apart(rig: Rig) -> Finding:
    number, delay, times = 8, 0.04, 3
    proxy = rig.proxy()
    worker = rig.worker(window=_LONG, limit=1000, redis_url=proxy.url)
    keys = rig.keys(number)
    rush: list[Lane] = [[ask(0, key, times)] for key in keys]
    worker.play(*rush, lasts=5)  # all connections are made
    proxy.delay = delay
    alone = worker.play([ask(0, keys[0], times)], lasts=5)
    # Twice, and the better counts: a busy machine holds calls up, too, but hardly both times.
    together = min((worker.play(*rush, lasts=number * times) for _ in range(2)), key=_took)
    failure = raised(alone, together) or cut(alone, together)
    if failure:
        return failure
    one, all_ = _took(alone), _took(together)
    history = rig.history(together, limit=1000, window=_LONG)
    says = f"{times} calls for one key took {one:.3f} s, and {times} for each of {number} keys at once {all_:.3f} s"
    # One after the other they would take `number` times as long.
    share = (all_ / one - 1) / (number - 1)
    verdict = Verdict.PASSED if share < 0.25 else Verdict.FAILED if share > 0.6 else Verdict.UNDECIDED
    return Finding(verdict, says, history, figures={"one_key_seconds": one, "all_keys_seconds": all_})


def _took(played: Played) -> float:
    return max(record.end for record in played.records) - min(record.start for record in played.records)


@case(
    "concurrency/loop/free",
    "While the store is slow to answer, the event loop is not held up.",
    Line.CONCURRENCY,
    Need.REDIS,
    Need.ASYNC,
    alone=True,
    timed=True,
)
def loop_is_free(rig: Rig) -> Finding:
    delay = 0.3
    proxy = rig.proxy()
    worker = rig.worker(window=_LONG, limit=1000, redis_url=proxy.url)
    lanes: list[Lane] = [[ask(0, key, 2)] for key in rig.keys(4)]
    worker.play(*lanes, lasts=5)
    proxy.delay = delay
    # Twice, and the better counts: a busy machine holds a loop up, too, but hardly both times.
    played = [worker.play(*lanes, lasts=8) for _ in range(2)]
    stalled = min(each.stalled for each in played)
    says = f"with a store that answers after {delay} s the event loop stood still for up to {stalled:.3f} s"
    # Tasks that are ready together hold it up one after the other, each for a whole answer.
    held_up = stalled > 1.5 * delay
    verdict = Verdict.FAILED if held_up else Verdict.PASSED if stalled < 0.5 * delay else Verdict.UNDECIDED
    return raised(*played) or cut(*played) or Finding(verdict, says, figures={"stalled_seconds": stalled})


@case(
    "concurrency/wait/apart",
    "Who waits for one key does not hold up another.",
    Line.CONCURRENCY,
    Need.WAIT,
    Need.MADE_HERE,
    alone=True,
    timed=True,
)
def waits_apart(rig: Rig) -> Finding:
    limit, window = 2, 2.0
    waiting, other = rig.keys(2)
    worker = rig.worker(limit=limit, window=window)
    played = worker.play(
        [ask(0, waiting, limit), ask(0.1, waiting, verb="wait")],
        [ask(0.3, other, limit)],
        lasts=window,
    )
    failure = raised(played)
    if failure:
        return failure
    waits = [record for record in played.records if record.key == waiting][-1]
    asked = [record for record in played.records if record.key == other]
    slowest = max(asked, key=lambda record: record.end - record.start)
    took, waited = slowest.end - slowest.start, waits.end - waits.start
    says = f"while one waited for {waited:.2f} s for its key, a call for another key took {took:.4f} s"
    if waits.end < slowest.start + 0.2:
        says = f"wait() returned after {waited:.2f} s, before anybody could be held up by it"
        return Finding(Verdict.UNDECIDED, says)
    held_up = slowest.end > waits.end - 0.1
    verdict = Verdict.FAILED if held_up else Verdict.PASSED if took < window / 4 else Verdict.UNDECIDED
    return Finding(verdict, says, rig.history(played, limit=limit, window=window), slowest)
