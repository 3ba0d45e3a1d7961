"""What a decision costs: in memory beside a floor and the peers, and on the server beside a script that returns 1.

    make bench                                        the tables
    .venv/bin/python benchmarks/decisions.py --json F  the same as data, too

Times are seconds for one call; what counts is the ratio in one run. The floor in memory is a method that takes a lock
and reads the clock, and decides nothing. Server time is the server's own count (INFO commandstats), without the wire.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import limits
import pyrate_limiter
import redis
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from rounds import Report, loop, measured

from headgate import Limiter, RedisStore, SlidingWindow
from headgate.store import Charge

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import servers

MANY = 10**9  # never reached: every call is allowed
BATCH = 64
FLOOR = "a lock and a clock"


class Floor:
    """A lock and a clock, and no decision."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def allow(self, _: str) -> bool:
        with self._lock:
            time.monotonic_ns()
        return True


class BareDeque:
    """The least that an exact log for unit costs can be: one deque a key, one lock, one policy, nothing given back."""

    def __init__(self, limit: int, window: float) -> None:
        self._lock = threading.Lock()
        self._limit, self._window_ns = limit, int(window * 1e9)
        self._logs: dict[str, deque[int]] = {}

    def allow(self, key: str) -> bool:
        with self._lock:
            now = time.monotonic_ns()
            log = self._logs.get(key)
            if log is None:
                log = self._logs[key] = deque()
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            return True


def in_memory(limit: int, window: float) -> dict[str, Callable[[str], object]]:
    """Every contender under the same limit."""
    item = limits.RateLimitItemPerSecond(limit, int(window))
    moving, fixed = MovingWindowRateLimiter(MemoryStorage()), FixedWindowRateLimiter(MemoryStorage())
    made: dict[str, Callable[[str], object]] = {
        FLOOR: Floor().allow,
        "headgate, allow": Limiter(SlidingWindow(limit, window=window)).allow,
        "headgate, take": Limiter(SlidingWindow(limit, window=window)).take,
        "bare deque": BareDeque(limit, window).allow,
        "limits, moving window": lambda key: moving.hit(item, key),
        "limits, fixed window": lambda key: fixed.hit(item, key),
    }
    # An in-memory bucket of pyrate-limiter serves one key, so it is given one; and it does not hold a huge limit well.
    bucket = pyrate_limiter.InMemoryBucket([pyrate_limiter.Rate(limit, int(window * 1000))])
    pyrate = pyrate_limiter.Limiter(bucket)
    made["pyrate-limiter"] = lambda key: pyrate.try_acquire(key, blocking=False)
    return made


def memory(report: Report) -> None:
    for title, limit, window in (
        ("in memory, one hot key, allowed", MANY, 3600),
        ("in memory, one hot key, saturated and denied", 100, 3600),
        ("in memory, one hot key, at the pace of its limit of 50 000 a second", 50_000, 1),
    ):
        times = 20_000
        contenders = in_memory(limit, window)
        runs = {name: loop(call, "alice", times) for name, call in contenders.items()}
        report.table(title, FLOOR, measured(title, runs))


def sorted_set(limit: int, window: float, client: redis.Redis, prefix: str) -> Callable[[str], object]:
    """The textbook: one member a unit, one call a decision."""
    script = client.register_script(
        """
        local t = redis.call('TIME') local now = t[1] * 1000000 + t[2]
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
        local n = redis.call('ZCARD', KEYS[1])
        if n >= tonumber(ARGV[1]) then
          local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
          return {0, 0, oldest[2] + ARGV[2] - now}
        end
        redis.call('ZADD', KEYS[1], now, now .. ':' .. n)
        redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
        return {1, ARGV[1] - n - 1, 0}
        """
    )
    return lambda key: script(keys=[prefix + key], args=[limit, int(window * 1e6)])


def on_the_server(report: Report, kind: str) -> None:
    with servers.running(kind) as server, RedisStore.from_url(server.url) as store:
        client = server.client
        trivial = client.script_load("return 1")
        keys = [f"key-{n}" for n in range(BATCH)]

        def server_time(call: Callable[[], object], calls: int, decisions: int) -> Callable[[], float]:
            def run() -> float:
                client.config_resetstat()
                for _ in range(calls):
                    call()
                stats = client.info("commandstats")
                spent = sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
                return spent / 1e6 / (calls * decisions)

            return run

        def batch(policy: SlidingWindow) -> Callable[[], object]:
            requests = [(Charge(policy, key, 1),) for key in keys]
            return lambda: store.decide(requests)

        allowed, denied = SlidingWindow(MANY, window=60, name="allowed"), SlidingWindow(10, window=3600, name="denied")
        single = (Charge(SlidingWindow(MANY, window=60, name="single"), "alice", 1),)
        runs = {
            "return 1": server_time(lambda: client.evalsha(trivial, 0), 200, 1),
            f"headgate, allowed, batch of {BATCH}": server_time(batch(allowed), 20, BATCH),
            f"headgate, denied, batch of {BATCH}": server_time(batch(denied), 20, BATCH),
            "headgate, allowed, one a call": server_time(lambda: store.decide([single]), 200, 1),
            "sorted set, allowed, one a call": server_time(_each(sorted_set(MANY, 60, client, "z:")), 200, 1),
            "sorted set, denied, one a call": server_time(_each(sorted_set(10, 3600, client, "zd:")), 200, 1),
        }
        title = f"server time of a decision, {server.version}"
        report.table(title, "return 1", measured(title, runs))


def _each(call: Callable[[str], object]) -> Callable[[], object]:
    return lambda: call("alice")


def round_trips(report: Report, kind: str) -> None:
    with servers.running(kind) as server, RedisStore.from_url(server.url) as store:
        client = redis.Redis.from_url(server.url)
        trivial = client.script_load("return 1")
        limiter = Limiter(SlidingWindow(MANY, window=60), store=store)
        moving = MovingWindowRateLimiter(limits.storage.RedisStorage(server.url))
        item = limits.RateLimitItemPerMinute(10**6)
        runs = {
            "redis-py, EVALSHA of return 1": loop(lambda _: client.evalsha(trivial, 0), "", 300),
            "headgate, allow": loop(limiter.allow, "alice", 300),
            "limits, moving window": loop(lambda key: moving.hit(item, key), "alice", 300),
            "sorted set, one a call": loop(sorted_set(MANY, 60, client, "z:"), "alice", 300),
        }
        title = f"round trip of a decision, one thread, {server.version}"
        report.table(title, "redis-py, EVALSHA of return 1", measured(title, runs))
        client.close()


def main() -> None:
    report = Report()
    memory(report)
    for kind in servers.binaries():
        on_the_server(report, kind)
        round_trips(report, kind)
    report.close()


if __name__ == "__main__":
    main()
