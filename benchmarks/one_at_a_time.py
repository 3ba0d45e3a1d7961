"""On a server, a decision a round trip: one thread, one task, and 16 threads that go on at once."""

from __future__ import annotations

from contenders.contender import Contender
from contenders.on_redis import EVALSHA, GET, OURS, on_redis
from contenders.on_redis_async import OURS as OURS_AWAITED
from contenders.on_redis_async import on_redis_async
from in_memory import exactness
from rounds import by_threads, sized
from trial import Trial

from sluicegate.proof.servers import Server

LIMIT, WINDOW = 10**6, 60  # never reached
THREADS = 16
TURN, ROUNDS = 0.06, 11
_AIM = 1.15


def run(trial: Trial, server: Server) -> None:
    with on_redis(server.url, LIMIT, WINDOW) as contenders:
        _sequential(trial, server, "one thread", contenders, OURS)
        _threads(trial, server, contenders)
    with trial.entered(on_redis_async(server.url, LIMIT, WINDOW, 1)) as contenders:
        _sequential(trial, server, "one task", contenders, OURS_AWAITED)


def _sequential(trial: Trial, server: Server, what: str, contenders: list[Contender], ours: str) -> None:
    title = f"round trip of a decision, {what}, {server.version}"
    runs = {each.name: trial.repeated(each, ["alice"], TURN) for each in contenders}
    spreads = trial.measured(title, runs, ROUNDS)
    trial.report.table(title, EVALSHA, spreads, exactness(contenders))
    times = spreads[ours].times(spreads[EVALSHA])
    trial.report.aim(
        f"round trip, {what}: time of `allow`, times the client's own EVALSHA", server.version, times, most=_AIM
    )


def _threads(trial: Trial, server: Server, contenders: list[Contender]) -> None:
    title = f"{THREADS} threads, {server.version}"
    keys = [f"user-{n}" for n in range(THREADS)]

    def made(each: Contender):
        return sized(lambda times: by_threads(each.call, keys, THREADS, times), trial.seconds(TURN), least=2 * THREADS)

    # pyrate-limiter answers False, without decide_arguments, where another thread holds its lock.
    some = [each for each in contenders if each.name != "pyrate-limiter"]
    spreads = trial.measured(title, {each.name: made(each) for each in some}, ROUNDS)
    trial.report.table(title, GET, spreads, exactness(some))
    times = spreads[GET].times(spreads[OURS])
    trial.report.aim(
        f"{THREADS} threads: decisions of `allow`, times the client's own GET", server.version, times, least=3
    )
