"""One instance of the fleet that `tools/reliability.py` observes: a process whose tasks or threads call a limiter.


    python tools/reliability_worker.py '{"url": "redis://...", "form": "tasks", ...}'

It prints a line once it has had a first answer, calls until its input ends, and then prints one line of JSON: every
answer, how long its event loop (or a thread of its own) was held up, and what it holds on to.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from sluicegate import AsyncLimiter, AsyncRedisStore, Limiter, RedisStore, SlidingWindow, StoreEvent

SETTINGS = json.loads(sys.argv[1])
KEYS = [f"key-{n}" for n in range(SETTINGS["keys"])]
POLICY = SlidingWindow(SETTINGS["limit"], window=SETTINGS["window"], name="faults")

answers: list[tuple[float, float, str, bool | None, str]] = []  # start, end, key, allowed, source or type of the error
events: list[tuple[float, str, str]] = []
late: list[float] = []


def on_event(event: StoreEvent) -> None:
    events.append((time.monotonic(), event.kind, event.reason))


def options() -> dict[str, Any]:
    chosen = {name: SETTINGS[name] for name in ("on_outage", "deadline", "share") if name in SETTINGS}
    return {**chosen, "on_event": on_event}


def store(is_for_tasks: bool) -> Any:
    prefix = {"prefix": SETTINGS["prefix"]} if "prefix" in SETTINGS else {}
    if "sentinel" in SETTINGS:
        sentinel = (AsyncSentinel if is_for_tasks else Sentinel)(
            [("127.0.0.1", SETTINGS["sentinel"])], socket_timeout=0.2
        )
        client = sentinel.master_for("primary", socket_timeout=0.2, socket_connect_timeout=0.2)
        return (AsyncRedisStore if is_for_tasks else RedisStore)(client)
    return (AsyncRedisStore if is_for_tasks else RedisStore).from_url(SETTINGS["url"], **prefix)


def record(began_at: float, key: str, answer: Any) -> None:
    if isinstance(answer, BaseException):
        answers.append((began_at, time.monotonic(), key, None, type(answer).__name__))
    else:
        answers.append((began_at, time.monotonic(), key, answer.allowed, answer.source))


async def with_tasks() -> None:
    limiter = AsyncLimiter(POLICY, store=store(True), **options())
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stopped.set)), daemon=True).start()

    async def call() -> None:
        await asyncio.sleep(random.uniform(0, SETTINGS["pause"]))
        while not stopped.is_set():
            began_at, key = time.monotonic(), random.choice(KEYS)
            try:
                record(began_at, key, await limiter.take(key))
            except Exception as error:
                record(began_at, key, error)
            await asyncio.sleep(random.uniform(0.5, 1.5) * SETTINGS["pause"])

    async def beat() -> None:
        while not stopped.is_set():
            began_at = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - began_at - 0.005)

    await limiter.take("ready")
    print("ready", flush=True)
    await asyncio.gather(beat(), *(call() for _ in range(SETTINGS["callers"])))
    print_result(limiter.statistics())
    await limiter.aclose()


def with_threads() -> None:
    limiter = Limiter(POLICY, store=store(False), **options())
    stopped = threading.Event()

    def call() -> None:
        time.sleep(random.uniform(0, SETTINGS["pause"]))
        while not stopped.is_set():
            began_at, key = time.monotonic(), random.choice(KEYS)
            try:
                record(began_at, key, limiter.take(key))
            except Exception as error:
                record(began_at, key, error)
            time.sleep(random.uniform(0.5, 1.5) * SETTINGS["pause"])

    def beat() -> None:
        while not stopped.is_set():
            began_at = time.monotonic()
            time.sleep(0.005)
            late.append(time.monotonic() - began_at - 0.005)

    threads = [threading.Thread(target=call) for _ in range(SETTINGS["callers"])] + [threading.Thread(target=beat)]
    limiter.take("ready")
    print("ready", flush=True)
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopped.set()
    for thread in threads:
        thread.join()
    print_result(limiter.statistics())
    limiter.close()


def print_result(statistics: Any) -> None:
    result = {
        "answers": answers,
        "events": events,
        "late": max(late),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "mode": statistics.mode,
        "errors": statistics.errors,
    }
    print(json.dumps(result), flush=True)


if SETTINGS["form"] == "tasks":
    asyncio.run(with_tasks())
else:
    with_threads()
