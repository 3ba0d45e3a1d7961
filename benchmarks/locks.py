"""The lock of the memory store beside plainer ones: one thread, and several on a key of their own or on one hot key.

Each lock guards the same few lines, those of the fast path of ``allow``. Run it by itself on each Python:

    python benchmarks/locks.py

It needs the standard library alone. Times are of one decision, medians over the rounds; threads' are decisions a second
of all of them together, and the slowest thread's part of the fastest's.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from array import array
from collections.abc import Callable
from threading import get_ident
from time import monotonic_ns, sleep

LIMIT = 10**9
ROUNDS, CALLS, SECONDS = 9, 50_000, 0.4
PAUSE = 0.000_001

Logs = dict[str, "array[int]"]
Allow = Callable[[str], bool]


def a_lock_and_a_clock(_: Logs) -> Allow:
    """The floor."""
    lock = threading.Lock()

    def allow(_: str) -> bool:
        with lock:
            monotonic_ns()
        return True

    return allow


def token_in_a_list(logs: Logs) -> Allow:
    """What ships."""
    token: list[None] = [None]
    give_back = token.append
    owner: list[int | None] = [None]

    def allow(key: str) -> bool:
        me = get_ident()
        while True:
            try:
                del token[0]
                owner[0] = me
                try:
                    return decide(logs[key])
                finally:
                    owner[0] = None
                    give_back(None)
            except IndexError:
                sleep(PAUSE)

    return allow


def rlock_not_blocking(logs: Logs) -> Allow:
    """Reentrant by itself; an exception of a signal handler after ``acquire`` loses it, unless release is tried."""
    lock = threading.RLock()
    acquire, release = lock.acquire, lock.release

    def allow(key: str) -> bool:
        while True:
            try:
                if acquire(False):
                    return decide(logs[key])
            finally:
                try:  # noqa: SIM105 - suppress() is a call more
                    release()
                except RuntimeError:
                    pass  # another thread holds it
            sleep(PAUSE)

    return allow


def lock_not_blocking(logs: Logs) -> Allow:
    """With an owner of its own, to be reentrant."""
    lock = threading.Lock()
    acquire, release = lock.acquire, lock.release
    owner: list[int | None] = [None]

    def allow(key: str) -> bool:
        me = get_ident()
        while not acquire(False):
            if owner[0] == me:
                return decide(logs[key])
            sleep(PAUSE)
        owner[0] = me
        try:
            return decide(logs[key])
        finally:
            owner[0] = None
            release()

    return allow


def with_lock(logs: Logs) -> Allow:
    lock = threading.Lock()

    def allow(key: str) -> bool:
        with lock:
            return decide(logs[key])

    return allow


def with_rlock(logs: Logs) -> Allow:
    lock = threading.RLock()

    def allow(key: str) -> bool:
        with lock:
            return decide(logs[key])

    return allow


def decide(log: array[int]) -> bool:
    now_ns = monotonic_ns()
    if len(log) <= LIMIT and log[-1] <= now_ns:
        log.append(now_ns)
        return True
    return False


LOCKS = (a_lock_and_a_clock, token_in_a_list, rlock_not_blocking, lock_not_blocking, with_lock, with_rlock)


def fresh(keys: int) -> Logs:
    return {f"key-{n}": array("q", (1, monotonic_ns())) for n in range(keys)}


def alone(allow: Allow, keys: list[str]) -> float:
    began = time.perf_counter()
    for key in keys:
        allow(key)
    return (time.perf_counter() - began) / len(keys)


def together(allow: Allow, threads: int, keys: int) -> tuple[float, float]:
    counts, stop, start = [0] * threads, threading.Event(), threading.Barrier(threads + 1)

    def work(n: int) -> None:
        key, count = f"key-{n % keys}", 0
        start.wait()
        while not stop.is_set():
            for _ in range(50):
                allow(key)
            count += 50
        counts[n] = count

    working = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in working:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    for thread in working:
        thread.join()
    return sum(counts) / (time.perf_counter() - began), min(counts) / max(*counts, 1)


def main() -> None:
    print(f"Python {sys.version.split()[0]}, {sys.platform}")
    seen: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for make in LOCKS:
            for keys in (1, 1000):
                allow, names = make(fresh(keys)), [f"key-{n % keys}" for n in range(CALLS)]
                seen.setdefault((make.__name__, keys), []).append(alone(allow, names))
    floor = statistics.median(seen[LOCKS[0].__name__, 1])
    for make in LOCKS:
        hot, many = (statistics.median(seen[make.__name__, keys]) for keys in (1, 1000))
        row = f"{make.__name__:20} hot key {hot * 1e9:4.0f} ns = {hot / floor:4.2f}, 1000 keys {many * 1e9:4.0f} ns"
        for threads in (4, 16):
            for keys in (1, threads):
                pace, fair = together(make(fresh(keys)), threads, keys)
                row += f" | {threads} threads, {keys:2} keys {pace / 1e6:5.2f} M/s ({fair:.2f})"
        print(row, flush=True)


if __name__ == "__main__":
    main()
