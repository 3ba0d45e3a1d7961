"""Closing a limiter or leaving it to the garbage collector, and entering it again."""

from __future__ import annotations

import asyncio
import gc
import uuid
from typing import Any

import pytest

import servers
from faults.callers import pipeline_of
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    InvalidPolicy,
    Limiter,
    LimiterClosed,
    MemoryStore,
    RedisStore,
    SlidingWindow,
)
from sluicegate._stores.redis.pipeline.tasks import State

VERBS = {"allow": ("a",), "take": ("a",), "peek": ("a",), "forget": ("a",), "block": ("a", 5)}
SETTINGS: list[dict[str, Any]] = [{}, {"exempt": {"a"}}, {"enabled": False}, {"limits": {"a": 3}.get}]


async def closed(kind: type, **settings: Any) -> Any:
    limiter = kind("2/minute", **settings)
    await answer(limiter.allow("b"))
    await answer(limiter.aclose() if kind is AsyncLimiter else limiter.close())
    return limiter


async def answer(result: Any) -> Any:
    return await result if hasattr(result, "__await__") else result


@pytest.mark.parametrize("settings", SETTINGS, ids=["direct", "exempt", "off", "limits"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_every_verb_of_a_closed_limiter_raises(kind: type, verb: str, settings: dict[str, Any]):
    async def use() -> None:
        store = MemoryStore()
        limiter = await closed(kind, store=store, **settings)
        limiter.enabled = limiter.enabled  # the switch does not open it
        held = len(store)
        with pytest.raises(LimiterClosed, match=r"this limiter is closed, nothing was done: .* \(with limiter: or"):
            await answer(getattr(limiter, verb)(*VERBS[verb]))
        assert len(store) == held

    asyncio.run(use())


def test_a_limiter_that_is_entered_again_goes_on():
    store = MemoryStore()
    limiter = Limiter("2/minute", store=store)
    assert limiter.allow("a")
    for _ in range(2):
        limiter.close()
    with limiter:
        assert [limiter.allow("a"), limiter.allow("a"), limiter.take("a").allowed] == [True, False, False]
        assert limiter.statistics().allowed == 2
        with limiter:
            pass
        with pytest.raises(LimiterClosed):
            limiter.allow("a")


def test_a_limiter_for_tasks_that_is_entered_again_goes_on(server: servers.Server):
    async def use() -> None:
        limiter = AsyncLimiter(SlidingWindow(2, window=60, name="entered-again"), store=server.url)
        for _ in range(2):
            async with limiter:
                await limiter.forget("a")
                assert [await limiter.allow("a") for _ in range(3)] == [True, True, False]
            with pytest.raises(LimiterClosed):
                await limiter.take("a")

    asyncio.run(use())
    asyncio.run(use())


def test_a_limiter_that_is_entered_again_keeps_its_connection(named: Named):
    async def of_tasks() -> None:
        limiter = AsyncLimiter(SlidingWindow(99, window=1, name=named.name), store=named.url)
        for _ in range(2):
            async with limiter:
                await limiter.peek("a")
                ids = named.ids()
                await limiter.peek("a")
                assert len(ids) == 1 and named.ids() == ids
                assert pipeline_of(limiter._store).state is State.READY

    asyncio.run(of_tasks())
    limiter = Limiter(SlidingWindow(99, window=1, name=named.name), store=named.url)
    for _ in range(2):
        with limiter:
            limiter.peek("a")
            assert pipeline_of(limiter._store)._connection is not None


def test_a_limiter_that_would_share_a_counter_by_now_is_not_opened_again():
    store = MemoryStore()
    limiter = Limiter("2/minute", store=store)
    limiter.close()
    with Limiter("3/minute", store=store), pytest.raises(InvalidPolicy, match="limits 3 and 2"), limiter:
        pass
    with pytest.raises(LimiterClosed):
        limiter.allow("a")
    with limiter:
        assert limiter.allow("a")


def test_a_memory_store_can_be_closed_where_a_store_for_tasks_is():
    async def lifespan(store: MemoryStore | AsyncRedisStore) -> None:
        async with store:
            await AsyncLimiter("2/minute", store=store).allow("a")
        await store.aclose()

    store = MemoryStore()
    asyncio.run(lifespan(store))
    assert len(store) == 0


@pytest.mark.parametrize("what", ["limiter", "store"])
def test_the_connection_of_a_limiter_or_store_for_tasks_is_closed_when_it_is_collected(what: str, named: Named):
    async def one() -> None:
        store = named.url if what == "limiter" else AsyncRedisStore.from_url(named.url)
        assert await AsyncLimiter(SlidingWindow(99, window=1, name=named.name), store=store).allow("a")

    async def use() -> None:
        for _ in range(20):
            await one()
        gc.collect()
        await named.all_closed()

    asyncio.run(asyncio.wait_for(use(), 30))


def test_the_connection_of_a_store_for_tasks_is_closed_if_another_thread_collects_it(named: Named):
    async def use() -> None:
        held = [AsyncRedisStore.from_url(named.url)]
        await AsyncLimiter(SlidingWindow(99, window=1, name=named.name), store=held[0]).allow("a")
        assert named.connections() == 1
        await asyncio.to_thread(held.clear)
        gc.collect()
        await named.all_closed()

    asyncio.run(asyncio.wait_for(use(), 30))


@pytest.mark.parametrize("what", ["limiter", "store"])
def test_the_connection_of_a_limiter_or_store_for_threads_is_closed_when_it_is_collected(what: str, named: Named):
    for _ in range(20):
        store = named.url if what == "limiter" else RedisStore.from_url(named.url)
        assert Limiter(SlidingWindow(99, window=1, name=named.name), store=store).allow("a")
    del store
    gc.collect()
    asyncio.run(asyncio.wait_for(named.all_closed(), 30))


class Named:
    """A server, and its connections that have a name of the test's own."""

    def __init__(self, server: servers.Server) -> None:
        self.name = f"test-{uuid.uuid4().hex}"
        self.url = f"{server.url}?client_name={self.name}"
        self._client = server.client

    def ids(self) -> list[str]:
        return [each["id"] for each in self._client.client_list() if each["name"] == self.name]

    def connections(self) -> int:
        return len(self.ids())

    async def all_closed(self) -> None:
        while self.connections():
            await asyncio.sleep(0.01)


@pytest.fixture
def named(server: servers.Server) -> Named:
    return Named(server)
