"""`FailingStore`: what limiters answer while it fails, what is taken then, and that it does as a store on a server."""

from __future__ import annotations

import asyncio
import inspect
import logging
from threading import Thread
from typing import Any

import pytest

import servers
from service.processes import within
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    Limiter,
    MemoryStore,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreEvent,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate.testing import FailingStore, ManualClock

MODES = ["local", "open", "closed", "raise"]

KINDS = [Limiter, AsyncLimiter]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=["threads", "tasks"])


def done(result: Any) -> Any:
    """Return the result of a verb, of threads or of tasks."""

    async def awaited() -> Any:
        return await result

    return asyncio.run(awaited()) if inspect.isawaitable(result) else result


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> FailingStore:
    return FailingStore(clock=clock)


def allowed(limiter: Any, times: int, key: str = "alice") -> list[bool]:
    return [done(limiter.take(key)).allowed for _ in range(times)]


@each_kind
def test_it_counts_as_a_memory_store_until_it_is_told_to_fail(kind: Any, store: FailingStore, clock: ManualClock):
    limiter = kind("2/minute", store=store)
    plain = kind("2/minute", store=MemoryStore(clock=clock))
    for seconds in (0, 1, 30, 29, 1, 60):
        clock.advance(seconds)
        assert done(limiter.take("alice")) == done(plain.take("alice"))
        assert done(limiter.peek("alice")) == done(plain.peek("alice"))
    assert not store.is_failing


@each_kind
@pytest.mark.parametrize(("mode", "answers"), [("local", [True, False]), ("open", [True] * 2), ("closed", [False] * 2)])
@pytest.mark.parametrize("error", [StoreUnavailable, StoreTimeout])
def test_while_it_fails_limiters_answer_as_they_say(
    kind: Any, store: FailingStore, mode: Any, answers: list[bool], error: Any
):
    limiter = kind("2/minute", store=store, on_outage=mode)
    assert allowed(limiter, 1) == [True]
    store.fail(error)
    assert store.is_failing
    decisions = [done(limiter.take("alice")) for _ in answers]
    assert [decision.allowed for decision in decisions] == answers
    assert {decision.source for decision in decisions} == {"fallback"}


@each_kind
@pytest.mark.parametrize(
    ("error", "reason", "taken"), [(StoreUnavailable, "unreachable", 1), (StoreTimeout, "timeout", 2)]
)
def test_a_timeout_takes_the_cost_and_an_unreachable_store_takes_nothing(
    kind: Any, store: FailingStore, error: Any, reason: str, taken: int
):
    limiter = kind("5/minute", store=store, on_outage="raise")
    done(limiter.take("alice"))
    with store.failing(error), pytest.raises(error) as caught:
        done(limiter.take("alice"))
    assert caught.value.reason == reason
    assert done(limiter.peek("alice")).remaining == 5 - taken


@each_kind
def test_every_verb_fails(kind: Any, store: FailingStore):
    limiter = kind("5/minute", store=store, on_outage="raise")
    store.fail()
    for verb in (limiter.allow, limiter.take, limiter.peek, limiter.charge, limiter.forget):
        with pytest.raises(StoreUnavailable):
            done(verb("alice"))
    with pytest.raises(StoreUnavailable):
        done(limiter.block("alice", 5))


@each_kind
def test_what_is_used_counts_in_an_outage_by_the_clock_and_what_is_allowed_in_one_counts_after_it(
    kind: Any, store: FailingStore, clock: ManualClock
):
    limiter = kind("4/minute", store=store)
    assert allowed(limiter, 1) == [True]
    clock.advance(30)
    with store.failing():
        assert allowed(limiter, 5) == [True, True, True, False, False]
        clock.advance(30)  # the unit from before is back
        assert allowed(limiter, 2) == [True, False]
        clock.advance(60)  # and so are those of the outage
        assert allowed(limiter, 5) == [True] * 4 + [False]
    assert allowed(limiter, 1) == [False]
    clock.advance(60)
    assert done(limiter.peek("alice")).remaining == 4


@each_kind
def test_a_timeout_does_not_count_what_it_took_twice_under_local(kind: Any, store: FailingStore):
    limiter = kind("6/minute", store=store)
    assert allowed(limiter, 2) == [True] * 2
    with store.failing(StoreTimeout):
        assert allowed(limiter, 5) == [True] * 4 + [False]


@each_kind
def test_units_that_were_given_back_are_free_in_an_outage(kind: Any, store: FailingStore):
    limiter = kind("5/minute", store=store)

    async def reserve() -> None:
        async with limiter.reserve("alice", 4) as budget:
            budget.settle(1)

    if kind is AsyncLimiter:
        asyncio.run(reserve())
    else:
        with limiter.reserve("alice", 4) as budget:
            budget.settle(1)
    store.fail()
    assert allowed(limiter, 5) == [True] * 4 + [False]


@each_kind
def test_units_that_were_waited_for_count_in_an_outage_and_waiting_in_one_does_as_the_limiter_says(
    kind: Any, store: FailingStore
):
    limiter = kind("2/minute", store=store)

    async def reserve() -> bool:
        async with limiter.reserve("alice", wait=True, timeout=0) as budget:
            return bool(budget)

    def reserved() -> bool:
        if kind is AsyncLimiter:
            return asyncio.run(reserve())
        with limiter.reserve("alice", wait=True, timeout=0) as budget:
            return bool(budget)

    assert reserved()
    store.fail()
    assert [reserved() for _ in range(2)] == [True, False]


