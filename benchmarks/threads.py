"""The pipeline for threads beside a connection of the pool for each call: decisions a second, and how long one takes.

Run it by itself:

    python benchmarks/threads.py

Both make the same decisions with the same script. Medians over the rounds, in turn.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable

from sluicegate import Limiter, RedisStore, SlidingWindow
from sluicegate._core.decision import decision_of
from sluicegate._core.request import Charge
from sluicegate.proof import servers

POLICY = SlidingWindow(10**9, window=3600)
ROUNDS, SECONDS = (2, 0.2) if "--quick" in sys.argv else (7, 0.8)
THREADS = (1, 4, 16, 64)

Take = Callable[[str], object]


def by_connections(store: RedisStore) -> Take:
    """Borrow a connection of the client's pool for each decision, as any client of redis-py does."""
    pool = store._client.connection_pool

    def take(key: str) -> object:
        steps, reply = store._decide([(Charge(POLICY, key, 1),)], commit=True), None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration as done:
                return decision_of((POLICY.name,), (POLICY.limit,), done.value[0])
            connection = pool.get_connection()
            try:
                connection.send_command(*command)
                reply = connection.read_response()
            finally:
                pool.release(connection)

    return take


def measured(take: Take, threads: int) -> tuple[float, float, float]:
    """Return decisions a second, and the median and the 99th percentile of one, in µs."""
    seconds: list[list[float]] = [[] for _ in range(threads)]
    stop, start = threading.Event(), threading.Barrier(threads + 1)

    def work(n: int) -> None:
        key, mine = f"key-{n}", seconds[n]
        start.wait()
        while not stop.is_set():
            began = time.perf_counter()
            take(key)
            mine.append(time.perf_counter() - began)

    working = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in working:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    for thread in working:
        thread.join()
    took = sorted(each for mine in seconds for each in mine)
    return len(took) / (time.perf_counter() - began), 1e6 * took[len(took) // 2], 1e6 * took[len(took) * 99 // 100]


def main() -> None:
    for kind in servers.binaries():
        with servers.running(kind) as server, RedisStore.from_url(server.url) as store:
            server.client.script_load(store._scripts.decide.source)
            with RedisStore.from_url(server.url) as other:
                takes = {
                    "a connection a call": by_connections(other),
                    "the pipeline": Limiter(POLICY, store=store).take,
                }
                for threads in THREADS:
                    rounds = [{name: measured(take, threads) for name, take in takes.items()} for _ in range(ROUNDS)]
                    row = f"{server.version}, {threads:2} threads"
                    for name in takes:
                        pace, half, most = (statistics.median(each[name][n] for each in rounds) for n in range(3))
                        row += f" | {name} {pace:6.0f}/s, p50 {half:5.0f}, p99 {most:5.0f} µs"
                    one, two = (statistics.median(each[name][0] for each in rounds) for name in takes)
                    print(f"{row} | {two / one:.2f} times", flush=True)


if __name__ == "__main__":
    main()
