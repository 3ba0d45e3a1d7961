"""A process of a fleet: it asks the library over Redis in a hurry, and prints what it was answered.

Its task is its one argument, in JSON: ``url``, ``prefix``, ``limit``, ``window``, ``keys``, ``threads``, ``seconds``.
Once it is ready it prints what its wall clock reads. For each line that comes in it asks for so many seconds, and
prints its records in one line.
"""

from __future__ import annotations

import itertools
import json
import select
import sys
import threading
import time
from collections.abc import Sequence

from sluicegate import Limiter, RedisStore, SlidingWindow


def hammer(limiter: Limiter, keys: Sequence[str], seconds: float, threads: int = 1) -> list[list]:
    """Ask on and on, each thread for one key after the other. Returns the fields of `judge.Record`.

    After a denial it pauses: a hundred thousand a second are remembered, and to judge them all would take minutes.
    """
    records, failures, end_at = [], [], time.monotonic() + seconds

    def run(first: int) -> None:
        try:
            for key in itertools.islice(itertools.cycle(keys), first, None):
                start = time.monotonic()
                if start >= end_at:
                    return
                allowed = limiter.allow(key)
                records.append([start, time.monotonic(), key, 1, allowed])
                if not allowed:
                    select.select([], [], [], 0.001)  # time.sleep() fails where libfaketime turns the clock
        except BaseException as failure:  # noqa: BLE001 - it is raised again, by who started the threads
            failures.append(failure)

    running = [threading.Thread(target=run, args=(n * len(keys) // threads,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
    return records


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    with RedisStore.from_url(task["url"], prefix=task["prefix"], timeout=30) as store:
        policy = SlidingWindow(task["limit"], window=task["window"])
        its_limiter = Limiter(policy, store=store, on_outage="raise", deadline=30)  # each answer is the store's
        its_limiter.peek("connect")
        print(json.dumps(time.time()), flush=True)
        for _ in sys.stdin:
            records = hammer(its_limiter, task["keys"], task["seconds"], task["threads"])
            print(json.dumps(records), flush=True)
