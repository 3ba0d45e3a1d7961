"""How time and bytes grow with the limit: requests of cost 1 that fill the last of a log, and the log when it is full.

A log of ten is full after ten requests, so there are many keys of it: each takes the last half of its units while it is
timed. From some thousands on one key has room for all, and a batch is 64 requests on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import limits
import redis
from batches import charges, decide_together
from contenders import replay, sorted_set
from contenders.contender import Contender
from contenders.floors import DEQUE, BareDeque
from contenders.memory import MOVING, OURS
from contenders.on_redis import asking
from footprint import weight
from growth_by_keys import pieces
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rounds import Run, Spread, over
from server_time import spent
from trial import Trial

from sluicegate import Limiter, RedisStore, SlidingWindow
from sluicegate.proof.servers import Server

WINDOW = 3600
ROUNDS = 5
TIME, BYTES = "{}, full logs, by limit: time", "{}, full logs, by limit: bytes"
MEMORY, SERVER = "in memory", "on a server"
BATCH, CALLS = 64, 10
LAST = (ROUNDS + 1) * CALLS * BATCH  # units that batches take while they are timed
BATCHED, ALONE = f"sluicegate, in a batch of {BATCH}", "sluicegate, one a call"

_SLOW_TO_FILL = 10**5  # units; `limits` moves all that is there for each request in memory


def sizes(trial: Trial) -> list[int]:
    return [10**n for n in range(1, 4 if trial.quick else 7)]


class Log(NamedTuple):
    """What is asked of one limiter with logs of one limit.

    Attributes:
        call: Asks about a key.
        fill: Takes so many units of a key, at once or as quickly as may be.
    """

    call: Callable[[str], object]
    fill: Callable[[str, int], object]


def filled(log: Log, limit: int, requests: int) -> list[str]:
    """Fill as many keys as these requests will then fill up, each from half of its units on or later."""
    keys = [f"log-{n}" for n in range(math.ceil(requests / (limit // 2)))]
    for key in keys:
        log.fill(key, limit - math.ceil(requests / len(keys)))
    return keys


# In memory


def in_memory(trial: Trial) -> None:
    times: dict[str, dict[int, Spread]] = {name: {} for name in (OURS, DEQUE, MOVING)}
    weights: dict[str, dict[int, float]] = {name: {} for name in times}
    for limit in sizes(trial):
        runs = {}
        for name, log in _logs(limit).items():
            requests = 20 if name == MOVING and limit > _SLOW_TO_FILL else 1_000
            runs[name] = over(log.call, filled(log, limit, (ROUNDS + 1) * requests), requests)
        for name, spread in trial.measured(TIME.format(MEMORY), runs, ROUNDS).items():
            times[name][limit] = spread
        for name, log in _logs(limit).items():
            if name != MOVING or limit <= _SLOW_TO_FILL:
                keys = max(10_000 // limit, 2)  # in turn: two requests on one would share a microsecond
                weights[name][limit] = weight(trial, Contender(name, log.call, None), keys, limit) / keys
    trial.report.curve(TIME.format(MEMORY), "limit", "seconds a decision", times)
    trial.report.curve(BYTES.format(MEMORY), "limit", "bytes a full log", weights)


def _logs(limit: int) -> dict[str, Log]:
    item = limits.RateLimitItemPerSecond(limit, WINDOW)
    moving = partial(MovingWindowRateLimiter(MemoryStorage()).hit, item)
    ours, deque = Limiter(SlidingWindow(limit, window=WINDOW)).allow, BareDeque(limit, WINDOW).allow

    def one_by_one(call: Callable[[str], object]) -> Callable[[str, int], None]:
        def fill(key: str, units: int) -> None:
            for _ in range(units):
                call(key)

        return fill

    return {
        OURS: Log(ours, one_by_one(ours)),
        DEQUE: Log(deque, one_by_one(deque)),
        MOVING: Log(moving, lambda key, units: moving(key, cost=units)),
    }


# On a server


def on_a_server(trial: Trial, server: Server) -> None:
    names = (BATCHED, ALONE, sorted_set.NAME, MOVING)
    times: dict[str, dict[int, Spread]] = {name: {} for name in names}
    weights: dict[str, dict[int, float]] = {name: {} for name in (ALONE, sorted_set.NAME, MOVING)}
    with ExitStack() as stack:
        # A database for each, so that all in it is its own.
        urls = {name: f"{server.url.removesuffix('/0')}/{n}" for n, name in enumerate(names)}
        clients = {
            name: stack.enter_context(redis.Redis.from_url(url, socket_timeout=60)) for name, url in urls.items()
        }
        stores = {name: stack.enter_context(asking(RedisStore, urls[name], timeout=60)) for name in (BATCHED, ALONE)}
        for limit in sizes(trial):
            server.client.flushall()
            keys = filled(Log(lambda _: None, partial(_fill, server, names.index(BATCHED), limit)), limit, LAST)
            for key in clients[BATCHED].scan_iter(count=10_000):
                clients[BATCHED].copy(key, key, destination_db=names.index(ALONE))
            runs = {BATCHED: _batches(server, stores[BATCHED], limit, keys, BATCH)}
            runs[ALONE] = _batches(server, stores[ALONE], limit, keys, 1)
            log = _sorted_set(clients[sorted_set.NAME], limit)
            runs[sorted_set.NAME] = _one_by_one(server, log, limit)
            runs[MOVING] = _one_by_one(server, _moving(urls[MOVING], limit), limit)
            for name, spread in trial.measured(TIME.format(SERVER), runs, ROUNDS).items():
                times[name][limit] = spread
            for key in keys:  # one a call to the end: requests of one batch share their time, and an entry
                _fill(server, names.index(ALONE), limit, key, math.ceil(LAST / len(keys)))
            for name, line in weights.items():
                line[limit] = stored_bytes(clients[name])
        server.client.flushall()
    trial.report.curve(TIME.format(SERVER), "limit", "seconds of the server's a decision", times, server.version)
    trial.report.curve(BYTES.format(SERVER), "limit", "bytes a full log", weights, server.version)


def stored_bytes(client: redis.Redis) -> float:
    """Return what a key of a database takes there, the mean of all."""
    keys = list(client.scan_iter(count=10_000))
    return sum(client.memory_usage(key, samples=0) for key in keys) / len(keys)


def _fill(server: Server, database: int, limit: int, key: str, units: int) -> None:
    replay.requests(server, database, _policy(limit), key, units)


def _policy(limit: int) -> SlidingWindow:
    return SlidingWindow(limit, window=WINDOW, name="log")


def _batches(server: Server, store: RedisStore, limit: int, keys: list[str], size: int) -> Run:
    policy, calls = _policy(limit), CALLS if size > 1 else 100
    asked = charges(policy, *(keys[n % len(keys)] for n in range((ROUNDS + 1) * calls * size)))
    batches = iter(pieces(asked, size))
    return spent(server, lambda: decide_together(store, next(batches)), calls, size)


def _one_by_one(server: Server, log: Log, limit: int) -> Run:
    keys = filled(log, limit, (ROUNDS + 1) * 100)
    turn = iter([keys[n % len(keys)] for n in range((ROUNDS + 1) * 100)])
    return spent(server, lambda: log.call(next(turn)), 100, 1)


def _sorted_set(client: redis.Redis, limit: int) -> Log:
    call = sorted_set.decide(client, limit, WINDOW)

    def fill(key: str, units: int) -> None:
        for some in pieces(range(units), 10_000):
            call(key, len(some))

    return Log(call, fill)


def _moving(url: str, limit: int) -> Log:
    item = limits.RateLimitItemPerSecond(limit, WINDOW)
    hit = partial(MovingWindowRateLimiter(RedisStorage(url, socket_timeout=60)).hit, item)
    return Log(hit, lambda key, units: hit(key, cost=units))
