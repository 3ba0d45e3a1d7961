"""What many ask at once of stores that share calls and remember denials is explained by some order of single
decisions: each between its question and its answer, none of them lost, none made twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from random import Random
from threading import Barrier, Timer

import pytest

import servers
from faults.cuts import Cuts
from properties.histories import Asked, Operation, State, explained
from sluicegate import (
    AsyncRedisStore,
    CalendarWindow,
    FixedWindow,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    TokenBucket,
)
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter, Request
from sluicegate._stores.base import Remembered
from stores.harness import Harness, charges

HOUR = 3600
ACTORS = 4
FAULTS = ("cut_command", "cut_reply", "cut_middle", "flush", "late")

_numbers = count()


# The checker itself

THREE = SlidingWindow(3, window=HOUR)
TAKE = Asked("take", [[(THREE, "a", 1)]])
PEEK = Asked("peek", [[(THREE, "a", 1)]])
FORGET = Asked("forget", counters=[Counter(THREE, "a")])
START = State(10**15)
DENIED = [[Verdict(False, 0, HOUR * 10**6, HOUR * 10**6)]]


def took(remaining: int) -> list[list[Verdict]]:
    return [[Verdict(True, remaining, 0, HOUR * 10**6)]]


def saw(remaining: int) -> list[list[Verdict]]:
    return DENIED if not remaining else [[Verdict(True, remaining, 0, HOUR * 10**6 if remaining < 3 else 0)]]


@pytest.mark.parametrize(
    ("sound", "history"),
    [
        (True, [(TAKE, 0, 1, took(2)), (TAKE, 2, 3, took(1)), (PEEK, 4, 5, saw(1))]),
        (True, [(TAKE, 0, 9, took(0)), (TAKE, 1, 8, took(1)), (TAKE, 2, 3, took(2)), (TAKE, 4, 9, DENIED)]),
        (True, [(TAKE, 0), (PEEK, 1, 2, saw(3)), (PEEK, 3, 4, saw(2))]),
        (True, [(TAKE, 0), (TAKE, 0), (PEEK, 5, 6, saw(2))]),
        (True, [(TAKE, 0, 1, took(2)), (FORGET, 2, 5, None), (PEEK, 3, 4, saw(3))]),
        (True, [(TAKE, 0, 5, True), (PEEK, 1, 2, saw(3)), (PEEK, 3, 4, saw(2))]),
    ],
    ids=[
        "in order",
        "the other way round",
        "unknown, late",
        "unknown, once",
        "forgotten while asked",
        "seen meanwhile",
    ],
)
def test_the_checker_explains_what_can_be(sound: bool, history: Sequence[tuple]):
    assert explained([Operation(*one) for one in history], START) is sound


@pytest.mark.parametrize(
    "history",
    [
        [(TAKE, 0, 1, took(2)), (PEEK, 2, 3, saw(3))],
        [(TAKE, 0, 1, took(2)), (PEEK, 2, 3, saw(1))],
        [(TAKE, 0, 9, took(2)), (TAKE, 0, 9, took(2))],
        [(TAKE, 0, 9, took(2)), (TAKE, 0, 9, took(0)), (PEEK, 10, 11, saw(1))],
        [(TAKE, 0, 1, took(1)), (TAKE, 2, 3, took(2))],
        [(TAKE, 0, 1, took(2)), (FORGET, 2, 3, None), (PEEK, 4, 5, saw(2))],
        [(TAKE, 0, 9, DENIED), *[(TAKE, 0, 9, took(n)) for n in (2, 1)]],
        [*[(TAKE, 0, 1, took(n)) for n in (2, 1, 0)], (FORGET, 2, 3, None), (TAKE, 4, 5, [Remembered(DENIED[0])])],
        [(TAKE, 0), (PEEK, 1, 2, saw(2)), (PEEK, 3, 4, saw(3))],
        [(TAKE, 0), (PEEK, 1, 2, saw(1))],
        [(TAKE, 0, 1, False), (PEEK, 2, 3, saw(3))],
        [(TAKE, 0, 1, [[Verdict(True, 2, 0, 1)]])],
        [(PEEK, 0, 1, [StoreUnavailable("strange")])],
        [(Asked("take", [[(THREE, "a", 1)], [(THREE, "a", 1)]]), 0, 1, [*took(2), *took(2)])],
    ],
    ids=[
        "a unit lost",
        "a unit counted twice",
        "two take one unit",
        "one too few",
        "a stale answer",
        "forgotten for nothing",
        "denied with room",
        "a denial remembered too long",
        "unknown, and taken back",
        "unknown, twice",
        "denied for nothing",
        "another wait",
        "an error for nothing",
        "a batch that is not in order",
    ],
)
def test_the_checker_rejects_what_cannot_be(history: Sequence[tuple]):
    assert not explained([Operation(*one) for one in history], START)


# Histories of the stores


def test_the_answers_to_tasks_are_those_of_some_order(server: servers.Server, prefix: str):
    with Tasks(server, prefix) as run:
        run.run(40, seed=1)


def test_the_answers_to_threads_are_those_of_some_order(server: servers.Server, prefix: str):
    with Threads(server, prefix) as run:
        run.run(40, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_answers_to_tasks_are_those_of_some_order_whatever_fails(server: servers.Server, prefix: str, fault: str):
    with Tasks(server, prefix, timeout=0.05 if fault == "late" else 30) as run:
        run.run(8 if fault == "late" else 20, seed=3, fault=fault)
        assert not run.lost_connections()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_answers_to_threads_are_those_of_some_order_whatever_fails(server: servers.Server, prefix: str, fault: str):
    with Threads(server, prefix, timeout=0.05 if fault == "late" else 30) as run:
        run.run(8 if fault == "late" else 20, seed=4, fault=fault)
        assert not run.lost_connections()


@pytest.mark.slow
def test_the_answers_to_tasks_are_those_of_some_order_whoever_is_cancelled(server: servers.Server, prefix: str):
    with Tasks(server, prefix) as run:
        run.run(60, seed=5, cancels=True)
        assert not run.lost_connections()


class Run:
    """Two stores on one server, through a proxy, whose clock stands still; and what is asked of them at once."""

    asynchronous = False

    def __init__(self, server: servers.Server, prefix: str, *, timeout: float = 30) -> None:
        self.closing = contextlib.ExitStack()
        self.proxy = self.closing.enter_context(Cuts(server.port))
        self.harness = Harness("redis", client=server.client, prefix=prefix)
        self.closing.callback(self.harness.close)
        self.server, self.prefix = server, prefix
        kind = AsyncRedisStore if self.asynchronous else RedisStore
        self.stores = [kind.from_url(self.proxy.url, prefix=prefix, timeout=timeout) for _ in range(2)]
        for store in self.stores:
            store._scripts = self.harness.store._scripts
        self.unknown = self.refused = self.remembered = 0

    def run(self, times: int, *, seed: int, fault: str = "", cancels: bool = False) -> None:
        """Play and explain so many histories; and more, on a busy machine, until all that is to happen has happened."""
        fails = cancels or fault not in ("", "flush")
        before = len(self.proxy.scripts)
        for n in range(6 * times):
            self.play_and_explain(Random(f"{seed}-{n}"), fault, cancels)
            calls = len(self.proxy.scripts) - before
            shared = calls < (n + 1) * ACTORS * 3
            proven = self.unknown if fails else self.remembered and (fault or shared)
            if n + 1 >= times and proven:
                break
        print(
            f"{n + 1} histories: {self.unknown} unknown, {self.refused} refused, {self.remembered} remembered, "
            f"{calls} script calls"
        )
        assert fails or self.unknown + self.refused == 0
        assert proven, "too little happened"

    def play_and_explain(self, chance: Random, fault: str, cancels: bool) -> None:
        plans = Plans(chance, self.prefix)
        self.server.client.sadd(plans.strange_key(self.prefix), "x")
        history = self.play(plans.actors, chance, fault, cancels)
        self.proxy.recover()
        history += [Operation(asked, time.monotonic(), time.monotonic(), answers) for asked, answers in self.see(plans)]
        state = State(self.harness.now_us, frozenset({plans.strange}))
        assert explained(history, state), "\n".join(map(str, sorted(history, key=lambda each: each.begin)))

    def see(self, plans: Plans) -> Iterator[tuple[Asked, list]]:
        """Ask the server itself what each counter holds."""
        for policy, key in plans.counters:
            asked = [charges((policy, key, 1))]
            yield Asked("peek", asked), self.harness.decide(*asked, commit=False)

    def play(self, actors: Sequence[Sequence[Step]], chance: Random, fault: str, cancels: bool) -> list[Operation]:
        raise NotImplementedError  # tasks play in one way, threads in another

    def recorded(self, asked: Asked, begin: float, outcome: object) -> Iterator[Operation]:
        """Say what is known of one operation, by its answers or its error."""
        end = time.monotonic()
        if asked.strange and isinstance(outcome, StoreUnavailable):
            yield Operation(asked, begin, end, [outcome])
        elif isinstance(outcome, StoreUnavailable):
            self.refused += 1
        elif isinstance(outcome, (StoreTimeout, asyncio.CancelledError)):
            self.unknown += 1
            yield Operation(asked, begin)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            yield from self._told(asked, begin, end, outcome)

    def _told(self, asked: Asked, begin: float, end: float, outcome: object) -> Iterator[Operation]:
        """Take what was remembered out of a batch: the rest alone was decided at one instant."""
        if not isinstance(outcome, list) or not any(isinstance(answer, Remembered) for answer in outcome):
            yield Operation(asked, begin, end, outcome)
            return
        rest = []
        for request, answer in zip(asked.requests, outcome, strict=True):
            if isinstance(answer, Remembered):
                self.remembered += 1
                yield Operation(Asked(asked.verb, [request]), begin, end, [answer], slack_us=1_000_000)
            else:
                rest.append((request, answer))
        if rest:
            requests, answers = zip(*rest, strict=True)
            yield Operation(Asked(asked.verb, requests), begin, end, answers)

    def fail(self, fault: str) -> None:
        if fault == "flush":
            self.server.client.script_flush()
        elif fault == "late":
            self.proxy.hold = True
            Timer(0.08, self.proxy.recover).start()
        elif fault:
            setattr(self.proxy, fault, 1)

    def lost_connections(self) -> int:
        """Count the connections that are neither in the pool nor in use by a pipeline.

        One may still be being made or given back when all callers have their answers. A lost one stays lost.
        """
        end_at = time.monotonic() + 30
        while (lost := self._not_accounted_for()) and time.monotonic() < end_at:
            time.sleep(0.01)
        return lost

    def _not_accounted_for(self) -> int:
        kept = [self.borrowed(store) for store in self.stores]
        pools = [store._client.connection_pool for store in self.stores]
        used = [connection for pool in pools for connection in list(pool._in_use_connections)]
        return sum(connection not in kept for connection in used)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()


Step = tuple[Asked, int, float]
"""What is asked, of which store, and after which pause."""


class Plans:
    """What each of some actors asks in one history, on counters that no other history has."""

    def __init__(self, chance: Random, prefix: str) -> None:
        n = next(_numbers)
        self._chance = chance
        self._keys = [f"a{n}", f"b{n}"][: chance.choice([1, 1, 2])]
        self.strange = f"s{n}"
        limit = chance.choice([2, 3, 3, 5])
        makers: list[Callable[[], Policy]] = [
            lambda: SlidingWindow(limit, window=HOUR),
            lambda: TokenBucket(limit, window=HOUR),
            lambda: FixedWindow(limit, window=HOUR),
            lambda: CalendarWindow(limit, every="day"),
        ]
        first, second = chance.choice(makers)(), SlidingWindow(4, window=2 * HOUR)
        self._policies = [first, second][: chance.choice([1, 1, 2])]
        self.counters = [(policy, key) for policy in self._policies for key in self._keys]
        self.actors = [[self._step() for _ in range(chance.choice([2, 3, 4]))] for _ in range(ACTORS)]

    def strange_key(self, prefix: str) -> str:
        return f"{prefix}{{{self.strange}}}:{self._policies[0].namespace}"

    def _step(self) -> Step:
        return self._asked(), self._chance.choice([0, 0, 0, 1]), self._chance.choice([0, 0, 0, 0.0005, 0.001])

    def _asked(self) -> Asked:
        verbs = {"take": 11, "allow": 5, "peek": 2, "forget": 2, "block": 1, "strange": 1}
        (verb,) = self._chance.choices(list(verbs), list(verbs.values()))
        policy, key = self._chance.choice(self.counters)
        if verb == "forget":
            return Asked(verb, counters=[Counter(policy, key)])
        if verb == "block":
            return Asked(verb, counters=[Counter(policy, key)], span_us=self._chance.choice([0, 0, HOUR * 10**6]))
        if verb == "strange":
            return Asked("take", [charges((self._policies[0], self.strange, 1))], strange=True)
        if verb == "allow":
            return Asked(verb, [charges((policy, key, self._cost()))])
        return Asked(verb, [self._request()])

    def _request(self):
        key, policies = self._chance.choice(self._keys), self._policies
        if self._chance.random() < 0.3:
            policies = policies[:1]
        return charges(*((policy, key, self._cost()) for policy in policies))

    def _cost(self) -> int:
        return self._chance.choice([1, 1, 1, 2])


class Tasks(Run):
    asynchronous = True

    def __init__(self, server: servers.Server, prefix: str, **options: float) -> None:
        super().__init__(server, prefix, **options)
        self.runner = self.closing.enter_context(asyncio.Runner())
        for store in self.stores:
            self.closing.callback(lambda store=store: self.runner.run(store.aclose()))

    def borrowed(self, store: AsyncRedisStore) -> object:
        self.runner.run(asyncio.sleep(0.01))  # only meanwhile its tasks make connections and give them back
        protocol = store._in_use(store._pipelines, ())._protocol
        return protocol and protocol.connection

    def play(self, actors: Sequence[Sequence[Step]], chance: Random, fault: str, cancels: bool) -> list[Operation]:
        return self.runner.run(self._play(actors, chance, fault, cancels))

    async def _play(
        self, actors: Sequence[Sequence[Step]], chance: Random, fault: str, cancels: bool
    ) -> list[Operation]:
        history: list[Operation] = []
        tasks = [asyncio.create_task(self._act(steps, history)) for steps in actors]
        if fault or cancels:
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice([0, 0, 0.0003, 0.001]))
            self.fail(fault)
        if cancels:
            for task in chance.sample(tasks, chance.randrange(1, ACTORS + 1)):
                task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        return history

    async def _act(self, steps: Sequence[Step], history: list[Operation]) -> None:
        for asked, store, pause in steps:
            await asyncio.sleep(pause)
            begin = time.monotonic()
            try:
                outcome = _outcome(asked, await _done(self.stores[store], asked))
            except asyncio.CancelledError as error:
                history += self.recorded(asked, begin, error)
                raise
            except StoreError as error:
                outcome = error
            history += self.recorded(asked, begin, outcome)


class Threads(Run):
    def __init__(self, server: servers.Server, prefix: str, **options: float) -> None:
        super().__init__(server, prefix, **options)
        self.threads = self.closing.enter_context(ThreadPoolExecutor(ACTORS + 1))
        for store in self.stores:
            self.closing.callback(store.close)

    def borrowed(self, store: RedisStore) -> object:
        return store._in_use(store._pipelines, ())._connection

    def play(self, actors: Sequence[Sequence[Step]], chance: Random, fault: str, cancels: bool) -> list[Operation]:
        start = Barrier(len(actors) + 1)
        playing = [self.threads.submit(self._act, steps, start) for steps in actors]
        start.wait()
        if fault:
            time.sleep(chance.choice([0, 0.0003, 0.0006, 0.001]))
            self.fail(fault)
        return [operation for each in playing for operation in each.result()]

    def _act(self, steps: Sequence[Step], start: Barrier) -> list[Operation]:
        history: list[Operation] = []
        start.wait()
        for asked, store, pause in steps:
            time.sleep(pause)
            begin = time.monotonic()
            try:
                outcome = _outcome(asked, _done(self.stores[store], asked))
            except StoreError as error:
                outcome = error
            history += self.recorded(asked, begin, outcome)
        return history


def _done(store, asked: Asked):
    """Call the store's verb: what it returns, or an awaitable of it."""
    if asked.verb == "forget":
        return store.forget(asked.counters)
    if asked.verb == "block":
        return store.block(asked.counters, asked.span_us)
    (request,) = asked.requests
    return store.decide(Request(request, commit=asked.verb != "peek"))


def _outcome(asked: Asked, result: object) -> object:
    """Return what an operation's answers are, from what the verb returned."""
    if not asked.requests:
        return result
    return all(verdict.allowed for verdict in result) if asked.verb == "allow" else [result]
