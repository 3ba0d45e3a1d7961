"""Run no more than 4 jobs at once on a database, wherever they run, and start no more than 50 in any second.

    python examples/background_jobs.py                            # by itself
    python examples/background_jobs.py redis://localhost:6379/0   # and what happens if a worker is killed

How-to: docs/how-to/limit-concurrency.md
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sluicegate import Concurrency, Limiter, SlidingWindow, StoreError

# A short ttl, so that the example is: 30 s by default.
POLICIES = Concurrency(4, ttl=1, name="database-jobs"), SlidingWindow(50, window=1, name="database-starts")


def limiter_on(store: str) -> Limiter:
    # Without its server this program has nothing to show, so it stops. Your jobs may rather wait for it: "closed".
    return Limiter(*POLICIES, store=store, on_outage="raise", deadline=0.5)


class Database:
    """Counts who uses it."""

    def __init__(self) -> None:
        self.users = self.most = 0
        self._lock = threading.Lock()

    @contextmanager
    def session(self) -> Iterator[None]:
        with self._lock:
            self.users += 1
            self.most = max(self.most, self.users)
        yield
        with self._lock:
            self.users -= 1


def job(limiter: Limiter, database: Database, rows: int) -> int:
    """Write rows, for as long as this job may."""
    with limiter.reserve("database", wait=True, timeout=30) as permit:
        if not permit:
            raise TimeoutError("the database was busy for 30 s")
        with database.session():
            for row in range(rows):
                if permit.lost:  # this process was paused for too long: another job may run in its place
                    return row
                time.sleep(0.01)  # a statement
    return rows


def main(store: str = "memory://") -> None:
    database = Database()
    with limiter_on(store) as limiter:
        with ThreadPoolExecutor(12) as threads:
            written = sum(threads.map(lambda rows: job(limiter, database, rows), [5] * 24))
        print(f"24 jobs wrote {written} rows, with at most {database.most} jobs at once")
        if store != "memory://":
            kill_a_worker(limiter, store)


def kill_a_worker(limiter: Limiter, store: str) -> None:
    worker = subprocess.Popen([sys.executable, __file__, store, "--worker"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    print(worker.stdout and worker.stdout.readline(), end="")
    worker.kill()
    worker.wait()
    began = time.monotonic()
    with limiter.reserve("database", wait=True) as permit:
        print(f"the permits of a killed worker were back after {time.monotonic() - began:.1f} s: {permit.allowed}")


def worker(store: str) -> None:
    with limiter_on(store) as limiter, limiter.reserve("database", {"database-jobs": 4}, wait=True):
        print("a worker holds all 4 permits", flush=True)
        time.sleep(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="memory://", help="the URL of a server; without it, this process")
    parser.add_argument("--worker", action="store_true", help="hold all permits for a minute; the example starts it")
    arguments = parser.parse_args()
    try:
        worker(arguments.store) if arguments.worker else main(arguments.store)
    except StoreError as error:
        sys.exit(f"Redis is down: {error}")