@each_kind
@pytest.mark.parametrize(("mode", "answers"), [("local", [True, False]), ("open", [True] * 2), ("closed", [False] * 2)])
def test_a_wait_in_an_outage_does_as_the_limiter_says(kind: Any, store: FailingStore, mode: Any, answers: list[bool]):
    limiter = kind("2/minute", store=store, on_outage=mode)
    assert done(limiter.wait("alice")).allowed
    store.fail()
    assert [done(limiter.wait("alice", timeout=0)).allowed for _ in answers] == answers


@each_kind
def test_a_block_from_before_an_outage_holds_in_it_and_so_does_one_that_fails(kind: Any, store: FailingStore):
    limiter = kind("5/minute", store=store)
    done(limiter.block("before", 60))
    store.fail()
    with pytest.raises(StoreUnavailable):
        done(limiter.block("meanwhile", 60))
    assert allowed(limiter, 1, "before") == [False]
    assert allowed(limiter, 1, "meanwhile") == [False]
    assert allowed(limiter, 1, "another") == [True]


@each_kind
def test_three_failures_are_an_outage_for_those_who_listen(
    kind: Any, store: FailingStore, caplog: pytest.LogCaptureFixture
):
    events: list[StoreEvent] = []
    limiter = kind("5/minute", store=store, on_event=events.append)
    store.fail()
    allowed(limiter, 2)
    assert events == []
    allowed(limiter, 3)
    assert [(event.kind, event.reason) for event in events] == [("down", "unreachable")]
    assert limiter.statistics().mode == "local"
    store.recover()
    store.recover()
    assert [event.kind for event in events] == ["down", "up"]
    assert limiter.statistics().mode == "store"
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition(",")[0] for line in lines] == ["the store is down", "the store is up again"]


@each_kind
def test_failures_with_an_answer_between_them_are_no_outage(kind: Any, store: FailingStore):
    events: list[StoreEvent] = []
    limiter = kind("50/minute", store=store, on_event=events.append)
    for _ in range(3):
        with store.failing():
            allowed(limiter, 2)
        allowed(limiter, 1)
    assert events == []


def test_threads_and_tasks_share_its_counters_and_its_outage(store: FailingStore):
    policy = SlidingWindow(2, window=60, name="shared")
    events: list[StoreEvent] = []
    of_threads = Limiter(policy, store=store, on_outage="closed", on_event=events.append)
    of_tasks = AsyncLimiter(policy, store=store, on_outage="closed", on_event=events.append)
    assert of_threads.allow("alice") and done(of_tasks.allow("alice")) and not of_threads.allow("alice")
    with store.failing():
        of_threads.allow("bob")
        done(of_tasks.allow("bob"))
        of_threads.allow("bob")
    assert [event.kind for event in events] == ["down", "down", "up", "up"]


def test_a_failing_block_ends_with_an_exception_too(store: FailingStore):
    with store.failing() as failing:
        assert failing is store
    with pytest.raises(StoreUnavailable), store.failing():
        Limiter("5/minute", store=store, on_outage="raise").take("alice")
    assert not store.is_failing


def test_a_wait_ends_when_the_clock_says_so(store: FailingStore, clock: ManualClock):
    limiter = Limiter("1/minute", store=store)
    assert limiter.wait("alice")
    decisions: list[Any] = []
    thread = Thread(target=lambda: decisions.append(limiter.wait("alice")))
    thread.start()
    assert within(lambda: limiter.statistics().waiting == 1 and bool(clock._alarms))
    clock.advance(60)
    thread.join()
    assert decisions[0].allowed


def test_closing_it_forgets_all_keys_and_what_was_known_of_them(store: FailingStore):
    limiter = Limiter("2/minute", store=store)
    allowed(limiter, 2)
    store.close()
    with store.failing():
        assert allowed(limiter, 1) == [True]


@pytest.mark.parametrize("error", [StoreError, ValueError, "down", None, StoreUnavailable("down")], ids=repr)
def test_an_error_that_no_store_raises_is_refused(store: FailingStore, error: Any):
    with pytest.raises(TypeError, match=r"^error must be the class StoreUnavailable or StoreTimeout, got "):
        store.fail(error)
    assert not store.is_failing
    with pytest.raises(TypeError, match=r"^error must be"), store.failing(error):
        pass


def test_its_own_arguments_are_checked_as_those_of_a_memory_store():
    with pytest.raises(TypeError, match="clock must have a method now_us"):
        FailingStore(clock=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_keys must be"):
        FailingStore(max_keys=0)


# Beside the real thing


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("mode", MODES)
def test_it_answers_as_a_store_does_whose_server_was_killed(kind: Any, mode: Any):
    kinds = list(servers.binaries())
    if not kinds:
        pytest.skip(servers.HOW_TO_GET_ONE)
    real_kind = RedisStore if kind is Limiter else AsyncRedisStore
    with servers.running(kinds[0]) as server:

        def kill() -> None:
            server.process.kill()
            server.process.wait()

        real = asyncio.run(history(kind, mode, real_kind.from_url(server.url), kill))
    store = FailingStore(clock=ManualClock())
    assert asyncio.run(history(kind, mode, store, store.fail)) == real


async def history(kind: Any, mode: Any, store: Any, kill: Any) -> list[Any]:
    """Return what a limiter answers while its store is up and then while it is down, and what it hears of that."""
    events: list[StoreEvent] = []
    limiter = kind("3/minute", store=store, on_outage=mode, on_event=events.append)

    async def of(result: Any) -> Any:
        return await result if inspect.isawaitable(result) else result

    answers: list[Any] = []
    for number in range(8):
        if number == 2:
            kill()
        try:
            decision = await of(limiter.take("alice"))
        except StoreError:  # of a server the first one may be another than the next: its connection breaks
            answers.append("raised")
        else:
            answers.append((decision.allowed, decision.source, decision.limit, decision.remaining))
    await of(store.close() if kind is Limiter else store.aclose())
    return [*answers, [(event.kind, event.reason) for event in events]]
