"""Callers that share calls: threads with their outcomes, what they wait for, and requests too large for any buffer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import servers
from faults.cuts import Cuts
from machine import awake
from sluicegate import (
    AsyncRedisStore,
    Decision,
    Limiter,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate._core.request import Charge, Request
from sluicegate._stores.redis.node import ONLY_NODE
from sluicegate._stores.redis.pipeline.base import Pipeline

POLICY = SlidingWindow(10**6, window=600)
MARGIN = 0.3
"""Seconds by which a caller may be late, by the clock that stands still while the machine is busy."""


def pipeline_of(store: RedisStore | AsyncRedisStore) -> Pipeline:
    return store._pipelines[ONLY_NODE, store._timeout]


def callers_in(store: RedisStore | AsyncRedisStore) -> int:
    """Count the callers in the queue and in flight."""
    pipeline = pipeline_of(store)
    with getattr(pipeline, "_lock", contextlib.nullcontext()):  # one that is just leaving the queue counts once
        return len(pipeline._queue) + sum(len(batch.waiters) for batch in pipeline._in_flight)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


async def until_awaited(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.0005)


def served(limiter: Limiter, tries: int = 20) -> Decision:
    """Take a unit for "a" within a short time-out; again if nothing was sent, as on a busy machine nobody may run."""
    for _ in range(tries - 1):
        with contextlib.suppress(StoreUnavailable):
            return limiter.take("a")
    return limiter.take("a")


class Callers:
    """Threads that make one call each, with their outcomes."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.outcomes: dict[int, object] = {}
        self.seconds: list[float] = []

    def call(self, call: Callable[[], object]) -> None:
        thread = threading.Thread(target=self._call, args=(len(self.threads), call), daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> list[object]:
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)
        return [self.outcomes[number] for number in range(len(self.threads))]

    def _call(self, number: int, call: Callable[[], object]) -> None:
        began = awake()
        try:
            self.outcomes[number] = call()
        except BaseException as error:  # noqa: BLE001 - an outcome, for the test to judge
            self.outcomes[number] = error
        self.seconds.append(awake() - began)


async def outcome_of(call: Awaitable[object]) -> object:
    try:
        return await call
    except StoreError as error:
        return error


def request_for(keys: list[str], *, commit: bool = True) -> Request:
    """Return a request of one charge for each key."""
    return Request(tuple(Charge(POLICY, key, 1) for key in keys), commit)


def large(prefix: str) -> Request:
    """Return a request that fills every buffer on its way; its store needs the prefix of `wide`."""
    return request_for([f"{prefix}{n}" for n in range(2000)])


def wide(prefix: str) -> str:
    return prefix + "x" * 8000


# Faults while many callers are at work

FAULTS = ["flush", "cut_reply", "cut_command", "cut_middle"]


def fail(server: servers.Server, proxy: Cuts, fault: str) -> None:
    if fault == "flush":
        server.client.script_flush()
    else:
        setattr(proxy, fault, 1)


def judge(server: servers.Server, proxy: Cuts, prefix: str, outcomes: list[tuple[str, object]], fault: str) -> None:
    """Compare what was sent and charged with the outcomes of calls that each had a key of their own."""
    kinds = Counter(type(outcome) for _, outcome in outcomes)
    print(fault, kinds)
    allowed = {
        key for key, outcome in outcomes if not isinstance(outcome, StoreError) and outcome.remaining == 10**6 - 1
    }
    unknown = {key for key, outcome in outcomes if isinstance(outcome, StoreTimeout)}
    refused = {key for key, outcome in outcomes if isinstance(outcome, StoreUnavailable)}
    assert len(outcomes) == len(allowed | unknown | refused)
    assert bool(unknown) == (fault != "flush")
    for command in (b"EVALSHA", b"EVAL"):
        sent = Counter(key for words in proxy.scripts if words[0] == command for key in words[3 : 3 + int(words[2])])
        assert set(sent.values()) <= {1}
    keys = [key for key, _ in outcomes]
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        verdicts = store.decide(request_for(keys, commit=False))
    charged = {key: 10**6 - verdict.remaining for key, verdict in zip(keys, verdicts, strict=True)}
    assert set(charged.values()) <= {0, 1}
    taken = {key for key, units in charged.items() if units}
    assert allowed <= taken <= allowed | unknown
