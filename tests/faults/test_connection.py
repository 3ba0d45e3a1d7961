"""Calls while the server, or the way to it, fails: none is sent twice, and each error says what is known."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from random import Random

import pytest
import redis
import redis.asyncio
from redis.cache import CacheConfig

import servers
from machine import awake
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    InvalidStore,
    Limiter,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate.proof.proxy import Proxy

POLICY = SlidingWindow(100, window=60)


class Client:
    """A limiter over a URL or over the user's own client, for threads or for tasks, with the same verbs for both."""

    def __init__(self, form: str, url: str, prefix: str, *, timeout: float = 0.5, given: bool = False) -> None:
        self.runner = asyncio.Runner() if form == "async" else None
        self.client = None
        if given:  # with redis-py's own settings: ten retries
            self.client = (redis.asyncio.Redis if self.runner else redis.Redis).from_url(url)
            self.store = (AsyncRedisStore if self.runner else RedisStore)(self.client, prefix=prefix)
        else:
            self.store = (AsyncRedisStore if self.runner else RedisStore).from_url(url, prefix=prefix, timeout=timeout)
        self.limiter = (AsyncLimiter if self.runner else Limiter)(POLICY, store=self.store)

    def take(self, key: str = "a"):
        return self._run(self.limiter.take(key))

    def peek(self, key: str = "a"):
        return self._run(self.limiter.peek(key))

    def rest(self) -> None:
        """Let an event loop run for a moment, so that it sees what happened meanwhile."""
        if self.runner:
            self.runner.run(asyncio.sleep(0.02))

    def close(self) -> None:
        if self.runner is None:
            self.store.close()
            if self.client:
                self.client.close()
        else:
            self.runner.run(self._aclose())
            self.runner.close()

    async def _aclose(self) -> None:
        await self.store.aclose()
        if self.client:
            await self.client.aclose()

    def _run(self, result):
        return self.runner.run(_await(result)) if self.runner else result


async def _await(result):
    return await result


@contextlib.contextmanager
def client(*args, **options):
    made = Client(*args, **options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def proxy(server: servers.Server):
    with Proxy(server.port) as made:
        yield made


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])
def test_a_lost_reply_is_an_unknown_outcome_and_the_call_is_not_sent_again(
    form: str, proxy: Proxy, prefix: str, given: bool
):
    with client(form, url(proxy.port), prefix, given=given) as limiter:
        assert limiter.take().remaining == 99
        before = proxy.sent.count(b"EVALSHA")
        proxy.cut_reply = 1
        with pytest.raises(StoreTimeout, match="the cost may have been taken") as caught:
            limiter.take()
        assert caught.value.__cause__ is not None
        assert proxy.sent.count(b"EVALSHA") == before + 1
        assert limiter.take().remaining == 97  # it was counted, once


@pytest.mark.slow
def test_a_late_reply_is_never_read_as_the_answer_to_another_call(form: str, proxy: Proxy, prefix: str):
    with client(form, url(proxy.port), prefix, timeout=2) as limiter:
        assert limiter.take("a").remaining == 99
        proxy.hold = True
        with pytest.raises(StoreTimeout):
            limiter.take("a")
        proxy.hold = False
        for taken in range(1, 6):
            assert limiter.take("b").remaining == 100 - taken
        assert limiter.peek("a").remaining == 98


