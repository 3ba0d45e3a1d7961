"""Which keys have a counter of a policy, read back from what is stored."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import servers
from sluicegate import AsyncLimiter, AsyncRedisStore, Limiter, MemoryStore, SlidingWindow, StoreUnavailable
from sluicegate._stores.redis.listing import values_of
from sluicegate._stores.redis.stored_keys import stored_key, subject

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.sampled_from(
    ["", "%", "~", "*", "a,b", "{x}:"]
)
NAMESPACE = "sliding-window:a.ban:60000000"


@given(TEXT, st.lists(TEXT, max_size=2), st.sampled_from(["sluicegate:", "{pay}:", "a*[b]?\\:"]))
def test_values_are_read_back_from_a_stored_key(first: str, rest: list[str], prefix: str):
    values = (first, *rest)
    stored = stored_key(prefix, NAMESPACE, values if rest else first)
    read = values_of(stored, prefix, NAMESPACE)
    assert read == tuple(subject(each) if subject(each).startswith("~") else each for each in values)
    assert values_of(stored, prefix, "sliding-window:a.ban:6000000") is None


def test_a_shared_counter_has_no_values():
    assert values_of(stored_key("sluicegate:", NAMESPACE, ()), "sluicegate:", NAMESPACE) is None


@pytest.mark.parametrize("prefix_of", ["{}", "{{{}}}", "{}*[x]?\\^:"], ids=["plain", "hash-tag", "special"])
@pytest.mark.parametrize("decodes", [False, True])
def test_the_keys_of_a_policy_on_a_server(server: servers.Server, prefix: str, prefix_of: str, decodes: bool):
    import redis.asyncio

    one, pair, other = (
        SlidingWindow(5, window=60, name="one"),
        SlidingWindow(5, window=60, name="one", per=("user", "tenant")),
        SlidingWindow(5, window=60, name="one.more"),
    )

    async def run() -> None:
        async with redis.asyncio.Redis.from_url(server.url, decode_responses=decodes) as client:
            store = AsyncRedisStore(client, prefix=prefix_of.format(prefix))
            await AsyncLimiter(one, store=store).take("ü {a}")
            await AsyncLimiter(other, store=store).take("b")
            store_of_pairs = AsyncRedisStore(client, prefix=prefix_of.format(prefix) + "pairs:")
            await AsyncLimiter(pair, store=store_of_pairs).take({"user": "a,b", "tenant": ""})
            assert await store.keys(one) == [("ü {a}",)]
            assert await store.keys(other) == [("b",)]
            assert await store_of_pairs.keys(pair) == [("a,b", "")]
            await store.aclose()
            await store_of_pairs.aclose()

    asyncio.run(run())


def test_the_keys_of_a_policy_in_memory():
    policy, store = SlidingWindow(5, window=60), MemoryStore()
    assert store.keys(policy) == []
    for key in ("a", "b"):
        Limiter(policy, store=store).take(key)
    assert sorted(store.keys(policy)) == [("a",), ("b",)]


def test_a_server_that_is_gone_lists_nothing():
    with servers.running(next(iter(servers.binaries()))) as own:
        url = own.url

    async def run() -> None:
        async with AsyncRedisStore.from_url(url) as store:
            with pytest.raises(StoreUnavailable, match="nothing was listed"):
                await store.keys(SlidingWindow(5, window=60))

    asyncio.run(run())
