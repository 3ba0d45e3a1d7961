"""Connecting lies under the caller's deadline: each call returns in time, and its error says that nothing was taken."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

import servers
from faults.callers import MARGIN, POLICY, Callers, callers_in, outcome_of, pipeline_of, served, until
from faults.cuts import Cuts
from machine import awake
from sluicegate import AsyncLimiter, AsyncRedisStore, Limiter, RedisStore, StoreTimeout, StoreUnavailable
from sluicegate._stores.redis.pipeline import threads

TIMEOUT = 0.3
PATIENT = {"socket_timeout": 30, "socket_connect_timeout": 30}
"""Settings of a user's client that is in no hurry."""


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose server accepts no connection: nobody answers a new one."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port whose server accepts connections, and never answers the handshake."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield listening.getsockname()[1]


def url(port: int) -> str:
    return f"redis://:secret@127.0.0.1:{port}/0"


@pytest.fixture
def retrying() -> Iterator[Callable[[str], redis.Redis]]:
    """Make clients with long time-outs and many retries."""
    made = []

    def make(url: str, **options) -> redis.Redis:
        made.append(redis.Redis.from_url(url, **(PATIENT | {"retry": Retry(ConstantBackoff(1), 50)} | options)))
        return made[-1]

    yield make
    for client in made:
        client.connection_pool.disconnect()


@pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])
@pytest.mark.parametrize("hang", [full_backlog, silent])
def test_threads_get_their_errors_in_time_while_connecting_hangs(retrying, hang, given: bool):
    with hang() as port:
        if given:
            store = RedisStore(retrying(url(port)), timeout=TIMEOUT)
        else:
            store = RedisStore.from_url(url(port), timeout=TIMEOUT)
        limiter, callers = Limiter(POLICY, store=store), Callers()
        for _ in range(2):  # at first, and while an attempt hangs
            for _ in range(4):
                callers.call(lambda: limiter.take("a"))
                time.sleep(TIMEOUT / 10)
            outcomes = callers.join()
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert all("nothing was taken" in str(outcome) for outcome in outcomes)
        assert max(callers.seconds) < TIMEOUT + MARGIN
        store.close()


def test_a_thread_gets_its_error_in_time_while_the_handshake_is_slow(proxy: Cuts, prefix: str):
    with RedisStore.from_url(f"{proxy.url}?client_name={prefix}", prefix=prefix, timeout=TIMEOUT) as store:
        proxy.delay = 0.9 * TIMEOUT  # of each reply, and connecting needs several
        began = awake()
        with pytest.raises(StoreUnavailable, match="nothing was taken"):
            Limiter(POLICY, store=store).take("a")
        assert awake() - began < 1.5 * TIMEOUT
        assert proxy.scripts == []
        proxy.delay = 0
        until(lambda: not pipeline_of(store)._attempts)
        assert Limiter(POLICY, store=store).take("a").remaining == 10**6 - 1


@pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])
@pytest.mark.parametrize("hang", [full_backlog, silent])
def test_tasks_get_their_errors_in_time_while_connecting_hangs(hang, given: bool):
    async def main() -> None:
        if given:
            client = redis.asyncio.Redis.from_url(url(port), **PATIENT, retry=AsyncRetry(ConstantBackoff(1), 50))
            store = AsyncRedisStore(client, timeout=TIMEOUT)
        else:
            store = AsyncRedisStore.from_url(url(port), timeout=TIMEOUT)
        limiter = AsyncLimiter(POLICY, store=store)
        for _ in range(2):
            began = awake()
            outcomes = await asyncio.gather(*(outcome_of(limiter.take("a")) for _ in range(4)))
            assert awake() - began < TIMEOUT + MARGIN
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
            assert all("nothing was taken" in str(outcome) for outcome in outcomes)
        await store.aclose()

    with hang() as port:
        asyncio.run(main())