def test_an_interrupt_between_request_and_reply_leaves_no_reply_for_another_call(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    with client("sync", url(proxy.port), prefix, timeout=2) as limiter:
        limiter.take("a")
        proxy.hold = True
        with monkeypatch.context() as patched:
            patched.setattr(redis.connection.Connection, "read_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                limiter.take("a")
        threading.Timer(0.1, lambda: setattr(proxy, "hold", False)).start()
        assert limiter.take("b").remaining == 99


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_connection_that_was_closed_while_idle_costs_no_call(form: str, proxy: Proxy, prefix: str):
    with client(form, url(proxy.port), prefix) as limiter:
        for taken in range(1, 4):
            assert limiter.take().remaining == 100 - taken
            proxy.drop()
            limiter.rest()


def test_script_flush_is_survived_without_a_second_charge(form: str, server: servers.Server, prefix: str):
    with client(form, server.url, prefix) as limiter:
        for taken in range(1, 4):
            assert limiter.take().remaining == 100 - taken
            assert limiter.peek().remaining == 100 - taken
            server.client.script_flush()


def test_without_a_server_a_call_fails_at_once_and_nothing_was_taken(form: str):
    with client(form, url(servers.free_port()), "test:") as limiter:
        began = awake()
        with pytest.raises(StoreUnavailable, match="nothing was taken") as caught:
            limiter.take()
        assert awake() - began < 1
        assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)


@pytest.mark.parametrize("kind", servers.binaries())
def test_with_a_paused_server_a_call_fails_within_the_timeout_and_later_ones_work(form: str, kind: str):
    with servers.running(kind) as own, client(form, own.url, "test:", timeout=0.3) as limiter:
        assert limiter.take().remaining == 99
        os.kill(own.process.pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                began = awake()
                with pytest.raises(StoreError):
                    limiter.take()
                assert awake() - began < 1
        finally:
            os.kill(own.process.pid, signal.SIGCONT)
        assert limiter.take().remaining in (97, 98)  # what was sent before the time-out may have been counted


@pytest.mark.parametrize("kind", servers.binaries())
def test_after_a_restart_of_the_server_the_same_limiter_works(form: str, kind: str):
    own = servers.start(kind)
    with client(form, own.url, "test:") as limiter:
        assert limiter.take().remaining == 99
        port = own.port
        own.stop()
        with pytest.raises(StoreError):
            limiter.take()
        again = servers.start(kind, port=port)
        try:
            assert limiter.take().remaining == 99
        finally:
            again.stop()


@pytest.mark.parametrize("kind", servers.binaries())
def test_a_refusal_by_the_server_takes_nothing_and_says_why(form: str, kind: str):
    with servers.running(kind) as own, client(form, own.url, "test:") as limiter:
        limiter.take()
        for setting, value, normal, words in (
            ("maxmemory", "1", "0", "maxmemory"),
            ("min-replicas-to-write", "1", "0", "NOREPLICAS|replicas"),
        ):
            own.client.config_set(setting, value)
            with pytest.raises(StoreUnavailable, match=words):
                limiter.take()
            own.client.config_set(setting, normal)
        own.client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match=r"(?i)read.only|replica"):
            limiter.take()
        own.client.replicaof("NO", "ONE")
        assert limiter.take().remaining == 98


@pytest.mark.parametrize("kind", servers.binaries())
def test_a_wrong_password_is_reported_and_not_shown(form: str, kind: str):
    with servers.running(kind) as own, client(form, own.url.replace("//", "//:s3cret@"), "test:") as limiter:
        own.client.config_set("requirepass", "another")
        with pytest.raises(StoreUnavailable, match="nothing was taken") as caught:
            limiter.take()
    assert "s3cret" not in str(caught.value)


def test_512_tasks_on_one_limiter_are_all_answered(server: servers.Server, prefix: str):
    async def main() -> list[bool]:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(SlidingWindow(1000, window=60), store=store)
            return await asyncio.gather(*(limiter.allow("a") for _ in range(512 * 3)))

    assert sum(asyncio.run(main())) == 1000


def test_a_store_made_from_a_url_works_on_one_event_loop_after_the_other(server: servers.Server, prefix: str):
    store = AsyncRedisStore.from_url(server.url, prefix=prefix)
    limiter = AsyncLimiter(POLICY, store=store)

    async def burst() -> int:
        return sum(await asyncio.gather(*(limiter.allow("a") for _ in range(60))))

    async def last() -> int:
        async with store:
            return await burst()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the first loop was closed with its connections open
        assert [asyncio.run(burst()), asyncio.run(last())] == [60, 40]
        gc.collect()


def test_a_store_that_belongs_to_another_event_loop_raises(server: servers.Server, prefix: str):
    async def other(limiter: AsyncLimiter) -> None:
        with pytest.raises(InvalidStore, match="belongs to another event loop, nothing was taken"):
            await limiter.allow("a")

    async def main() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            assert await limiter.allow("a")
            await asyncio.to_thread(asyncio.run, other(limiter))
            assert (await limiter.peek("a")).remaining == 99

    asyncio.run(main())


def test_512_tasks_over_a_client_with_a_small_pool_are_all_answered(server: servers.Server, prefix: str):
    async def main() -> list[bool]:
        async with redis.asyncio.Redis.from_url(server.url, max_connections=3) as own:
            limiter = AsyncLimiter(SlidingWindow(500, window=60), store=AsyncRedisStore(own, prefix=prefix, timeout=30))
            return await asyncio.gather(*(limiter.allow("a") for _ in range(512)))

    assert sum(asyncio.run(main())) == 500


def test_cancelling_every_third_task_affects_no_other(server: servers.Server, prefix: str):
    async def main() -> tuple[int, int]:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(SlidingWindow(1000, window=60), store=store)
            tasks = [asyncio.create_task(limiter.allow("a")) for _ in range(400)]
            await asyncio.sleep(0.005)
            for task in tasks[::3]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} <= {bool, asyncio.CancelledError}
            answered = sum(result is True for result in results)
            counted = 1000 - (await limiter.peek("a")).remaining
            assert all(await asyncio.gather(*(limiter.allow("b") for _ in range(200))))
            return answered, counted

    answered, counted = asyncio.run(main())
    assert answered <= counted <= 400


