"""Resilience: Redis away, its memory of scripts gone, clocks apart and stepped, keys that expire."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import exact, kept, kept_below, raised, worst
from sluicegate.proof.crew import Played, Worker, ask, keep_asking, soon
from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import never_over, never_under
from sluicegate.proof.need import Need
from sluicegate.proof.rig import Rig
from sluicegate.proof.rubric import Line
from sluicegate.proof.verdict import Finding, Verdict

_LONG = 60.0
_HOUR = 3600.0
_YEAR = 365 * 86400.0


# Keys that expire


@case("resilience/ttl/set", "Every key on Redis has a time to live.", Line.RESILIENCE, Need.REDIS)
def ttl_is_set(rig: Rig) -> Finding:
    worker = rig.worker(window=_LONG)
    played = worker.play([ask(0, key, rig.limit + 2) for key in rig.keys(3)], [ask(0, rig.key())])
    client = rig.server.client
    lives = {bytes(key): int(client.ttl(key)) for key in client.scan_iter()}
    without = [key for key, seconds in lives.items() if seconds == -1]
    if without:
        says = f"{len(without)} of {len(lives)} keys have no time to live, {_shown(without[0])} among them"
        return Finding(Verdict.FAILED, says)
    if not lives:
        return Finding(Verdict.UNDECIDED, "nothing was found on the Redis that the target was given")
    return raised(played) or Finding(
        Verdict.PASSED, f"{len(lives)} keys, each with one; the longest is {max(lives.values())} s"
    )


@case(
    "resilience/ttl/long-enough",
    "What is counted outlives its window: nothing is forgotten early.",
    Line.RESILIENCE,
    Need.REDIS,
)
def ttl_is_long_enough(rig: Rig) -> Finding:
    limit, findings = 4, []
    for window in (1.0, 2.0):  # parts of a second are for correctness/window/fractional
        key, early = rig.key(), 0.5 * window
        lane = [
            ask(0, key),
            ask(early, key, limit - 1),
            keep_asking(1.01 * window, early + 0.95 * window, key, pause=window / 60),
        ]
        played = rig.worker(limit=limit, window=window).play(lane)
        findings.append(kept_below(rig.history(played, limit=limit, window=window), played))
    return worst(*findings)


def _shown(key: bytes) -> str:
    text = key.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


# Scripts and restarts


@case(
    "resilience/script/flush",
    "When the server has forgotten its scripts, decisions go on, and nothing that was counted is lost.",
    Line.RESILIENCE,
    Need.REDIS,
)
def script_flush(rig: Rig) -> Finding:
    worker, key = rig.worker(window=_LONG, limit=4), rig.key()
    played = [worker.play([ask(0, key, 2)])]
    rig.server.client.script_flush()
    played.append(worker.play([ask(0, key, 4)]))
    history = rig.history(*played, limit=4, window=_LONG)
    return exact(history, *played, denied=2, says="after SCRIPT FLUSH the rest of the limit was allowed, and no more")


@case(
    "resilience/restart/recovers",
    "After a restart of Redis decisions are had again within two seconds, without a restart of the process.",
    Line.RESILIENCE,
    Need.REDIS,
    timed=True,
)
def restart(rig: Rig) -> Finding:
    worker, key, within = rig.worker(window=_LONG, limit=1000), rig.key(), 2.0
    before = worker.play([ask(0, key, 3)])
    rig.server.kill()
    while_away = worker.play([ask(0, key, 8)], lasts=20)
    rig.server.launch()
    after = worker.play([keep_asking(0, within, key, pause=0.05), ask(within, key, 5)], lasts=10)
    history = rig.history(before, while_away, after, limit=1000, window=_LONG, save=False)
    last = after.records[-5:]
    if all(record.allowed for record in last):
        lost = sum(record.allowed is None for record in after.records)
        return Finding(Verdict.PASSED, f"answers as ever after the restart; {lost} calls went wrong at first", history)
    errors = f": {after.errors[-1]}" if after.errors else ""
    says = f"{within:g} s after the restart {sum(not r.allowed for r in last)} of 5 calls were not allowed{errors}"
    return Finding(Verdict.FAILED, says, history, last[-1])


# Outages


@case(
    "resilience/outage/killed",
    "With Redis gone, every call answers True or False within the deadline.",
    Line.RESILIENCE,
    Need.REDIS,
    alone=True,
    timed=True,
)
def killed(rig: Rig) -> Finding:
    return _outage(rig, rig.server.kill)


@case(
    "resilience/outage/paused",
    "With Redis frozen, every call answers True or False within the deadline.",
    Line.RESILIENCE,
    Need.REDIS,
    alone=True,
    timed=True,
)
def paused(rig: Rig) -> Finding:
    return _outage(rig, rig.server.freeze)


def _outage(rig: Rig, begin: Callable[[], None]) -> Finding:
    """Take the store away and see what the callers get, and how long they are held up for it."""
    most = 4 * rig.deadline + 2
    worker, keys = rig.worker(window=_LONG, limit=1000, patience=3 * most), rig.keys(3)
    worker.play(*([ask(0, key, 2)] for key in keys), lasts=5)
    begin()
    played = worker.play(*([ask(0, key, 3)] for key in keys))
    history = rig.history(played, limit=1000, window=_LONG, save=False)
    slowest = max(played.records, key=_took)
    answered = [record for record in played.records if record.allowed is not None]
    what = ", ".join(
        f"{sum(record.allowed is answer for record in played.records)} {word}"
        for answer, word in ((True, "allowed"), (False, "denied"), (None, "raised"))
    )
    says = f"of {len(played.records)} calls {what}; the slowest was held up for {_took(slowest):.2f} s"
    figures = {"slowest_seconds": _took(slowest), "deadline_seconds": rig.deadline}
    if len(answered) < len(played.records):
        says += f". It raised {played.errors[0]}"
    elif _took(slowest) <= rig.deadline:
        return Finding(Verdict.PASSED, says, history, slowest, figures=figures)
    elif _took(slowest) <= 3 * rig.deadline and min(map(_took, played.records)) <= rig.deadline:
        # Some were in time: it may be the machine that was late for the others.
        return Finding(Verdict.UNDECIDED, says, history, slowest, figures=figures)
    return Finding(
        Verdict.FAILED, f"{says}; expected True or False within {rig.deadline:g} s", history, slowest, figures=figures
    )


def _took(record: Record) -> float:
    return record.end - record.start


@case(
    "resilience/reply/lost",
    "A call whose reply is lost is charged once at the most.",
    Line.RESILIENCE,
    Need.REDIS,
    should=True,
)
def reply_lost(rig: Rig) -> Finding:
    limit, key, proxy = 20, rig.key(), rig.proxy()
    worker = rig.worker(limit=limit, window=_LONG, redis_url=proxy.url)
    played = [worker.play([ask(0, key, 2)])]
    for _ in range(3):
        proxy.cut_reply = 1
        played.append(_unsure(worker.play([ask(0, key)], lasts=15)))
        proxy.cut_reply = 0
        played.append(worker.play([ask(0, key)], lasts=15))
    played.append(worker.play([ask(0, key, limit)], lasts=15))
    history = rig.history(*played, limit=limit, window=_LONG)
    under, over = never_under(history), never_over(history)
    if Verdict.FAILED in (under.verdict, over.verdict):
        return worst(under, over)
    # Each lost call may have been charged once, so that no denial is certainly right; charged twice, one is wrong.
    taken = sum(record.allowed is True for record in history.records)
    says = f"after 3 lost replies {taken} of {limit} units were allowed to other calls"
    return Finding(Verdict.PASSED, says, history, history.records[-1])


def _unsure(played: Played) -> Played:
    # A denial may be an answer for want of one, and the unit taken all the same.
    return Played([record._replace(allowed=record.allowed or None) for record in played.records])


# Clocks


@case(
    "resilience/clock/clients",
    "Processes whose clocks are an hour apart are held to the limit together.",
    Line.RESILIENCE,
    Need.REDIS,
    alone=True,
)
def clients_apart(rig: Rig) -> Finding:
    keys, window = rig.keys(3), rig.window
    workers = [rig.worker(wall=wall) for wall in (0.0, _HOUR, -_HOUR)]
    begin_at = soon()
    for worker in workers:
        worker.begin(rig.pressing(keys, 2.3 * window), begin_at=begin_at)
    played = [worker.played() for worker in workers]
    return kept(rig.history(*played), *played)


@case(
    "resilience/clock/wall",
    "A step of the host's wall clock changes nothing for a limiter in memory.",
    Line.RESILIENCE,
    Need.MEMORY,
    Need.MADE_HERE,
    should=True,
)
def wall_clock(rig: Rig) -> Finding:
    window, limit = 2.0, 3
    ahead, behind = rig.keys(2)
    worker = rig.worker(limit=limit, window=window, clock="wall")
    begin_at = soon()
    played = [worker.play([ask(0, ahead, limit), ask(0, behind, limit)], begin_at=begin_at)]
    worker.set_wall(_HOUR)
    played.append(worker.play([ask(0.3, ahead, limit)], begin_at=begin_at))
    worker.set_wall(-_HOUR)
    played.append(worker.play([ask(0.5, behind, 1), ask(window + 0.2, behind, 1)], begin_at=begin_at))
    history = rig.history(*played, limit=limit, window=window)
    return exact(
        history, *played, denied=limit + 1, says="an hour ahead nothing was forgotten, an hour back nothing held longer"
    )


def _stepped(rig: Rig, by: float) -> tuple[History, Played]:
    """Let a worker ask without a pause while the server's clock is stepped."""
    server, window = rig.stepped(), max(rig.window, 1.0)
    keys = rig.keys(2)
    worker: Worker = rig.worker(window=window)
    begin_at = soon()
    worker.begin(rig.pressing(keys, 2.5 * window), begin_at=begin_at)
    time.sleep(max(0.0, begin_at + 0.7 * window - time.monotonic()))
    server.step(by)
    played = worker.played()
    return rig.history(played, window=window, save=False), played


