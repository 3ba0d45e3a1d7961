"""Callers that share calls: in their order, within their time, and none the worse for what befalls another."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from random import Random

import pytest
import redis
import redis.asyncio

import servers
from faults.cuts import Cuts
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    Limiter,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate._stores.redis.pipeline import base as line
from sluicegate._stores.redis.pipeline import queue
from sluicegate._stores.redis.pipeline import threads as thread_line

POLICY = SlidingWindow(10**6, window=600)
MARGIN = 0.3
SHARED = str(line.__file__), str(thread_line.__file__), str(queue.__file__)


pytestmark = pytest.mark.usefixtures("quiet")


def asked(store: RedisStore | AsyncRedisStore) -> int:
    """Count the callers that wait for their answer or their call."""
    line = store._line
    with getattr(line, "_lock", contextlib.nullcontext()):  # one that is just leaving counts once
        return len(line._queue) + sum(len(flight.waiters) for flight in line._under_way)


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.0005)


async def until_awaited(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not seen():
        assert time.monotonic() < end
        await asyncio.sleep(0.0005)


class Callers:
    """Threads that ask, each with what it got."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.outcomes: dict[int, object] = {}
        self.seconds: list[float] = []

    def ask(self, call: Callable[[], object]) -> None:
        thread = threading.Thread(target=self._ask, args=(len(self.threads), call), daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> list[object]:
        for thread in self.threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self.threads)
        return [self.outcomes[number] for number in range(len(self.threads))]

    def _ask(self, number: int, call: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            self.outcomes[number] = call()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.outcomes[number] = error
        self.seconds.append(time.monotonic() - began)


async def told(call: Awaitable[object]) -> object:
    try:
        return await call
    except StoreError as error:
        return error


# In their order


def test_of_tasks_that_ask_in_order_the_first_are_allowed(server: servers.Server, prefix: str):
    async def main() -> list[bool]:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=5) as store:
            limiter = AsyncLimiter(SlidingWindow(400, window=600), store=store)
            return await asyncio.gather(*(limiter.allow("a") for _ in range(900)))

    assert asyncio.run(main()) == [True] * 400 + [False] * 500


def test_of_threads_that_ask_in_order_the_first_are_allowed(proxy: Cuts, prefix: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
        limiter, callers = Limiter(SlidingWindow(9, window=600), store=store), Callers()
        limiter.peek("a")
        proxy.hold = True
        for number in range(20):
            callers.ask(lambda: limiter.allow("a"))
            until(lambda number=number: asked(store) == number + 1)
        proxy.hold = False
        assert callers.join() == [True] * 9 + [False] * 11


# As many as may


def test_one_task_more_than_may_wait_is_refused_at_once_and_the_others_are_answered(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=5, max_waiting=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.peek("a")
            proxy.hold = True
            tasks = []
            while len(store._line._queue) < 5:
                tasks.append(asyncio.create_task(limiter.allow("a")))
                await asyncio.sleep(0.002)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="nothing was taken: 5 callers wait"):
                await limiter.allow("a")
            assert time.monotonic() - began < 0.1
            proxy.hold = False
            assert all(await asyncio.gather(*tasks))
            assert (await limiter.peek("a")).remaining == 10**6 - len(tasks)

    asyncio.run(main())


def test_one_thread_more_than_may_wait_is_refused_at_once_and_the_others_are_answered(proxy: Cuts, prefix: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=5, max_waiting=5) as store:
        limiter, callers = Limiter(POLICY, store=store), Callers()
        limiter.peek("a")
        proxy.hold = True
        while len(store._line._queue) < 5:
            callers.ask(lambda: limiter.allow("a"))
            until(lambda: asked(store) == len(callers.threads))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="nothing was taken: 5 callers wait"):
            limiter.allow("a")
        assert time.monotonic() - began < 0.1
        proxy.hold = False
        assert callers.join() == [True] * len(callers.threads)
        assert limiter.peek("a").remaining == 10**6 - len(callers.threads)


class Watched(deque):
    """What is under way, and the most that was at once."""

    most = 0

    def append(self, flight) -> None:
        super().append(flight)
        self.most = max(self.most, len(self))