def test_a_thread_gets_its_error_in_time_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch):
    looked_up = threading.Event()

    def hangs(*_: object, **__: object):
        looked_up.wait(10)
        raise OSError

    monkeypatch.setattr(redis.connection.socket, "getaddrinfo", hangs)
    with RedisStore.from_url("redis://somewhere/0", timeout=TIMEOUT) as store:
        began = awake()
        with pytest.raises(StoreUnavailable, match="nothing was taken"):
            Limiter(POLICY, store=store).take("a")
        assert awake() - began < TIMEOUT + MARGIN
        looked_up.set()
        until(lambda: not pipeline_of(store)._attempts)


def test_an_error_of_any_type_while_connecting_is_an_unavailable_store(server: servers.Server):
    class Provider(redis.CredentialProvider):
        def get_credentials(self):
            raise RuntimeError("no credentials today")

    with redis.Redis.from_url(server.url, credential_provider=Provider()) as own:
        store = RedisStore(own, timeout=30)
        with pytest.raises(StoreUnavailable, match="nothing was taken: no credentials today") as caught:
            Limiter(POLICY, store=store).take("a")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert len(own.connection_pool._in_use_connections) == 0


# Connections that come late


def test_a_connection_that_comes_late_is_kept_and_serves_the_next_call(proxy: Cuts, prefix: str, server):
    named = f"{proxy.url}?client_name={prefix}&socket_timeout=10"
    with RedisStore.from_url(named, prefix=prefix, timeout=TIMEOUT) as store:
        limiter = Limiter(POLICY, store=store)
        proxy.deaf = True
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                limiter.take("a")
        proxy.deaf = False
        until(lambda: pipeline_of(store)._connection is not None)
        assert served(limiter).remaining == 10**6 - 1
        until(lambda: not pipeline_of(store)._attempts)
        named = [each for each in server.client.client_list() if each["name"] == prefix]
        assert len(named) == len(store._client.connection_pool._available_connections) + 1


def test_a_connection_that_comes_late_is_given_back_to_the_users_pool(retrying, proxy: Cuts, prefix: str):
    own = retrying(proxy.url)
    limiter = Limiter(POLICY, store=RedisStore(own, prefix=prefix, timeout=TIMEOUT))
    proxy.deaf = True
    with pytest.raises(StoreUnavailable):
        limiter.take("a")
    assert len(own.connection_pool._in_use_connections) == 1
    proxy.deaf = False
    until(lambda: not own.connection_pool._in_use_connections)
    (connection,) = own.connection_pool._available_connections
    assert connection.is_connected
    assert served(limiter).remaining == 10**6 - 1
    assert own.connection_pool._available_connections == [connection]


