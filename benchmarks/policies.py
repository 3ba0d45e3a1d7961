"""What several policies in one decision cost beside one, and what each algorithm costs.

The policies of one decision are sliding windows, each on a key of its own. A round trip is one thread's, `take` to
decision; server time is the server's own count (INFO commandstats), without the wire.
"""

from __future__ import annotations

from collections.abc import Callable

from batches import Charges, decide_together
from contenders.on_redis import asking
from rounds import Run, loop, sized
from server_time import spent
from trial import Trial

from sluicegate import CalendarWindow, FixedWindow, Limiter, RedisStore, SlidingWindow, TokenBucket
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge
from sluicegate.proof import servers
from sluicegate.proof.servers import Server

MANY = 10**9  # never reached: every call is allowed
COUNTS = (1, 2, 3, 5, 10)
BATCH = 64
ONE = "1 policy"

KEY = {"user": "alice", "tenant": "acme", "endpoint": "/pay"}
MIXED = (
    SlidingWindow(MANY, window=60, per="user"),
    SlidingWindow(MANY, window=60, per="tenant"),
    SlidingWindow(MANY, window=1, per=("user", "endpoint")),
    SlidingWindow(MANY, window=1, shared=True),
)
MIXED_NAME = "4 policies: user, tenant, user and endpoint, all"
ALGORITHMS: dict[str, Callable[[int, str], Policy]] = {
    "sliding window": lambda limit, name: SlidingWindow(limit, window=3600, name=name),
    "sliding window, 600 buckets": lambda limit, name: SlidingWindow(limit, window=3600, buckets=600, name=name),
    "token bucket": lambda limit, name: TokenBucket(limit, window=3600, name=name),
    "fixed window": lambda limit, name: FixedWindow(limit, window=3600, name=name),
    "calendar window": lambda limit, name: CalendarWindow(limit, every="day", name=name),
}


def several(limit: int, count: int) -> list[Policy]:
    """So many sliding windows of one limit."""
    return [SlidingWindow(limit, window=3600, name=f"of-{limit}-{count}-{n}") for n in range(count)]


def counted(count: int) -> str:
    return ONE if count == 1 else f"{count} policies"


def takes(trial: Trial, limit: int, seconds: float, store: RedisStore | None = None) -> dict[str, Run]:
    """Limiters of one policy and of several, all of them allowed or all of them denied."""
    runs = {}
    for count in COUNTS:
        limiter = Limiter(*several(limit, count), store=store)
        runs[counted(count)] = repeated(trial, limiter, "alice", seconds)
    return runs


def repeated(trial: Trial, limiter: Limiter, key: object, seconds: float) -> Run:
    return sized(lambda times: loop(limiter.take, key, times), trial.seconds(seconds))  # type: ignore[arg-type]


def growth(trial: Trial, title: str, runs: dict[str, Run], rounds: int = 13) -> None:
    trial.report.table(title, ONE, trial.measured(title, runs, rounds))


def run(trial: Trial) -> None:
    in_memory(trial)
    for kind in servers.binaries():
        with servers.running(kind) as server:
            on_a_server(trial, server)


def in_memory(trial: Trial) -> None:
    growth(trial, "in memory, take, allowed", takes(trial, MANY, 0.02))
    growth(trial, "in memory, take, denied", takes(trial, 1, 0.02))
    title = "in memory, take, by algorithm, allowed"
    limiters = {name: Limiter(make(2 * 10**6, "a")) for name, make in ALGORITHMS.items()}
    runs = {name: repeated(trial, limiter, "alice", 0.02) for name, limiter in limiters.items()}
    trial.report.table(title, "sliding window", trial.measured(title, runs, 13))


def on_a_server(trial: Trial, server: Server) -> None:
    with asking(RedisStore, server.url) as store:
        where = f"round trip, one thread, {server.version}"
        allowed = takes(trial, MANY, 0.04, store)
        allowed[MIXED_NAME] = repeated(trial, Limiter(*MIXED, store=store), KEY, 0.04)
        growth(trial, f"{where}, allowed", allowed)
        growth(trial, f"{where}, denied", takes(trial, 1, 0.04, store))

        def request(policies: list[Policy], key: str = "alice") -> Charges:
            return tuple(Charge(policy, key, 1) for policy in policies)

        def of(requests: list[Charges], calls: int) -> Run:
            return spent(server, lambda: decide_together(store, requests), calls, len(requests))

        title = f"server time, one decision a call, allowed, {server.version}"
        growth(trial, title, {counted(n): of([request(several(MANY, n))], 200) for n in COUNTS})
        for limit, outcome in ((2 * 10**6, "allowed"), (1, "denied")):
            runs = {}
            for name, make in ALGORITHMS.items():
                policy = make(limit, f"{outcome}-{len(runs)}")
                runs[f"{name}, one a call"] = of([request([policy])], 200)
                runs[f"{name}, in a batch of {BATCH}"] = of([request([policy], f"key-{n}") for n in range(BATCH)], 20)
            title = f"server time by algorithm, {outcome}, {server.version}"
            trial.report.table(title, "sliding window, one a call", trial.measured(title, runs, 11))