@case(
    "resilience/clock/server-back",
    "After a step back of the server's clock the limit is not exceeded.",
    Line.RESILIENCE,
    Need.REDIS,
    Need.FAKETIME,
)
def server_back(rig: Rig) -> Finding:
    history, played = _stepped(rig, -0.9 * max(rig.window, 1.0))
    return kept_below(history, played)


@case(
    "resilience/clock/server-forward",
    "A step forward of the server's clock gives at most one more N.",
    Line.RESILIENCE,
    Need.REDIS,
    Need.FAKETIME,
)
def server_forward(rig: Rig) -> Finding:
    history, played = _stepped(rig, 30.0)
    twice = History(2 * history.limit, history.window, history.records, history.about)
    finding = raised(played) or never_over(twice)
    # How full the fullest window was says nothing here: nobody has to give a second limit away.
    if finding.verdict is Verdict.UNDECIDED and any(record.allowed is False for record in history.records):
        return Finding(Verdict.PASSED, finding.says, history, finding.at)
    return finding


@case(
    "resilience/clock/server-glitch",
    "After a glitch of a year, over at once, a key is denied for no longer than two windows.",
    Line.RESILIENCE,
    Need.REDIS,
    Need.FAKETIME,
    should=True,
)
def server_glitch(rig: Rig) -> Finding:
    server, key, window = rig.stepped(), rig.key(), max(rig.window, 1.0)
    worker = rig.worker(window=window)
    server.step(_YEAR)
    filled = worker.play([ask(0, key, rig.limit + 1)])
    server.step(0.0)
    after = worker.play([keep_asking(0, 2.2 * window, key, pause=window / 50)])
    history = rig.history(filled, after, window=window, save=False)
    free = [record for record in after.records if record.allowed]
    if free:
        since = free[0].start - filled.records[-1].end
        return Finding(Verdict.PASSED, f"allowed again {since:.2f} s after the glitch", history, free[0])
    says = f"still denied {after.records[-1].end - filled.records[-1].end:.2f} s after the glitch"
    return raised(filled, after) or Finding(Verdict.FAILED, says, history, after.records[-1])