def test_no_call_is_larger_and_no_more_are_under_way_than_may_be(proxy: Cuts, prefix: str):
    async def main() -> int:
        chance, keys = Random(1), map(str, count())
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.peek("a")
            watched = store._line._under_way = Watched()
            proxy.hold = True
            tasks = []
            for _ in range(40):
                more = chance.choice([1, 5, 50, 200])
                tasks += [asyncio.create_task(limiter.allow(f"a{len(tasks) + n}")) for n in range(more)]
                await asyncio.sleep(0.0005)
            assert len(watched) == queue.IN_FLIGHT
            proxy.hold = False
            while not all(task.done() for task in tasks):
                tasks += [
                    asyncio.create_task(limiter.allow(next(keys))) for _ in range(300 if len(tasks) < 9000 else 0)
                ]
                await asyncio.sleep(0.0005)  # the proxy is a thread of this process
            assert all(await asyncio.gather(*tasks))
            assert watched.most == queue.IN_FLIGHT
            return len(tasks)

    tasks = asyncio.run(main())
    charges = [int(words[2]) for words in proxy.scripts][1:]
    assert max(charges) == queue.BATCH
    assert sum(charges) == tasks


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_batch_of_the_callers_own_that_is_larger_still_goes_in_one_call(proxy: Cuts, prefix: str, form: str):
    requests = [((POLICY, f"k{n}", 1),) for n in range(queue.BATCH * 2 + 1)]
    if form == "sync":
        with RedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
            answers = store.decide(requests)
    else:

        async def main():
            async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
                first = asyncio.create_task(store.decide(requests[:1], commit=False))
                await asyncio.sleep(0)
                after = [store.decide(requests), *(store.decide(requests[:1], commit=False) for _ in range(3))]
                return (await asyncio.gather(first, *after))[1]

        answers = asyncio.run(main())
    assert all(answer[0].allowed for answer in answers)
    assert max(int(words[2]) for words in proxy.scripts if words[0] == b"EVALSHA") == len(requests)