def test_a_connection_that_comes_after_the_store_was_closed_is_closed(
    server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    looked_up, look_up = threading.Event(), socket.getaddrinfo

    def slow(*args: object, **options: object):
        looked_up.wait(10)
        return look_up(*args, **options)

    store = RedisStore.from_url(f"{server.url}?client_name={prefix}", prefix=prefix, timeout=TIMEOUT)
    with monkeypatch.context() as patched:
        patched.setattr(redis.connection.socket, "getaddrinfo", slow)
        with pytest.raises(StoreUnavailable):
            Limiter(POLICY, store=store).take("a")
        store.close()
        looked_up.set()
        until(lambda: not store._client.connection_pool._in_use_connections)
    assert [each.is_connected for each in store._client.connection_pool._available_connections] == [False]
    until(lambda: all(each["name"] != prefix for each in server.client.client_list()))


def test_a_caller_that_waits_while_the_store_is_closed_leaves_no_connection(proxy: Cuts, prefix: str, server):
    store = RedisStore.from_url(f"{proxy.url}?client_name={prefix}", prefix=prefix, timeout=30)
    limiter = Limiter(POLICY, store=store)
    with ThreadPoolExecutor(1) as pool:
        proxy.deaf = True
        calling = pool.submit(limiter.take, "a")
        until(lambda: pipeline_of(store)._attempts)
        pipeline = pipeline_of(store)
        store.close()
        proxy.deaf = False
        assert calling.result().remaining == 10**6 - 1
    until(lambda: not store._client.connection_pool._in_use_connections)
    assert pipeline._connection is None


def test_a_server_that_is_back_is_used_though_an_attempt_to_connect_still_hangs(retrying, proxy: Cuts, prefix: str):
    own = retrying(proxy.url)
    limiter = Limiter(POLICY, store=RedisStore(own, prefix=prefix, timeout=TIMEOUT))
    proxy.mute = 1
    with pytest.raises(StoreUnavailable):
        limiter.take("a")
    for taken in range(1, 4):
        assert served(limiter).remaining == 10**6 - taken
    assert len(own.connection_pool._in_use_connections) == 1  # the one that hangs


@pytest.mark.slow
def test_attempts_to_connect_that_hang_are_few(retrying, proxy: Cuts, prefix: str):
    own = retrying(proxy.url)
    store = RedisStore(own, prefix=prefix, timeout=0.05)
    proxy.mute = 1000
    for _ in range(2 * threads.MAX_ATTEMPTS):
        with pytest.raises(StoreUnavailable):
            Limiter(POLICY, store=store).take("a")
    assert len(pipeline_of(store)._attempts) == threads.MAX_ATTEMPTS
    until(lambda: len(own.connection_pool._in_use_connections) == threads.MAX_ATTEMPTS)  # each in a thread of its own
    proxy.mute = 0
    proxy.drop()  # each of them connects again
    until(lambda: not own.connection_pool._in_use_connections)
    assert served(Limiter(POLICY, store=store)).remaining == 10**6 - 1


# The usual case


@pytest.mark.parametrize("client", ["own", "given", "given with a blocking pool"])
def test_a_connection_that_is_idle_is_used_without_another_thread(
    server: servers.Server, prefix: str, client: str, monkeypatch: pytest.MonkeyPatch
):
    started = []

    def counted(function, arguments):
        started.append(function)
        return _thread.start_new_thread(function, arguments)

    monkeypatch.setattr(threads, "_thread", type("Counting", (), {"start_new_thread": staticmethod(counted)}))
    kind = redis.BlockingConnectionPool if "blocking" in client else redis.ConnectionPool
    with contextlib.closing(kind.from_url(server.url)) as pool:
        if client == "own":
            store = RedisStore.from_url(server.url, prefix=prefix)
        else:
            store = RedisStore(redis.Redis(connection_pool=pool), prefix=prefix)
        with store:
            limiter = Limiter(POLICY, store=store)
            for taken in range(1, 20):
                assert limiter.take("a").remaining == 10**6 - taken
    assert len(started) == 1


def test_a_pool_that_blocks_when_it_is_exhausted_holds_no_caller_up(server: servers.Server, prefix: str):
    pool = redis.BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=20)
    with redis.Redis(connection_pool=pool) as own:
        limiter = Limiter(POLICY, store=RedisStore(own, prefix=prefix, timeout=TIMEOUT))
        assert served(limiter).remaining == 10**6 - 1
        taken = pool.get_connection()
        began = awake()
        with pytest.raises(StoreUnavailable):
            limiter.take("a")
        assert awake() - began < TIMEOUT + MARGIN
        pool.release(taken)
        assert served(limiter).remaining == 10**6 - 2
        pool.disconnect()


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])
def test_a_ping_of_the_clients_health_check_holds_no_caller_up(proxy: Cuts, prefix: str, given: bool):
    checked = f"{proxy.url}?health_check_interval=1&socket_timeout=20"
    with redis.Redis.from_url(checked) as own:
        store = (
            RedisStore(own, prefix=prefix, timeout=TIMEOUT)
            if given
            else RedisStore.from_url(checked, prefix=prefix, timeout=TIMEOUT)
        )
        with store:
            limiter = Limiter(POLICY, store=store)
            served(limiter)
            time.sleep(1.05)
            proxy.hold = True
            began = awake()
            with pytest.raises(StoreUnavailable):
                limiter.take("a")
            assert awake() - began < TIMEOUT + MARGIN
            proxy.hold = False
            until(lambda: not pipeline_of(store)._attempts)
            assert served(limiter).remaining == 10**6 - 2
            assert b"PING" in proxy.sent


