"""The reply protocol on a borrowed connection: unexpected messages, and how the connection is given back."""

from __future__ import annotations

import asyncio
import gc

import pytest
import redis.asyncio

import servers
from faults.callers import POLICY, pipeline_of, request_for, wide
from faults.cuts import Cuts
from machine import awake
from sluicegate import AsyncLimiter, AsyncRedisStore, StoreTimeout, StoreUnavailable
from sluicegate._stores.redis.body import PEEK
from sluicegate._stores.redis.pipeline import tasks

pytestmark = pytest.mark.usefixtures("quiet")


async def connection_id(store: AsyncRedisStore) -> int:
    """Return the server's id of the store's connection, by a call on its pipeline."""

    def verb(batch: list[object]):
        number = yield ["CLIENT", "ID"]
        return [number for _ in batch]

    verb.effect = PEEK
    return await store._pipeline(()).run(verb, (), 1)


GARBAGE = [b"?what\r\n", b"$5\r\nabcdefgh\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"%1\r\n*0\r\n:1\r\n"]


@pytest.mark.parametrize("said", GARBAGE)
def test_an_invalid_reply_is_a_lost_reply_and_the_next_call_works(proxy: Cuts, prefix: str, said: bytes):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.before = said
            with pytest.raises(StoreTimeout, match="lost"):
                await limiter.take("a")
            assert (await limiter.take("a")).remaining == 10**6 - 3
            assert len(store._client.connection_pool._in_use_connections) == 1

    asyncio.run(main())


def test_an_unexpected_reply_is_never_taken_for_the_next_one(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.peek("a")
            first = await connection_id(store)
            proxy.after = b"*4\r\n:0\r\n:7\r\n:0\r\n:0\r\n"
            assert (await limiter.take("a")).remaining == 10**6 - 1
            assert (await limiter.take("a")).remaining == 10**6 - 2
            assert await connection_id(store) != first

    asyncio.run(main())


@pytest.mark.parametrize("place", ["before", "after"])
def test_after_a_push_that_the_server_is_leaving_the_connection_drains_and_is_replaced(
    proxy: Cuts, prefix: str, place: str
):
    async def main() -> None:
        async with (
            redis.asyncio.Redis.from_url(proxy.url, protocol=3) as own,
            AsyncRedisStore(own, prefix=prefix, timeout=30) as store,
        ):
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.delay = 0.1
            held = [asyncio.create_task(limiter.take("a")), asyncio.create_task(connection_id(store))]
            while len(pipeline_of(store)._in_flight) < 2:
                await asyncio.sleep(0.001)
            setattr(proxy, place, b">2\r\n$6\r\nMOVING\r\n:1\r\n")  # the second is still in flight when it arrives
            taken, first = await asyncio.gather(*held)
            assert taken.remaining == 10**6 - 2
            assert (await limiter.take("a")).remaining == 10**6 - 3
            assert await connection_id(store) not in (0, first)

    asyncio.run(main())


def test_other_pushes_are_ignored_and_the_connection_is_kept(server: servers.Server, prefix: str):
    async def main() -> None:
        async with (
            redis.asyncio.Redis.from_url(server.url, protocol=3, max_connections=1) as own,
            AsyncRedisStore(own, prefix=prefix) as store,
        ):
            limiter = AsyncLimiter(POLICY, store=store)
            first = await connection_id(store)
            await store.aclose()
            await own.execute_command("CLIENT", "TRACKING", "ON", "BCAST")
            for taken in range(1, 9):  # the server pushes a message for each changed key
                assert (await limiter.take("a")).remaining == 10**6 - taken
            assert await connection_id(store) == first

    asyncio.run(main())


def test_a_connection_with_half_a_message_is_closed(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(proxy.url, protocol=3, max_connections=1) as own:
            limiter = AsyncLimiter(POLICY, store=AsyncRedisStore(own, prefix=prefix, timeout=30))
            await limiter.take("a")
            proxy.after = b">2\r\n$10\r\ninvalid"
            await limiter.take("a")
            proxy.before = b"ate\r\n*0\r\n"
            while not own.connection_pool._available_connections:
                await asyncio.sleep(0)
            assert not own.connection_pool._available_connections[0].is_connected

    asyncio.run(main())


# Closed connections


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("how", ["killed", "aborted"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_borrowed_connection_that_the_server_has_closed_is_connected_again(
    server: servers.Server, prefix: str, protocol: int, how: str, loop: str
):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(server.url, protocol=protocol, client_name=prefix) as own:
            store = AsyncRedisStore(own, prefix=prefix, timeout=0.5)
            limiter = AsyncLimiter(POLICY, store=store)
            for taken in range(1, 4):
                assert (await limiter.take("a")).remaining == 10**6 - taken
                await store.aclose()
                if how == "killed":
                    for each in server.client.client_list():
                        if each["name"] == prefix:
                            server.client.client_kill_filter(_id=each["id"])
                    await asyncio.sleep(0.05)
                else:
                    (connection,) = own.connection_pool._available_connections
                    connection._writer.transport.abort()
            assert len(own.connection_pool._in_use_connections) == 0

    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_store_closed_while_it_connects_leaves_no_connection(server: servers.Server, prefix: str, turns: int):
    async def main() -> None:
        async with AsyncRedisStore.from_url(f"{server.url}?client_name={prefix}", prefix=prefix) as store:
            calling = asyncio.create_task(AsyncLimiter(POLICY, store=store).take("a"))
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
        assert all(pipeline._protocol is None for pipeline in store._pipelines.values())
        await asyncio.sleep(0.02)
        assert [each for each in server.client.client_list() if each["name"] == prefix] == []

    asyncio.run(main())


def test_an_error_of_the_pool_when_a_connection_is_given_back_reaches_no_caller(server: servers.Server, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as own:
            pool, release = own.connection_pool, own.connection_pool.release

            async def fails(connection: object) -> None:
                await release(connection)
                raise redis.exceptions.AuthenticationError("the token is over")

            pool.release = fails
            limiter = AsyncLimiter(POLICY, store=AsyncRedisStore(own, prefix=prefix))
            assert (await limiter.take("a")).remaining == 10**6 - 1
            assert (await limiter.take("a")).remaining == 10**6 - 2
            await asyncio.sleep(0.01)
            gc.collect()

    asyncio.run(main())


def test_closing_a_store_fails_the_calls_in_flight_and_does_not_wait(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.hold = True
            held = asyncio.create_task(limiter.take("a"))
            await asyncio.sleep(0.01)
            began = awake()
            await store.aclose()
            with pytest.raises(StoreTimeout):
                await held
            assert awake() - began < 0.5
            proxy.recover()

    asyncio.run(main())


@pytest.mark.slow
def test_what_was_still_buffered_when_its_caller_failed_is_never_sent(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=wide(prefix), timeout=0.3) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.deaf = True
            with pytest.raises(StoreTimeout):  # it fills every buffer on its way
                await store.decide(request_for([str(n) for n in range(2000)]))
            proxy.recover()
            await asyncio.sleep(0.3)
            assert (await limiter.peek("0")).remaining == 10**6

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_after_a_replica_refuses_the_connection_is_replaced(kind: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(own.url, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            first = await connection_id(store)
            own.client.replicaof("127.0.0.1", 1)
            calls = [limiter.take("a") for _ in range(40)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
            assert "READONLY" in str(outcomes[0])
            own.client.replicaof("NO", "ONE")
            assert (await limiter.take("a")).remaining == 10**6 - 2
            assert await connection_id(store) != first

    with servers.running(kind) as own:
        asyncio.run(main())


def test_a_connection_is_given_back_as_it_was(server: servers.Server, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(server.url, max_connections=1, single_connection_client=False) as own:
            first = await own.client_id()
            store = AsyncRedisStore(own, prefix=prefix)
            limiter = AsyncLimiter(POLICY, store=store)
            for taken in range(1, 4):
                decisions = await asyncio.gather(*(limiter.take("a") for _ in range(5)))
                assert decisions[-1].remaining == 10**6 - 5 * taken
                await store.aclose()
                assert await own.client_id() == first
                assert await own.echo("x" * 100_000) == b"x" * 100_000

    asyncio.run(main())


def test_an_exhausted_pool_is_an_unavailable_store(server: servers.Server, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(server.url, max_connections=1) as own:
            taken = await own.connection_pool.get_connection()
            limiter = AsyncLimiter(POLICY, store=AsyncRedisStore(own, prefix=prefix))
            with pytest.raises(StoreUnavailable, match="Too many connections"):
                await limiter.take("a")
            await own.connection_pool.release(taken)
            assert (await limiter.take("a")).remaining == 10**6 - 1

    asyncio.run(main())


@pytest.mark.parametrize("broken_part", ["ReplyProtocol", "send"])
def test_a_driver_without_the_private_name_raises_a_store_error_and_loses_no_connection(
    server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch, broken_part: str
):
    def broken(*_: object) -> None:
        raise AttributeError("'Connection' object has no attribute '_writer'")

    async def main() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            with monkeypatch.context() as patched:
                patched.setattr(
                    *((tasks, "ReplyProtocol") if broken_part == "ReplyProtocol" else (tasks.ReplyProtocol, "send")),
                    broken,
                )
                for _ in range(3):
                    with pytest.raises((StoreUnavailable, StoreTimeout), match="_writer"):
                        await limiter.take("a")
            assert (await limiter.take("a")).remaining == 10**6 - 1
            assert len(store._client.connection_pool._in_use_connections) == 1

    asyncio.run(main())
