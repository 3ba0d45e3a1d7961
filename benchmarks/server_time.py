"""The server's own time for a decision (INFO commandstats), without the wire."""

from __future__ import annotations

from collections.abc import Callable

from batches import charges, decide_together, one
from contenders import sorted_set
from contenders.on_redis import asking
from rounds import Run
from trial import Trial

from sluicegate import AsyncLimiter, AsyncRedisStore, RedisStore, SlidingWindow
from sluicegate.proof.servers import Server

MANY = 10**9  # never reached: every call is allowed
BATCH = 64
FLOOR = "return 1"
SORTED = "sorted set, {}, one a call"
OURS = f"sluicegate, {{}}, in a batch of {BATCH}"


def run(trial: Trial, server: Server) -> None:
    title = f"server time of a decision, {server.version}"
    client = server.client
    trivial = client.script_load(FLOOR)
    keys = [f"key-{n}" for n in range(BATCH)]
    allowed, denied = SlidingWindow(MANY, window=60, name="allowed"), SlidingWindow(10, window=3600, name="denied")
    outcomes = {"allowed": (allowed, MANY, 60), "denied": (denied, 10, 3600)}
    with asking(RedisStore, server.url) as store, trial.entered(asking(AsyncRedisStore, server.url)) as tasks:
        runs = {FLOOR: spent(server, lambda: client.evalsha(trivial, 0), 200, 1)}
        for outcome, (policy, limit, window) in outcomes.items():
            batch = charges(policy, *keys)
            runs[OURS.format(outcome)] = spent(server, lambda batch=batch: decide_together(store, batch), 20, BATCH)
            limiter = AsyncLimiter(policy, store=tasks)
            at_once = trial.tasks(limiter.allow, keys, BATCH, 20 * BATCH)
            runs[f"sluicegate, {outcome}, {BATCH} tasks"] = spent(server, at_once, 1, 20 * BATCH)
            alone = one(policy, "alice")
            runs[f"sluicegate, {outcome}, one a call"] = spent(server, lambda alone=alone: store.decide(alone), 200, 1)
            log = sorted_set.decide(client, limit, window)
            key = f"z:{outcome}"
            runs[SORTED.format(outcome)] = spent(server, lambda log=log, key=key: log(key), 200, 1)
        for _ in range(10):  # denied from the first turn on
            decide_together(store, charges(denied, *keys, "alice"))
            log("z:denied")
        spreads = trial.measured(title, runs)
    trial.report.table(title, FLOOR, spreads)
    for outcome in outcomes:
        own, what = spreads[OURS.format(outcome)], f"server time in batches of {BATCH}, {outcome}"
        trial.report.aim(
            f"{what}: time of a decision, times `return 1` alone", server.version, own.times(spreads[FLOOR]), most=3
        )
        part = own.times(spreads[SORTED.format(outcome)])
        trial.report.aim(
            f"{what}: time of a decision, times a sorted set's, one a call", server.version, part, most=0.5
        )


def spent(server: Server, call: Callable[[], object], calls: int, decisions: int) -> Run:
    """Return the server's seconds for one decision, of so many in a call."""

    def run() -> float:
        server.client.config_resetstat()
        for _ in range(calls):
            call()
        return taken(server) / (calls * decisions)

    return run


def taken(server: Server) -> float:
    """Return the server's seconds for all scripts since the last CONFIG RESETSTAT."""
    stats = server.client.info("commandstats")
    return sum(stats[name]["usec"] for name in stats if name.startswith(("cmdstat_eval", "cmdstat_fcall"))) / 1e6