# Within their time


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_tasks_that_ask_a_stopped_server_are_told_in_time_and_the_next_call_works(kind: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(own.url, timeout=0.3) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            own.freeze()
            seconds, calls = [], []

            async def ask(after: float) -> object:
                await asyncio.sleep(after)
                began = time.monotonic()
                outcome = await told(limiter.take("a"))
                seconds.append(time.monotonic() - began)
                return outcome

            chance = Random(2)
            calls = await asyncio.gather(*(ask(chance.choice([0, chance.random() * 0.5])) for _ in range(200)))
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
def test_threads_that_ask_a_stopped_server_are_told_in_time_and_the_next_call_works(kind: str):
    with servers.running(kind) as own, RedisStore.from_url(own.url, timeout=0.3) as store:
        limiter, callers, chance = Limiter(POLICY, store=store), Callers(), Random(3)
        limiter.take("a")
        own.freeze()
        for _ in range(16):
            callers.ask(lambda: limiter.take("a"))
            time.sleep(chance.choice([0, 0.03]))
        outcomes = callers.join()
        assert {type(outcome) for outcome in outcomes} <= {StoreTimeout, StoreUnavailable}
        # One that has to connect takes as long as that again.
        assert max(callers.seconds) < 0.3 + 0.3 + MARGIN
        own.thaw()
        sent = sum(isinstance(outcome, StoreTimeout) for outcome in outcomes)
        assert 1 + 1 <= 10**6 - limiter.take("a").remaining <= 1 + sent + 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_a_task_whose_script_had_to_be_sent_again_behind_a_later_call_is_told_in_time(kind: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, timeout=0.4) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await asyncio.gather(limiter.take("a"), limiter.peek("a"))
            own.client.script_flush()
            proxy.hold = True
            seconds = {}

            async def ask(name: str, call: Awaitable[object]) -> None:
                began = time.monotonic()
                outcome = await told(call)
                assert isinstance(outcome, StoreTimeout)
                seconds[name] = time.monotonic() - began

            calls = [asyncio.create_task(ask(name, limiter.take(name))) for name in ("leader", "early")]
            await until_awaited(lambda: len(store._line._under_way) == 2)
            await asyncio.sleep(0.1)
            own.freeze()
            calls.append(asyncio.create_task(ask("later", limiter.peek("a"))))
            await until_awaited(lambda: len(store._line._under_way) == 3)
            await asyncio.sleep(0.1)
            proxy.hold = False
            await asyncio.gather(*calls)
            assert b"EVAL" in {words[0] for words in proxy.scripts}
            assert seconds["early"] < 0.4 + 0.08
            own.thaw()
            await limiter.take("a")

    with servers.running(kind) as own, Cuts(own.port) as proxy:
        asyncio.run(main())


def large(prefix: str) -> list:
    """Return a batch that fills every buffer on its way; give its store the prefix of `wide`."""
    return [((POLICY, f"{prefix}{n}", 1),) for n in range(2000)]


def wide(prefix: str) -> str:
    return prefix + "x" * 8000


@pytest.mark.slow
def test_a_batch_that_cannot_be_sent_is_told_when_the_driver_gives_up(proxy: Cuts, prefix: str):
    with redis.Redis.from_url(proxy.url, socket_timeout=0.1) as own:
        store = RedisStore(own, prefix=wide(prefix), timeout=3)
        limiter = Limiter(POLICY, store=store)
        limiter.take("a")
        proxy.deaf = True
        began = time.monotonic()
        with pytest.raises(StoreTimeout):
            store.decide(large(prefix))
        assert time.monotonic() - began < 1
        proxy.deaf = False
        assert limiter.take("a").remaining == 10**6 - 2


@pytest.mark.slow
def test_a_thread_whose_time_was_over_before_it_was_connected_takes_nothing(proxy: Cuts, prefix: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=0.3) as store:
        proxy.delay = 0.2  # of each reply, and to sign in takes several
        with pytest.raises(StoreUnavailable, match="nothing was taken"):
            Limiter(POLICY, store=store).take("a")
        assert proxy.scripts == []
        proxy.delay = 0
        assert Limiter(POLICY, store=store).take("a").remaining == 10**6 - 1


@pytest.mark.slow
def test_while_a_batch_cannot_be_sent_other_threads_are_told_in_time_whatever_time_the_driver_has(
    proxy: Cuts, prefix: str
):
    with redis.Redis.from_url(proxy.url, socket_timeout=None) as own:
        store, callers = RedisStore(own, prefix=wide(prefix), timeout=0.4), Callers()
        limiter = Limiter(POLICY, store=store)
        limiter.take("a")
        proxy.deaf = True
        callers.ask(lambda: store.decide(large(prefix)))
        time.sleep(0.1)
        callers.ask(lambda: limiter.take("a"))
        until(lambda: callers.seconds)
        time.sleep(0.3)  # the other one connects anew, and the client's own settings let it wait for that without end
        proxy.deaf = False
        outcomes = callers.join()
        assert [type(outcome) for outcome in outcomes] == [StoreTimeout, StoreUnavailable]
        assert callers.seconds[0] < 0.4 + MARGIN
        assert limiter.take("a").remaining == 10**6 - 2
        assert own.connection_pool.get_connection()._sock.gettimeout() is None  # as it was


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_cancelled_while_its_batch_cannot_be_sent_cancels_no_other_call(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=wide(prefix), timeout=2) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.deaf = True
            calls = [limiter.take("a"), limiter.take("a"), store.decide(large(prefix))]
            tasks = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            proxy.mend()
            for taken in range(1, 4):
                assert (await limiter.take("b")).remaining == 10**6 - taken

    asyncio.run(main())


# Whoever is cancelled


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("whom", ["some", "the first", "all", "all tasks there are"])
@pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])
def test_cancelled_tasks_harm_no_other_at_any_step(server: servers.Server, prefix: str, whom: str, given: bool):
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
                    await until_awaited(lambda line=store._line: not line._errands and given == (line._wire is None))
                    assert len(store._client.connection_pool._in_use_connections) == (not given)

    asyncio.run(main())


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


# It closes nothing, so a connection that is idle just then is left open, and Python says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("held", [0, 0.02])
def test_a_program_ends_while_calls_are_under_way(proxy: Cuts, prefix: str, held: float):
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
    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 1
    proxy.mend()
    asyncio.run(stores[0].aclose())


