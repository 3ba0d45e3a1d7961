"""The pipeline for threads: order, caps, deadlines, interrupts, signal handlers and faults."""

from __future__ import annotations

import contextlib
import dis
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

import pytest
import redis

import servers
from faults.callers import (
    FAULTS,
    MARGIN,
    POLICY,
    Callers,
    callers_in,
    fail,
    judge,
    large,
    pipeline_of,
    request_for,
    until,
    wide,
)
from faults.cuts import Cuts
from machine import awake
from sluicegate import Limiter, RedisStore, SlidingWindow, StoreError, StoreTimeout, StoreUnavailable
from sluicegate._stores.redis.pipeline import base, batch, connections, queue, threads
from sluicegate._stores.redis.pipeline.queue import Queue
from sluicegate._stores.redis.pipeline.waiter import Failed, Waiter

INTERRUPTIBLE = {str(module.__file__) for module in (base, batch, connections, queue, threads)}


# In their order


def test_threads_are_decided_in_the_order_in_which_they_call(proxy: Cuts, prefix: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
        limiter, callers = Limiter(SlidingWindow(9, window=600), store=store), Callers()
        # The server must know the script. Otherwise each batch is sent a second time, in full, and one that is made
        # meanwhile may overtake it.
        limiter.take("warm-up")
        proxy.hold = True
        for number in range(20):
            callers.call(lambda: limiter.allow("a"))
            until(lambda number=number: callers_in(store) == number + 1)
        proxy.hold = False
        assert callers.join() == [True] * 9 + [False] * 11


# Caps


def test_a_full_queue_refuses_the_next_thread_at_once_and_answers_the_others(proxy: Cuts, prefix: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=30, max_waiting=5) as store:
        limiter, callers = Limiter(POLICY, store=store), Callers()
        limiter.peek("a")
        proxy.hold = True
        while len(pipeline_of(store)._queue) < 5:
            callers.call(lambda: limiter.allow("a"))
            until(lambda: callers_in(store) == len(callers.threads))
        began = awake()
        with pytest.raises(StoreUnavailable, match="queue full: 5 callers are waiting; nothing was taken"):
            limiter.allow("a")
        assert awake() - began < 0.1
        proxy.hold = False
        assert callers.join() == [True] * len(callers.threads)
        assert limiter.peek("a").remaining == 10**6 - len(callers.threads)


def test_a_request_larger_than_a_batch_goes_in_one_call(proxy: Cuts, prefix: str):
    keys = [f"k{n}" for n in range(queue.MAX_CHARGES * 2 + 1)]
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
        assert all(verdict.allowed for verdict in store.decide(request_for(keys)))
    assert max(int(words[2]) for words in proxy.scripts if words[0] == b"EVALSHA") == len(keys)


# Deadlines


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_with_a_frozen_server_threads_get_their_errors_in_time_and_the_next_call_works(kind: str):
    with servers.running(kind) as own, RedisStore.from_url(own.url, timeout=0.3) as store:
        limiter, callers, chance = Limiter(POLICY, store=store), Callers(), Random(3)
        limiter.take("a")
        own.freeze()
        for _ in range(16):
            callers.call(lambda: limiter.take("a"))
            time.sleep(chance.choice([0, 0.03]))
        outcomes = callers.join()
        assert {type(outcome) for outcome in outcomes} <= {StoreTimeout, StoreUnavailable}
        assert max(callers.seconds) < 0.3 + MARGIN
        own.thaw()
        sent = sum(isinstance(outcome, StoreTimeout) for outcome in outcomes)
        assert 1 + 1 <= 10**6 - limiter.take("a").remaining <= 1 + sent + 1


@pytest.mark.slow
def test_a_batch_that_cannot_be_sent_fails_when_the_driver_gives_up(proxy: Cuts, prefix: str):
    with redis.Redis.from_url(proxy.url, socket_timeout=0.1) as own:
        store = RedisStore(own, prefix=wide(prefix), timeout=3)
        limiter = Limiter(POLICY, store=store)
        limiter.take("a")
        proxy.deaf = True
        began = awake()
        with pytest.raises(StoreTimeout):
            store.decide(large(prefix))
        assert awake() - began < 1
        proxy.deaf = False
        assert limiter.take("a").remaining == 10**6 - 2


@pytest.mark.slow
def test_while_a_batch_cannot_be_sent_other_threads_get_their_errors_in_time_whatever_the_drivers_timeout(
    proxy: Cuts, prefix: str
):
    with redis.Redis.from_url(proxy.url, socket_timeout=None) as own:
        store, callers = RedisStore(own, prefix=wide(prefix), timeout=0.4), Callers()
        limiter = Limiter(POLICY, store=store)
        limiter.take("a")
        proxy.deaf = True
        callers.call(lambda: store.decide(large(prefix)))
        time.sleep(0.1)
        callers.call(lambda: limiter.take("a"))
        outcomes = callers.join()  # the other one connects anew: the client's own settings let that take for ever
        proxy.deaf = False
        assert [type(outcome) for outcome in outcomes] == [StoreTimeout, StoreUnavailable]
        assert max(callers.seconds) < 0.4 + MARGIN
        assert limiter.take("a").remaining == 10**6 - 2
        assert own.connection_pool.get_connection()._sock.gettimeout() is None  # as it was


# Interrupts and signal handlers


@pytest.fixture
def signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def refuse(*_: object) -> None:
    raise StoreUnavailable("raised by a signal handler")


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("handler", [interrupt, refuse])
@pytest.mark.parametrize("first", [True, False], ids=["leads", "waits"])
def test_an_interrupted_thread_never_affects_others(
    proxy: Cuts, prefix: str, first: bool, handler: Callable[[int, object], object]
):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=2) as store:
        limiter, callers = Limiter(POLICY, store=store), Callers()
        limiter.take("a")
        proxy.hold = True
        if not first:
            callers.call(lambda: limiter.take("a"))
            until(lambda: callers_in(store) == 1)
        threading.Timer(0.05, lambda: [callers.call(lambda: limiter.take("a")) for _ in range(8)]).start()
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
def test_a_signal_handler_can_call_in_the_middle_of_a_call(proxy: Cuts, prefix: str, first: bool):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=2) as store:
        limiter, callers, answers = Limiter(POLICY, store=store), Callers(), []
        limiter.take("a")
        proxy.delay = 0.1

        def nested_call(*_: object) -> None:
            answers.append(limiter.take("h").remaining)

        if not first:
            callers.call(lambda: limiter.take("a"))
            until(lambda: callers_in(store) == 1)
        signal.signal(signal.SIGALRM, nested_call)
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        began = awake()
        assert limiter.take("a").allowed
        assert awake() - began < 1
        assert answers == [10**6 - 1]
        callers.join()


