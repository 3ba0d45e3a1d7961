"""The pipeline for tasks: order, caps, deadlines, cancelled callers and faults."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter, deque
from collections.abc import Awaitable
from itertools import count
from random import Random

import pytest
import redis.asyncio

import servers
from faults.callers import (
    FAULTS,
    MARGIN,
    POLICY,
    fail,
    judge,
    large,
    outcome_of,
    pipeline_of,
    request_for,
    until_awaited,
    wide,
)
from faults.cuts import Cuts
from machine import awake
from sluicegate import AsyncLimiter, AsyncRedisStore, Decision, SlidingWindow, StoreTimeout, StoreUnavailable
from sluicegate._stores.redis.pipeline import queue, tasks
from sluicegate._stores.redis.pipeline.batch import Batch
from sluicegate._stores.redis.pipeline.tasks import TRANSITIONS, AsyncPipeline, State

pytestmark = pytest.mark.usefixtures("quiet")


# In their order


def test_tasks_are_decided_in_the_order_in_which_they_call(server: servers.Server, prefix: str):
    async def main() -> list[bool]:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(SlidingWindow(400, window=600), store=store)
            return await asyncio.gather(*(limiter.allow("a") for _ in range(900)))

    assert asyncio.run(main()) == [True] * 400 + [False] * 500


# Caps


def test_a_full_queue_refuses_the_next_task_at_once_and_answers_the_others(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30, max_waiting=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.peek("a")
            proxy.hold = True
            tasks = []
            while len(pipeline_of(store)._queue) < 5:
                tasks.append(asyncio.create_task(limiter.allow("a")))
                await asyncio.sleep(0.002)
            began = awake()
            with pytest.raises(StoreUnavailable, match="queue full: 5 callers are waiting; nothing was taken"):
                await limiter.allow("a")
            assert awake() - began < 0.1
            proxy.hold = False
            assert all(await asyncio.gather(*tasks))
            assert (await limiter.peek("a")).remaining == 10**6 - len(tasks)

    asyncio.run(main())


class Watched(deque):
    """The batches in flight, and the most of them at once."""

    most = 0

    def append(self, entry) -> None:
        super().append(entry)
        self.most = max(self.most, len(self))


def test_batches_and_their_number_in_flight_stay_within_their_caps(proxy: Cuts, prefix: str):
    async def main() -> int:
        chance, keys = Random(1), map(str, count())
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("warm-up")  # so that no script is sent twice: the server knows it from here on
            before.append(len(proxy.scripts))
            watched = pipeline_of(store)._in_flight = Watched()
            proxy.hold = True
            tasks = []
            for _ in range(40):
                more = chance.choice([1, 5, 50, 200])
                tasks += [asyncio.create_task(limiter.allow(f"a{len(tasks) + n}")) for n in range(more)]
                await asyncio.sleep(0.0005)
            assert len(watched) == queue.MAX_IN_FLIGHT
            proxy.hold = False
            while not all(task.done() for task in tasks):
                tasks += [
                    asyncio.create_task(limiter.allow(next(keys))) for _ in range(300 if len(tasks) < 9000 else 0)
                ]
                await asyncio.sleep(0.0005)  # the proxy is a thread of this process
            assert all(await asyncio.gather(*tasks))
            assert watched.most == queue.MAX_IN_FLIGHT
            return len(tasks)

    before: list[int] = []
    tasks = asyncio.run(main())
    charges = [int(words[2]) for words in proxy.scripts[before[0] :]]
    assert max(charges) == queue.MAX_CHARGES
    assert sum(charges) == tasks


def test_a_request_larger_than_a_batch_goes_in_one_call(proxy: Cuts, prefix: str):
    keys = [f"k{n}" for n in range(queue.MAX_CHARGES * 2 + 1)]
    peek = request_for(keys[:1], commit=False)

    async def main():
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            first = asyncio.create_task(store.decide(peek))
            await asyncio.sleep(0)
            after = [store.decide(request_for(keys)), *(store.decide(peek) for _ in range(3))]
            return (await asyncio.gather(first, *after))[1]

    assert all(verdict.allowed for verdict in asyncio.run(main()))
    assert max(int(words[2]) for words in proxy.scripts if words[0] == b"EVALSHA") == len(keys)


# Deadlines


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_with_a_frozen_server_tasks_get_their_errors_in_time_and_the_next_call_works(kind: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(own.url, timeout=0.3) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            own.freeze()
            seconds, calls = [], []

            async def call(after: float) -> object:
                await asyncio.sleep(after)
                began = awake()
                outcome = await outcome_of(limiter.take("a"))
                seconds.append(awake() - began)
                return outcome

            chance = Random(2)
            calls = await asyncio.gather(*(call(chance.choice([0, chance.random() * 0.5])) for _ in range(200)))
            assert {type(outcome) for outcome in calls} <= {StoreTimeout, StoreUnavailable}
            assert max(seconds) < 0.3 + MARGIN
            own.thaw()
            sent = sum(isinstance(outcome, StoreTimeout) for outcome in calls)
            assert 0 < sent < 200
            decision = await limiter.take("a")
            assert 1 + 1 <= 10**6 - decision.remaining <= 1 + sent + 1

    with servers.running(kind) as own:
        asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_a_task_whose_script_is_sent_in_full_behind_a_later_call_gets_its_error_in_time(kind: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, timeout=0.4) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await asyncio.gather(limiter.take("a"), limiter.peek("a"))
            own.client.script_flush()
            proxy.hold = True
            seconds = {}

            async def timed(name: str, call: Awaitable[object]) -> None:
                began = awake()
                outcome = await outcome_of(call)
                assert isinstance(outcome, StoreTimeout)
                seconds[name] = awake() - began

            calls = [asyncio.create_task(timed(name, limiter.take(name))) for name in ("first", "early")]
            await until_awaited(lambda: len(pipeline_of(store)._in_flight) == 2)
            await asyncio.sleep(0.1)
            own.freeze()
            calls.append(asyncio.create_task(timed("later", limiter.peek("a"))))
            await until_awaited(lambda: len(pipeline_of(store)._in_flight) == 3)
            await asyncio.sleep(0.1)
            proxy.hold = False
            await asyncio.gather(*calls)
            assert b"EVAL" in {words[0] for words in proxy.scripts}
            assert seconds["early"] < 0.4 + 0.08
            own.thaw()
            await limiter.take("a")

    with servers.running(kind) as own, Cuts(own.port) as proxy:
        asyncio.run(main())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_cancelling_tasks_whose_batch_cannot_be_sent_cancels_no_other_call(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=wide(prefix), timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.deaf = True
            calls = [limiter.take("a"), limiter.take("a"), store.decide(large(prefix))]
            tasks = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            proxy.recover()
            for taken in range(1, 4):
                assert (await limiter.take("b")).remaining == 10**6 - taken

    asyncio.run(main())


# Cancelled callers


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("whom", ["some", "the first", "all", "all tasks there are"])
@pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])
def test_cancelled_tasks_never_affect_others(server: servers.Server, prefix: str, whom: str, given: bool):
    async def main() -> None:
        chance, names = Random(f"{whom}{given}"), count()
        for connected in (True, False):
            for steps in range(9):
                async with contextlib.AsyncExitStack() as stack:
                    store = await opened(stack, server.url, prefix, given)
                    limiter = AsyncLimiter(POLICY, store=store)
                    if connected:
                        await limiter.peek("a")
                    name = f"k{next(names)}"
                    tasks = [asyncio.create_task(limiter.allow(name)) for _ in range(chance.choice([1, 2, 9]))]
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    tasks += [asyncio.create_task(limiter.allow(name)) for _ in range(chance.choice([0, 1, 5]))]
                    await asyncio.sleep(0)
                    for task in chosen(whom, tasks, chance):
                        task.cancel()
                    later = [asyncio.create_task(limiter.allow(name)) for _ in range(chance.choice([0, 3]))]
                    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, *later, return_exceptions=True), 2)
                    kinds = Counter(type(outcome) for outcome in outcomes)
                    assert set(kinds) <= {bool, asyncio.CancelledError}
                    counted = 10**6 - (await asyncio.wait_for(limiter.peek(name), 2)).remaining
                    assert kinds[bool] <= counted <= len(outcomes)
                    await until_awaited(lambda store=store: is_at_rest(store, given))
                    assert len(store._client.connection_pool._in_use_connections) == (not given)

    asyncio.run(main())


def is_at_rest(store: AsyncRedisStore, given: bool) -> bool:
    pipeline = pipeline_of(store)
    return not pipeline._clean_up and pipeline.state is (State.IDLE if given else State.READY)


async def opened(stack: contextlib.AsyncExitStack, url: str, prefix: str, given: bool) -> AsyncRedisStore:
    if not given:
        return await stack.enter_async_context(AsyncRedisStore.from_url(url, prefix=prefix, timeout=1))
    client = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
    return AsyncRedisStore(client, prefix=prefix, timeout=1)


def chosen(whom: str, tasks: list[asyncio.Task], chance: Random) -> list[asyncio.Task]:
    if whom == "some":
        return chance.sample(tasks, len(tasks) // 2)
    if whom == "the first":
        return tasks[:1]
    return tasks if whom == "all" else list(asyncio.all_tasks() - {asyncio.current_task()})


# It closes nothing, so an idle connection is left open, and Python warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("held", [0, 0.02])
def test_a_program_ends_cleanly_while_calls_are_in_flight(proxy: Cuts, prefix: str, held: float):
    async def main() -> None:
        store = AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=2)
        stores.append(store)
        limiter = AsyncLimiter(POLICY, store=store)
        await limiter.take("a")
        proxy.hold = bool(held)
        for _ in range(5):
            tasks.extend(asyncio.create_task(limiter.take("a")) for _ in range(4))
            await asyncio.sleep(held / 5)

    tasks: list[asyncio.Task] = []
    stores: list[AsyncRedisStore] = []
    began = awake()
    asyncio.run(main())
    assert awake() - began < 1
    proxy.recover()
    asyncio.run(stores[0].aclose())


@pytest.mark.parametrize("method", ["on_reply", "start"])
def test_a_bug_in_the_middle_of_a_batch_raises_in_its_callers_alone(
    server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch, method: str
):
    async def main() -> list[object]:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=2) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            calls = [asyncio.create_task(outcome_of(limiter.take("a"))) for _ in range(9)]
            await asyncio.sleep(0)
            with monkeypatch.context() as patched:
                patched.setattr(Batch, method, broken(getattr(Batch, method)))
                done, waiting = await asyncio.wait(calls, timeout=1, return_when=asyncio.ALL_COMPLETED)
            assert not waiting
            assert (await limiter.take("b")).allowed
            return [task.exception() or task.result() for task in done]

    outcomes = asyncio.run(main())
    assert any(isinstance(outcome, (StoreTimeout, ZeroDivisionError)) for outcome in outcomes)


def broken(method):
    times = count()

    def breaks(self, *args):
        if len(self.waiters) > 1 and args != (None,) and next(times) == 0:  # from `start`
            raise ZeroDivisionError
        return method(self, *args)

    return breaks


# States


def test_the_table_of_transitions_in_the_module_is_the_one_that_holds():
    rows = re.findall(r"^    ([A-Z]+) +([A-Z]+) +\w", tasks.__doc__, re.MULTILINE)
    assert sorted(rows) == sorted((start.name, end.name) for start, ends in TRANSITIONS.items() for end in ends)


@pytest.fixture
def transitions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, State]]:
    """The transitions of all pipelines for tasks, in order."""
    seen, enter = [], AsyncPipeline._enter

    def recorded(pipeline: AsyncPipeline, state: State) -> None:
        seen.append((pipeline.state, state))
        enter(pipeline, state)

    monkeypatch.setattr(AsyncPipeline, "_enter", recorded)
    return seen


def test_every_transition_happens_when_the_table_says(proxy: Cuts, prefix: str, transitions: list[tuple[State, State]]):
    idle, connecting, ready, busy, draining = State

    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)

            async def call(*expected: tuple[State, State], outcome: type = Decision) -> None:
                transitions.clear()
                assert type(await outcome_of(limiter.take("a"))) is outcome
                assert transitions == list(expected)

            first = [(idle, connecting), (connecting, ready), (ready, busy), (busy, ready)]
            await call(*first)
            await call((ready, busy), (busy, ready))
            proxy.cut_reply = 1
            await call((ready, busy), (busy, idle), outcome=StoreTimeout)
            await call(*first)
            transitions.clear()
            await asyncio.to_thread(proxy.drop)
            await until_awaited(lambda: transitions == [(ready, idle)])
            await call(*first)
            proxy.hold = True
            transitions.clear()
            calls = [asyncio.create_task(limiter.take("a")), asyncio.create_task(limiter.peek("a"))]
            await until_awaited(lambda: len(pipeline_of(store)._in_flight) == 2)
            pipeline_of(store)._protocol.connection.mark_for_reconnect()
            calls.append(asyncio.create_task(limiter.take("a")))  # it would join them
            await until_awaited(lambda: pipeline_of(store).state is draining)
            proxy.hold = False
            await asyncio.gather(*calls)
            assert transitions == [(ready, busy), (busy, draining), (draining, idle), *first]
        async with AsyncRedisStore.from_url(f"redis://127.0.0.1:{servers.free_port()}/0") as store:
            transitions.clear()
            with pytest.raises(StoreUnavailable):
                await AsyncLimiter(POLICY, store=store).take("a")
            await until_awaited(lambda: transitions == [(idle, connecting), (connecting, idle)])

    asyncio.run(main())


# Faults


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_64_tasks_survive_faults_and_no_call_is_sent_twice(
    server: servers.Server, proxy: Cuts, prefix: str, fault: str
):
    async def main() -> list[tuple[str, object]]:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix) as store:
            limiter, outcomes = AsyncLimiter(POLICY, store=store), []

            async def work(number: int) -> None:
                for n in range(30):
                    key = f"u{number}-{n}"
                    outcomes.append((key, await outcome_of(limiter.take(key))))

            tasks = [asyncio.create_task(work(number)) for number in range(64)]
            for n in range(1, 6):
                await until_awaited(lambda n=n: len(outcomes) >= 200 * n)  # so it is connected, and calls are in flight
                fail(server, proxy, fault)
            await asyncio.gather(*tasks)
            proxy.recover()
            assert (await limiter.take("after")).allowed
            return outcomes

    judge(server, proxy, prefix, asyncio.run(main()), fault)
