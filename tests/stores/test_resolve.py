"""From what a user gives as a store to a store, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from unittest.mock import MagicMock

import pytest

from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    InvalidStore,
    Limiter,
    MemoryStore,
    RedisStore,
    SlidingWindow,
)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    "store",
    ["", "localhost", "http://x", "redis", "redis://", "redis://h:port/0", 5, object(), MemoryStore],
    ids=lambda store: repr(store).partition(" at 0x")[0],
)
def test_what_is_no_store_is_refused(limiter, store):
    with pytest.raises(InvalidStore, match="store must be "):
        limiter(SlidingWindow(5, window=60), store=store)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@h:port/0",
        "http://:s3cret@h/0",
        "redis://:s3cret@h/zero",
        "redis://:s3cret/x@h/0",
        "redis://:s3cret@h?socket_timeout=soon",
        "redis://:s3cret@h?nonsense=1",
        "redis://:s3cret@h?protocol=9",
        "redis://:s3cret@h?retry_on_error=1",
        "rediss://:s3cret@h?ssl_cert_reqs=xx",
        "redis://:s3cret@[::1",
        "redis://:s3cret@\u2100@x/0",
        "user:s3cret@localhost:6379",
        "redis:/user:s3cret@localhost",
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str):
    with pytest.raises(InvalidStore) as caught:
        Limiter(SlidingWindow(5, window=60), store=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "got redis:// and no more: it lacks a host, as in redis://localhost:6379/0"),
        ("valkey://", "got valkey:// and no more: it lacks a host, as in valkey://localhost:6379/0"),
        ("unix://", "got unix:// and no more: it lacks a path, as in unix:///run/redis.sock"),
        ("http://h", "got one that begins with http://"),
        ("", "got an empty text"),
        ("localhost:6379", "got a host and a port without a scheme: write redis:// before it"),
        ("localhost", "got other text"),
        ("memory://x", "got the URL of a MemoryStore, which takes nothing after memory://"),
        ("redis+cluster://h:6379", "got the URL of a Cluster, which this version does not support"),
        ("rediss-cluster://h:6379", "got the URL of a Cluster, which this version does not support"),
        ("redis://h?nonsense=1", "it has no option nonsense"),
        ("redis://h?socket_timout=1", "it has no option socket_timout; did you mean socket_timeout?"),
        (
            "redis://h?timeout=1",
            "can read: it has no option timeout, which is an argument: write RedisStore.from_url(url, timeout=...)",
        ),
        ("redis://h?prefix=x", "write RedisStore.from_url(url, prefix=...)"),
        ("redis://h?denial_ttl=0", "write RedisStore.from_url(url, denial_ttl=...)"),
        ("redis://h?max_waiting=9", "write RedisStore.from_url(url, max_waiting=...)"),
        ("redis://h?socket_timeout=soon", "it cannot read the value of socket_timeout"),
        ("redis://:pass?word=1@h", "store must be a URL such as redis://user:password@host:6379/0"),
        ("sentinel://h:26379/mymaster", "got the URL of a Sentinel: make a client, redis.sentinel.Sentinel("),
        ("redis+sentinel://h:26379/mymaster", "and give it to RedisStore(client); or redis.asyncio.sentinel.Sentinel"),
        ("redis://h?retry_on_error=1", "must be a URL without options for retries: no call is sent twice"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str):
    with pytest.raises(InvalidStore, match=re.escape(said)):
        Limiter("5/s", store=url)


def test_a_redis_store_does_not_take_the_url_of_a_memory_store():
    with pytest.raises(InvalidStore, match="got the URL of a MemoryStore"):
        RedisStore.from_url("memory://")


def test_an_option_of_the_store_in_a_url_of_tasks_names_the_store_for_tasks():
    with pytest.raises(InvalidStore, match=r"write AsyncRedisStore\.from_url\(url, timeout=\.\.\.\)$"):
        AsyncLimiter("5/s", store="redis://h?timeout=1")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limiter("5/s"),
        lambda: AsyncLimiter("5/s"),
        lambda: Limiter("5/s", store="redis://h"),
        MemoryStore,
        lambda: RedisStore.from_url("redis://h"),
        lambda: AsyncRedisStore.from_url("redis://h"),
    ],
    ids=["limiter", "async-limiter", "limiter-on-redis", "memory", "redis", "async-redis"],
)
@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda carry: carry.__name__)
def test_what_counts_stays_in_its_process(make: Callable[[], object], carry: Callable[[object], object]):
    made = make()
    with pytest.raises(
        TypeError, match=f"a {type(made).__name__} stays in its process and cannot be pickled or copied"
    ):
        carry(made)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://h:1/2", "valkey://h", "valkeys://h", "unix:///tmp/s", "memory://"]
)
def test_every_scheme_that_is_promised_is_read(url: str):
    Limiter(SlidingWindow(5, window=60), store=url).close()


def test_a_store_of_the_wrong_form_is_refused_with_the_right_one_named():
    with pytest.raises(InvalidStore, match=r"store must be one for threads, got .*: give it to an AsyncLimiter"):
        Limiter(SlidingWindow(5, window=60), store=AsyncRedisStore.from_url("redis://h"))
    with pytest.raises(InvalidStore, match="would block the event loop: give an AsyncLimiter an AsyncRedisStore"):
        AsyncLimiter(SlidingWindow(5, window=60), store=RedisStore.from_url("redis://h"))


def test_a_client_of_the_wrong_form_is_refused():
    import redis
    import redis.asyncio

    cluster = object.__new__(redis.RedisCluster)  # made in the usual way it would connect
    for store, client, said in (
        (RedisStore, redis.asyncio.Redis(), r"got one of type redis\.asyncio\..*; give it to AsyncRedisStore"),
        (AsyncRedisStore, redis.Redis(), r"got one of type redis\..*; give it to RedisStore"),
        (RedisStore, cluster, "RedisCluster; this version does not support clusters"),
        (RedisStore, "h", r"got one of type str; for a URL there is RedisStore\.from_url"),
        (RedisStore, 5, "got one of type int$"),
    ):
        with pytest.raises(InvalidStore, match=f"client must be a redis.*{said}"):
            store(client)


@pytest.mark.parametrize("timeout", [0, "1", timedelta(seconds=1), None, True, float("nan")], ids=repr)
def test_an_option_of_a_store_that_is_none_is_refused_by_its_name(timeout: object):
    import redis

    for make in (
        lambda: RedisStore(redis.Redis(), timeout=timeout),
        lambda: RedisStore.from_url("redis://h", timeout=timeout),
        lambda: AsyncRedisStore.from_url("redis://h", timeout=timeout),
    ):
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0, an hour at most, got"):
            make()
    with pytest.raises(ValueError, match="prefix must be printable text"):
        RedisStore(redis.Redis(), prefix="")


@pytest.mark.parametrize("store", [RedisStore, AsyncRedisStore])
def test_a_store_reads_the_same_urls_as_a_limiter(store: type):
    store.from_url("valkey://h")
    for url, said in (("sentinel://h", "got the URL of a Sentinel"), ("http://h", "got one that begins with http://")):
        with pytest.raises(InvalidStore, match=said):
            store.from_url(url)


def test_a_client_that_only_imitates_a_server_is_refused_with_what_to_use_instead():
    fakeredis = pytest.importorskip("fakeredis", reason="of requirements-dev.txt")

    said = "that connects to a real server, got one of type fakeredis.*: use a server, or a MemoryStore in tests"
    fresh, used = fakeredis.FakeRedis(), fakeredis.FakeRedis()
    used.set("a", "b")  # so that a connection is idle in its pool
    for client in (fresh, used):
        for verb in ("take", "peek", "forget"):
            with pytest.raises(InvalidStore, match=said):
                getattr(Limiter("5/s", store=RedisStore(client, timeout=5)), verb)("a")

    async def main() -> None:
        with pytest.raises(InvalidStore, match=said):
            await AsyncLimiter("5/s", store=AsyncRedisStore(fakeredis.FakeAsyncRedis(), timeout=5)).take("a")

    asyncio.run(main())


def test_a_mock_of_a_client_is_refused_when_the_store_is_made():
    import redis
    import redis.asyncio

    for store, kind in ((RedisStore, redis.Redis), (AsyncRedisStore, redis.asyncio.Redis)):
        with pytest.raises(InvalidStore, match=r"got one of type unittest\.mock.*, which seems to imitate one"):
            store(MagicMock(spec=kind))
