from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import timedelta

import pytest

from headgate import (
    AsyncLimiter,
    HeadgateError,
    InvalidCost,
    InvalidPolicy,
    InvalidStore,
    Limiter,
    MemoryStore,
    SlidingWindow,
)


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (60, "sliding-window-60s"),
        (60.0, "sliding-window-60s"),
        (timedelta(minutes=1), "sliding-window-60s"),
        (0.5, "sliding-window-0.5s"),
        (1e-6, "sliding-window-0.000001s"),
        (86400, "sliding-window-86400s"),
        (1.1, "sliding-window-1.1s"),
    ],
)
def test_a_policy_without_a_name_is_named_after_its_window_and_never_its_limit(window, name: str):
    assert SlidingWindow(7, window=window).name == name == SlidingWindow(8, window=window).name


def test_a_policy_is_a_value_that_cannot_change():
    policy = SlidingWindow(100, window=60)
    assert policy == SlidingWindow.per_minute(100) == SlidingWindow(100, window=timedelta(seconds=60))
    assert policy != SlidingWindow(101, window=60)
    assert policy != SlidingWindow(100, window=60, buckets=6)
    assert len({policy, SlidingWindow.per_minute(100)}) == 1
    assert pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.limit = 5
    assert repr(policy) == "SlidingWindow(limit=100, window=60.0, buckets=None, name='sliding-window-60s')"


@pytest.mark.parametrize(
    ("policy", "window"),
    [
        (SlidingWindow.per_second(5), 1),
        (SlidingWindow.per_minute(5), 60),
        (SlidingWindow.per_hour(5, buckets=60), 3600),
        (SlidingWindow.per_day(5, name="day"), 86400),
    ],
)
def test_the_named_windows_are_what_they_say(policy: SlidingWindow, window: float):
    assert (policy.limit, policy.window) == (5, window)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_two_policies_without_a_name_that_differ_only_in_their_limit_are_refused(limiter):
    store = MemoryStore()
    limiter(SlidingWindow(5, window=60), store=store)
    limiter(SlidingWindow(5, window=60), store=store)  # the same one, for two callers
    limiter(SlidingWindow(6, window=61), store=store)
    limiter(SlidingWindow(6, window=60, name="six"), store=store)
    with pytest.raises(InvalidPolicy, match=r"sliding-window-60s, with limits 5 and 6: .* give each a name="):
        limiter(SlidingWindow(6, window=60), store=store)
    limiter(SlidingWindow(6, window=60), store=MemoryStore())


def test_two_urls_that_are_one_store_are_told_from_two_stores():
    with Limiter(SlidingWindow(5, window=60), store="redis://h:1/0"):
        Limiter(SlidingWindow(6, window=60), store="redis://h:1/1").close()
        with pytest.raises(InvalidPolicy, match="with limits 5 and 6"):
            Limiter(SlidingWindow(6, window=60), store="redis://h:1/0")
    with Limiter(SlidingWindow(6, window=60), store="redis://h:1/0"):
        pass


def test_the_limit_of_a_policy_without_a_name_can_change_once_its_limiter_is_closed():
    store = MemoryStore()
    first, second = (Limiter(SlidingWindow(5, window=60), store=store) for _ in range(2))
    first.close()
    first.close()
    with pytest.raises(InvalidPolicy):
        Limiter(SlidingWindow(6, window=60), store=store)
    second.close()
    Limiter(SlidingWindow(6, window=60), store=store)


def test_errors_come_whole_through_a_pickle():
    for attempt in (
        lambda: SlidingWindow(0, window=1),
        lambda: Limiter(SlidingWindow(1, window=1)).take("a", 0),
        lambda: Limiter(SlidingWindow(1, window=1)).take(b"a"),
        lambda: Limiter(SlidingWindow(1, window=1), store="nowhere"),
    ):
        with pytest.raises(HeadgateError) as caught:
            attempt()
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), vars(again)) == (type(caught.value), str(caught.value), vars(caught.value))


def test_a_verb_that_is_overridden_or_patched_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch):
    class Deaf(Limiter):
        def take(self, key, cost=1):
            return super().peek(key, cost)

    assert [Deaf(SlidingWindow(1, window=60)).allow("a") for _ in range(3)] == [True] * 3
    monkeypatch.setattr(Limiter, "allow", lambda *_: "patched")
    assert Limiter(SlidingWindow(1, window=60)).allow("a") == "patched"


def test_allow_is_documented_on_every_limiter():
    limiter = Limiter(SlidingWindow(1, window=60))
    assert limiter.allow.__doc__ == Limiter.allow.__doc__
    assert limiter.allow.__qualname__ == "Limiter.allow"


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["huge", "-huge"])
def test_a_number_too_long_to_print_is_refused_like_any_other(number: int):
    with pytest.raises(InvalidPolicy, match="bits"):
        SlidingWindow(number, window=60)
    with pytest.raises(InvalidPolicy, match="bits"):
        SlidingWindow(1, window=number)
    with pytest.raises(InvalidCost, match="bits"):
        Limiter(SlidingWindow(1, window=60)).take("a", number)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("policy", [None, 5, "100/minute", SlidingWindow], ids=repr)
def test_what_is_no_policy_is_refused(limiter, policy):
    with pytest.raises(InvalidPolicy, match="policy must be one such as SlidingWindow"):
        limiter(policy)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    "store", ["", "localhost", "http://x", "redis", "redis://", "redis://h:port/0", 5, object(), MemoryStore], ids=repr
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
    "url", ["redis://h", "rediss://h:1/2", "valkey://h", "valkeys://h", "unix:///tmp/s", "memory://"]
)
def test_every_scheme_that_is_promised_is_read(url: str):
    Limiter(SlidingWindow(5, window=60), store=url).close()


def test_a_store_of_the_wrong_form_is_refused_with_the_right_one_named():
    from headgate import AsyncRedisStore, RedisStore

    with pytest.raises(InvalidStore, match="to be awaited: give it to an AsyncLimiter"):
        Limiter(SlidingWindow(5, window=60), store=AsyncRedisStore.from_url("redis://h"))
    with pytest.raises(InvalidStore, match="would block the event loop: give an AsyncLimiter an AsyncRedisStore"):
        AsyncLimiter(SlidingWindow(5, window=60), store=RedisStore.from_url("redis://h"))


def test_a_client_of_the_wrong_form_is_refused():
    import redis
    import redis.asyncio

    from headgate import AsyncRedisStore, RedisStore

    for store, client in ((RedisStore, redis.asyncio.Redis()), (AsyncRedisStore, redis.Redis()), (RedisStore, "h")):
        with pytest.raises(InvalidStore, match="client must be a redis"):
            store(client)
    with pytest.raises(ValueError, match="timeout must be seconds above 0, an hour at most, got 0"):
        RedisStore(redis.Redis(), timeout=0)
    with pytest.raises(ValueError, match="prefix must be printable text"):
        RedisStore(redis.Redis(), prefix="")