def test_a_client_that_caches_replies_is_a_real_one(monkeypatch: pytest.MonkeyPatch):
    if "redis" not in servers.binaries():
        pytest.skip("NO CACHING CLIENT WAS TRIED: it needs redis-server, as redis-py knows only that")
    monkeypatch.setattr(redis.connection.CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    with servers.running("redis") as own:
        caching = redis.Redis.from_url(own.url, protocol=3, cache_config=CacheConfig())
        limiter = Limiter(POLICY, store=RedisStore(caching, prefix="test:"))
        assert [limiter.take("a").remaining for _ in range(3)] == [99, 98, 97]
        caching.close()


def test_a_client_that_the_user_passed_is_never_closed(form: str, server: servers.Server, prefix: str):
    if form == "sync":
        own = redis.Redis.from_url(server.url)
        with RedisStore(own, prefix=prefix) as store, Limiter(POLICY, store=store) as limiter:
            limiter.take("a")
        (connection,) = own.connection_pool._available_connections
        assert connection.is_connected
        own.close()
        return

    async def main() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as own:
            async with AsyncRedisStore(own, prefix=prefix) as store, AsyncLimiter(POLICY, store=store) as limiter:
                await limiter.take("a")
            (connection,) = own.connection_pool._available_connections
            assert connection.is_connected

    asyncio.run(main())


def test_a_limiter_closes_the_store_that_it_made(form: str, server: servers.Server):
    name = uuid.uuid4().hex
    named = f"{server.url}?client_name={name}"

    def connections() -> int:
        return sum(client["name"] == name for client in server.client.client_list())

    if form == "sync":
        with Limiter(POLICY, store=named) as limiter:
            limiter.peek("a")
            assert connections() == 1
    else:

        async def main() -> None:
            async with AsyncLimiter(POLICY, store=named) as limiter:
                await limiter.peek("a")
                assert connections() == 1

        asyncio.run(main())
    end = time.monotonic() + 60
    while connections() and time.monotonic() < end:
        time.sleep(0.01)
    assert connections() == 0


def test_a_child_forked_while_calls_were_in_flight_works(server: servers.Server, prefix: str):
    code = (
        "import os, sys, threading\nfrom sluicegate import *\n"
        "store = RedisStore.from_url(sys.argv[1], prefix=sys.argv[2], timeout=30)\n"
        "limiter = Limiter(SlidingWindow(10**9, window=60), store=store, on_outage='raise', deadline=30)\n"
        "limiter.take('a')\n"
        "(pipeline,) = store._pipelines.values()\n"
        "locks = store._client.connection_pool._lock, pipeline._lock\n"  # as the leader in another thread holds them
        "pipeline._leader = object()\n"
        "holder = threading.Thread(target=lambda: [lock.acquire() for lock in locks])\n"
        "holder.start(); holder.join()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    for _ in range(3): limiter.take('a')\n    os._exit(0)\n"
        "os._exit(os.waitpid(child, 0)[1] and 1)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, server.url, prefix], check=True, timeout=30)


def test_closing_on_another_event_loop_than_the_calls_works(server: servers.Server, prefix: str):
    store = AsyncRedisStore.from_url(server.url, prefix=prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(AsyncLimiter(POLICY, store=store).take("a"))
        asyncio.run(store.aclose())
        gc.collect()


@pytest.mark.parametrize(
    "option", ["?encoding=bogus", "?socket_timeout=-1", "?socket_connect_timeout=-1", "?protocol=nine"]
)
def test_no_option_in_a_url_makes_a_call_raise_an_unexpected_type(form: str, server: servers.Server, option: str):
    try:
        with client(form, server.url + option, "test:") as limiter:
            limiter.peek()
    except (InvalidStore, StoreError):
        pass


def test_an_invalid_host_is_an_unavailable_store(form: str):
    with client(form, "redis://foo..bar/0", "test:") as limiter, pytest.raises(StoreUnavailable):
        limiter.take()


def test_cancelling_tasks_while_they_reconnect_leaks_no_connection(server: servers.Server, prefix: str):
    async def main() -> None:
        chance = Random(1)
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
            limiter, pool = AsyncLimiter(POLICY, store=store), store._client.connection_pool
            for _ in range(40):
                tasks = [asyncio.create_task(limiter.peek("a")) for _ in range(60)]
                for connection in list(pool._available_connections) + list(pool._in_use_connections):
                    connection.mark_for_reconnect()
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                await asyncio.sleep(chance.random() * 0.01)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.1)
            assert len(pool._in_use_connections) <= 1  # the one that the store keeps
            await limiter.peek("a")

    asyncio.run(main())