@pytest.mark.parametrize("stop", ["land", "depart"])
def test_an_error_of_our_own_in_the_middle_of_a_batch_is_told_to_those_who_asked(
    server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch, stop: str
):
    async def main() -> list[object]:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=2) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            calls = [asyncio.create_task(told(limiter.take("a"))) for _ in range(9)]
            await asyncio.sleep(0)
            with monkeypatch.context() as patched:
                patched.setattr(queue.Batch, stop, broken(getattr(queue.Batch, stop)))
                done, waiting = await asyncio.wait(calls, timeout=1, return_when=asyncio.ALL_COMPLETED)
            assert not waiting
            assert (await limiter.take("b")).allowed
            return [task.exception() or task.result() for task in done]

    outcomes = asyncio.run(main())
    assert any(isinstance(outcome, (StoreTimeout, ZeroDivisionError)) for outcome in outcomes)


def broken(method):
    times = count()

    def breaks(self, *args):
        if len(self.waiters) > 1 and args != (None,) and next(times) == 0:  # `depart` lands nothing
            raise ZeroDivisionError
        return method(self, *args)

    return breaks


# Whoever is interrupted


@pytest.fixture
def signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def refuse(*_: object) -> None:
    raise StoreUnavailable("by a signal's handler")


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("handler", [interrupt, refuse])
@pytest.mark.parametrize("first", [True, False], ids=["leads", "waits"])
def test_an_interrupt_harms_no_other_thread(
    proxy: Cuts, prefix: str, first: bool, handler: Callable[[int, object], object]
):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=2) as store:
        limiter, callers = Limiter(POLICY, store=store), Callers()
        limiter.take("a")
        proxy.hold = True
        if not first:
            callers.ask(lambda: limiter.take("a"))
            until(lambda: asked(store) == 1)
        threading.Timer(0.05, lambda: [callers.ask(lambda: limiter.take("a")) for _ in range(8)]).start()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with pytest.raises((KeyboardInterrupt, StoreUnavailable)):
            limiter.take("a")
        proxy.hold = False
        outcomes = callers.join()
        assert {type(outcome) for outcome in outcomes} <= {StoreTimeout, type(limiter.peek("a"))}
        assert max(callers.seconds) < 1
        if not first:
            assert StoreTimeout not in {type(outcome) for outcome in outcomes}
        assert limiter.take("b").remaining == 10**6 - 1


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("first", [True, False], ids=["leads", "waits"])
def test_a_signals_handler_that_asks_in_the_middle_of_a_call_is_answered(proxy: Cuts, prefix: str, first: bool):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=2) as store:
        limiter, callers, answers = Limiter(POLICY, store=store), Callers(), []
        limiter.take("a")
        proxy.delay = 0.1

        def ask(*_: object) -> None:
            answers.append(limiter.take("h").remaining)

        if not first:
            callers.ask(lambda: limiter.take("a"))
            until(lambda: asked(store) == 1)
        signal.signal(signal.SIGALRM, ask)
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        began = time.monotonic()
        assert limiter.take("a").allowed
        assert time.monotonic() - began < 1
        assert answers == [10**6 - 1]
        callers.join()


class Stop:
    """Does something once in the middle of a call: at the n-th place of the code that shares calls where Python looks
    for signals (when a function begins, a call is over, or a loop goes round)."""

    _LOOKS = frozenset(dis.opmap.get(name) for name in ("RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD"))

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.at, self.left, self._act = at, at, act
        self._last: dict[object, int] = {}

    def __enter__(self):
        sys._getframe().f_trace_opcodes = True  # or CPython 3.12 tells of no opcode until the next one is entered
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame, event, arg):
        if frame.f_code.co_filename not in SHARED:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame, event, arg):
        if event == "opcode":
            last = self._last.get(frame)
            self._last[frame] = frame.f_code.co_code[frame.f_lasti]
            self.left -= last in self._LOOKS
            if self.left == 0:
                sys.settrace(None)
                self.left -= 1
                self._act()
        return self._step


