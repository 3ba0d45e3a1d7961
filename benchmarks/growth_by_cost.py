"""How time and bytes grow with the cost of one request, on a key that is fresh."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import limits
import redis
from batches import one
from contenders import sorted_set
from contenders.contender import MANY, Contender
from contenders.memory import MOVING, OURS, pyrate
from contenders.on_redis import asking
from footprint import weight
from growth_by_limit import stored_bytes
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rounds import Run, Spread, sized
from server_time import spent
from trial import Trial

from sluicegate import Limiter, RedisStore, SlidingWindow
from sluicegate.proof.servers import Server

WINDOW = 3600
ROUNDS = 5
TIME, BYTES = "{}, by the cost of a request: time", "{}, by the cost of a request: bytes"
MEMORY, SERVER = "in memory", "on a server"
PYRATE, ALONE = "pyrate-limiter", "sluicegate, one a call"

_LARGEST = {sorted_set.NAME: 10**5}  # a million would take the server seconds

Priced = Callable[[str, int], object]


def sizes(trial: Trial) -> list[int]:
    return [10**n for n in range(4 if trial.quick else 7)]


def in_memory(trial: Trial) -> None:
    times: dict[str, dict[int, Spread]] = {name: {} for name in (OURS, PYRATE, MOVING)}
    weights: dict[str, dict[int, float]] = {name: {} for name in times}
    for cost in sizes(trial):
        # Afresh for each cost: what was taken is given back.
        with _in_memory() as calls:
            runs = {
                name: sized(
                    partial(_fresh, call, cost),
                    trial.seconds(0.01),
                    least=max(min(100_000 // cost, 100), 1),
                    most=1_000,
                )
                for name, call in calls.items()
            }
            for name, spread in trial.measured(TIME.format(MEMORY), runs, ROUNDS).items():
                times[name][cost] = spread
        with _in_memory() as calls:
            keys = min(max(1_000_000 // cost, 1), 1_000)
            for name, call in calls.items():
                one = Contender(name, lambda key, call=call, cost=cost: call(key, cost), None)
                weights[name][cost] = weight(trial, one, keys, 1) / keys
    trial.report.curve(TIME.format(MEMORY), "cost", "seconds a decision", times)
    trial.report.curve(BYTES.format(MEMORY), "cost", "bytes a request", weights)


@contextmanager
def _in_memory() -> Iterator[dict[str, Priced]]:
    bucket = pyrate(MANY, WINDOW)
    item = limits.RateLimitItemPerSecond(MANY, WINDOW)
    moving = MovingWindowRateLimiter(MemoryStorage())
    try:
        yield {
            OURS: Limiter(SlidingWindow(MANY, window=WINDOW)).allow,
            PYRATE: lambda key, cost: bucket.try_acquire(key, cost, blocking=False),
            MOVING: lambda key, cost: moving.hit(item, key, cost=cost),
        }
    finally:
        bucket.close()


_names = count()


def _fresh(call: Priced, cost: int, times: int) -> Run:
    def run() -> float:
        keys = [f"user-{next(_names)}" for _ in range(times)]
        began = time.perf_counter()
        for key in keys:
            call(key, cost)
        return (time.perf_counter() - began) / times

    return run


def on_a_server(trial: Trial, server: Server) -> None:
    names = (ALONE, MOVING, sorted_set.NAME)
    times: dict[str, dict[int, Spread]] = {name: {} for name in names}
    weights: dict[str, dict[int, float]] = {name: {} for name in names}
    policy, item = SlidingWindow(MANY, window=WINDOW, name="cost"), limits.RateLimitItemPerSecond(MANY, WINDOW)
    url = server.url
    with asking(RedisStore, url, timeout=60) as store, redis.Redis.from_url(url, socket_timeout=60) as client:
        storage = RedisStorage(url, socket_timeout=60)
        calls: dict[str, Priced] = {
            ALONE: lambda key, cost: store.decide(one(policy, key, cost)),
            MOVING: lambda key, cost: MovingWindowRateLimiter(storage).hit(item, key, cost=cost),
            sorted_set.NAME: sorted_set.decide(client, MANY, WINDOW),
        }
        for cost in sizes(trial):
            some = {name: call for name, call in calls.items() if cost <= _LARGEST.get(name, cost)}
            for name, call in some.items():
                client.execute_command("FLUSHDB", "SYNC")
                call("weighed", cost)
                weights[name][cost] = stored_bytes(client)
            runs = {}
            for name, call in some.items():
                times_asked = 100 if name == ALONE else min(max(10_000 // cost, 1), 100)
                runs[name] = _emptied(client, server, partial(_priced, call, cost), times_asked)
            for name, spread in trial.measured(TIME.format(SERVER), runs, ROUNDS).items():
                times[name][cost] = spread
    server.client.flushall()
    trial.report.curve(TIME.format(SERVER), "cost", "seconds of the server's a decision", times, server.version)
    trial.report.curve(BYTES.format(SERVER), "cost", "bytes a request", weights, server.version)


def _priced(call: Priced, cost: int, key: str) -> object:
    return call(key, cost)


def _emptied(client: redis.Redis, server: Server, call: Callable[[str], object], calls: int) -> Run:
    def run() -> float:
        client.execute_command("FLUSHDB", "SYNC")  # not in the background, while it is timed
        keys = iter([f"user-{next(_names)}" for _ in range(calls)])
        return spent(server, lambda: call(next(keys)), calls, 1)()

    return run