class Stop:
    """Does something once in the middle of a call: at the n-th place of the pipeline's code where Python handles
    signals (when a function begins, a call is over, or a loop goes round)."""

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
        if frame.f_code.co_filename not in INTERRUPTIBLE:
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


def calls_with_stops(
    limiter: Limiter, store: RedisStore, names: Iterator[int], stops: Iterator[Stop]
) -> Iterator[Stop]:
    """Stop a call of this thread at one place after the other, beside two other threads. Yields after each."""
    for stop in stops:
        name, callers = f"k{next(names)}", Callers()
        for _ in range(2):
            callers.call(lambda name=name: limiter.take(name).remaining)
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
@pytest.mark.parametrize("event", ["interrupt", "nested call"])
def test_a_store_survives_an_interrupt_or_a_nested_call_at_every_step_of_a_call(
    proxy: Cuts, prefix: str, delay: float, event: str
):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=0.5) as store:
        limiter, names, seen = Limiter(POLICY, store=store), count(), []
        limiter.peek("a")
        proxy.delay = delay

        def nested_call() -> None:
            seen.append(10**6 - limiter.take("h").remaining)

        act = interrupt if event == "interrupt" else nested_call
        done = 0
        for stop in calls_with_stops(limiter, store, names, (Stop(at, act) for at in count(1))):
            done += 1
            if stop.left > 0:  # the call was over before it
                break
        assert done > 12
        if event == "nested call":
            assert seen == list(range(1, done))


def test_a_leader_whose_request_an_interrupted_sender_lost_gets_its_error(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(POLICY, store=store)
        limiter.peek("a")
        lost = Waiter(store._take, (), 1, time.monotonic() + 0.02)
        lost.sent = True  # out of the queue, and not in flight
        pipeline_of(store)._read(lost)
        assert isinstance(lost.outcome, Failed)
        assert isinstance(lost.outcome.error, StoreTimeout)
        assert limiter.take("a").remaining == 10**6 - 1


@pytest.mark.slow
def test_an_interrupt_at_every_step_of_connecting_leaves_a_store_that_works(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix, timeout=2) as store:
        limiter, pool = Limiter(POLICY, store=store), store._client.connection_pool
        limiter.peek("a")
        for at in count(1):
            pool.disconnect()
            with contextlib.suppress(KeyboardInterrupt), Stop(at, interrupt) as stop:
                limiter.take("a")
            began = awake()
            assert limiter.take(f"k{at}").remaining == 10**6 - 1
            assert awake() - began < 1
            if stop.left > 0:  # the call was over before it
                break
        assert at > 60
        until(lambda: not pipeline_of(store)._attempts)


# Faults


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_16_threads_survive_faults_and_no_call_is_sent_twice(
    server: servers.Server, proxy: Cuts, prefix: str, fault: str
):
    with RedisStore.from_url(proxy.url, prefix=prefix) as store:
        limiter, callers, outcomes = Limiter(POLICY, store=store), Callers(), []

        def work(number: int) -> None:
            for n in range(40):
                key = f"u{number}-{n}"
                try:
                    outcomes.append((key, limiter.take(key)))
                except StoreError as error:
                    outcomes.append((key, error))

        for number in range(16):
            callers.call(lambda number=number: work(number))
        for n in range(1, 6):
            until(lambda n=n: len(outcomes) >= 80 * n)  # so it is connected, and calls are in flight
            fail(server, proxy, fault)
        assert callers.join() == [None] * 16
        proxy.recover()
        assert limiter.take("after").allowed
    judge(server, proxy, prefix, outcomes, fault)


def test_a_caller_that_is_refused_just_as_its_time_is_over_leaves_the_queue_once():
    callers = Queue(10)
    waiter = Waiter(lambda _: iter(()), (), 1, 0.0)
    callers.add(waiter)
    first, second = StoreUnavailable("refused"), StoreUnavailable("late")
    callers.leave(waiter, first)
    callers.leave(waiter, second)
    assert (len(callers), waiter.outcome.error) == (0, first)