def beside(limiter: Limiter, store: RedisStore, names: Iterator[int], stops: Iterator[Stop]) -> Iterator[Stop]:
    """Stop a call of this thread at one place after the other, while another thread leads. Yields after each."""
    for stop in stops:
        name, callers = f"k{next(names)}", Callers()
        for _ in range(2):
            callers.ask(lambda name=name: limiter.take(name).remaining)
        with contextlib.suppress(KeyboardInterrupt), stop:
            limiter.take(f"o{name}")
        outcomes = callers.join()
        taken = {outcome for outcome in outcomes if isinstance(outcome, int)}
        assert {type(outcome) for outcome in outcomes} <= {int, StoreTimeout}, outcomes
        assert taken <= {10**6 - 1, 10**6 - 2}
        assert max(callers.seconds) < 0.5 + MARGIN
        assert limiter.take("after").remaining == 10**6 - next(names) // 2 - 1
        yield stop


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.003], ids=["leads", "waits"])
@pytest.mark.parametrize("what", ["interrupted", "asked"])
def test_whatever_befalls_a_thread_at_any_moment_its_store_goes_on(proxy: Cuts, prefix: str, delay: float, what: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=0.5) as store:
        limiter, names, seen = Limiter(POLICY, store=store), count(), []
        limiter.peek("a")
        proxy.delay = delay

        def ask() -> None:
            seen.append(10**6 - limiter.take("h").remaining)

        act = interrupt if what == "interrupted" else ask
        done = 0
        for stop in beside(limiter, store, names, (Stop(at, act) for at in count(1))):
            done += 1
            if stop.left > 0:  # the call was over before it
                break
        assert done > 12
        if what == "asked":
            assert seen == list(range(1, done))


# Whatever fails meanwhile

FAULTS = ["flush", "cut_reply", "cut_command", "cut_middle"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_64_tasks_go_on_through_faults_and_none_of_their_calls_is_sent_twice(
    server: servers.Server, proxy: Cuts, prefix: str, fault: str
):
    async def main() -> list[tuple[str, object]]:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=1) as store:
            limiter, outcomes = AsyncLimiter(POLICY, store=store), []

            async def work(number: int) -> None:
                for n in range(30):
                    key = f"u{number}-{n}"
                    outcomes.append((key, await told(limiter.take(key))))

            tasks = [asyncio.create_task(work(number)) for number in range(64)]
            for _ in range(5):
                await asyncio.sleep(0.015)
                fail(server, proxy, fault)
            await asyncio.gather(*tasks)
            proxy.mend()
            assert (await limiter.take("after")).allowed
            return outcomes

    judge(server, proxy, prefix, asyncio.run(main()), fault)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_16_threads_go_on_through_faults_and_none_of_their_calls_is_sent_twice(
    server: servers.Server, proxy: Cuts, prefix: str, fault: str
):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=1) as store:
        limiter, callers, outcomes = Limiter(POLICY, store=store), Callers(), []

        def work(number: int) -> None:
            for n in range(40):
                key = f"u{number}-{n}"
                try:
                    outcomes.append((key, limiter.take(key)))
                except StoreError as error:
                    outcomes.append((key, error))

        for number in range(16):
            callers.ask(lambda number=number: work(number))
        for _ in range(5):
            time.sleep(0.015)
            fail(server, proxy, fault)
        assert callers.join() == [None] * 16
        proxy.mend()
        assert limiter.take("after").allowed
    judge(server, proxy, prefix, outcomes, fault)


def fail(server: servers.Server, proxy: Cuts, fault: str) -> None:
    if fault == "flush":
        server.client.script_flush()
    else:
        setattr(proxy, fault, 1)


def judge(server: servers.Server, proxy: Cuts, prefix: str, outcomes: list[tuple[str, object]], fault: str) -> None:
    """Hold what was sent and what was charged to what was told: each key was asked for once."""
    kinds = Counter(type(outcome) for _, outcome in outcomes)
    print(fault, kinds)
    allowed = {
        key for key, outcome in outcomes if not isinstance(outcome, StoreError) and outcome.remaining == 10**6 - 1
    }
    unknown = {key for key, outcome in outcomes if isinstance(outcome, StoreTimeout)}
    refused = {key for key, outcome in outcomes if isinstance(outcome, StoreUnavailable)}
    assert len(outcomes) == len(allowed | unknown | refused)
    assert bool(unknown) == (fault != "flush")
    for verb in (b"EVALSHA", b"EVAL"):
        sent = Counter(key for words in proxy.scripts if words[0] == verb for key in words[3 : 3 + int(words[2])])
        assert set(sent.values()) <= {1}
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        keys = [key for key, _ in outcomes]
        seen = store.decide([((POLICY, key, 1),) for key in keys], commit=False)
    charged = {key: 10**6 - answer[0].remaining for key, answer in zip(keys, seen, strict=True)}
    assert set(charged.values()) <= {0, 1}
    taken = {key for key, units in charged.items() if units}
    assert allowed <= taken <= allowed | unknown