def test_after_a_store_was_closed_a_call_that_cannot_connect_again_fails_in_time(proxy: Cuts, prefix: str):
    store = RedisStore.from_url(f"{proxy.url}?socket_timeout=10", prefix=prefix, timeout=TIMEOUT)
    limiter = Limiter(POLICY, store=store)
    served(limiter)
    store.close()
    proxy.deaf = True
    began = awake()
    with pytest.raises(StoreUnavailable):
        limiter.take("a")
    assert awake() - began < TIMEOUT + MARGIN
    proxy.deaf = False
    until(lambda: not pipeline_of(store)._attempts)
    store.close()


def test_a_connection_closed_in_the_middle_of_a_call_is_not_connected_again_by_sending(proxy: Cuts, prefix: str):
    with RedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
        limiter, callers = Limiter(POLICY, store=store), Callers()
        limiter.take("a")
        proxy.hold = True
        replies = proxy.replies
        callers.call(lambda: limiter.take("a"))
        until(lambda: proxy.replies > replies)  # the server has counted it
        store._client.connection_pool.disconnect()
        proxy.hold = False
        assert {type(outcome) for outcome in callers.join()} == {StoreTimeout}
        assert callers.seconds[0] < 1
        assert limiter.take("a").remaining == 10**6 - 3


# Interrupts, signal handlers and forks


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[..., object], float], None]]:
    before = signal.getsignal(signal.SIGALRM)

    def schedule(handler: Callable[..., object], after: float) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, after)

    yield schedule
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupt_while_connecting_leaves_the_connection_to_the_others(alarm, proxy: Cuts, prefix: str):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with RedisStore.from_url(f"{proxy.url}?socket_timeout=10", prefix=prefix, timeout=30) as store:
        limiter, callers = Limiter(POLICY, store=store), Callers()
        proxy.deaf = True
        alarm(interrupt, 60)

        def interrupt_once_others_wait() -> None:
            until(lambda: bool(store._pipelines) and callers_in(store) == 1)
            for _ in range(3):
                callers.call(lambda: limiter.take("a"))
            until(lambda: callers_in(store) == 4)
            os.kill(os.getpid(), signal.SIGALRM)

        others = threading.Thread(target=interrupt_once_others_wait)
        others.start()
        with pytest.raises(KeyboardInterrupt):
            limiter.take("a")
        others.join()
        proxy.deaf = False
        assert sorted(outcome.remaining for outcome in callers.join()) == [10**6 - 3, 10**6 - 2, 10**6 - 1]


def test_a_signal_handler_can_call_while_its_thread_waits_to_be_connected(alarm, proxy: Cuts, prefix: str):
    outcomes = []
    with RedisStore.from_url(f"{proxy.url}?socket_timeout=10", prefix=prefix, timeout=30) as store:
        limiter = Limiter(POLICY, store=store)
        proxy.deaf = True
        threading.Timer(0.2, lambda: setattr(proxy, "deaf", False)).start()
        alarm(lambda *_: outcomes.append(limiter.take("a").allowed), 0.1)
        assert limiter.take("a").allowed
        assert outcomes == [True]


def test_a_child_forked_while_its_parent_connects_works(proxy: Cuts, prefix: str):
    code = (
        "import os, sys, redis\nfrom sluicegate import *\n"
        "own = redis.Redis.from_url(sys.argv[1], socket_timeout=30)\n"
        "store = RedisStore(own, prefix=sys.argv[2], timeout=0.3)\n"
        "limiter = Limiter(SlidingWindow(10, window=60), store=store, on_outage='raise', deadline=30)\n"
        "try: limiter.take('a')\nexcept StoreUnavailable: pass\nelse: raise AssertionError\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    for _ in range(20):\n"  # a busy machine may run nobody for as long as the time-out
        "        try: os._exit(0 if limiter.take('a').remaining == 9 else 1)\n"
        "        except StoreUnavailable: pass\n"
        "    os._exit(2)\n"
        "os._exit(os.waitpid(child, 0)[1] and 1)\n"
    )
    proxy.mute = 1
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, proxy.url, prefix], check=True, timeout=30)
