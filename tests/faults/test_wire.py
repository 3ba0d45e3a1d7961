"""A connection on loan: what the server says out of turn, and how it is given back."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
import redis.asyncio

import servers
from faults.cuts import Cuts
from sluicegate import AsyncLimiter, AsyncRedisStore, SlidingWindow, StoreTimeout, StoreUnavailable
from sluicegate._stores.redis.pipeline import tasks as task_line

POLICY = SlidingWindow(10**6, window=600)


pytestmark = pytest.mark.usefixtures("quiet")


async def connection_id(store: AsyncRedisStore) -> int:
    """Ask the server which connection it is that the store has, by a call of the line's own."""

    def verb(asked: list[object]):
        number = yield ["CLIENT", "ID"]
        return [number for _ in asked]

    store._settle_in()
    return await store._line.ask(verb, (), 1)


GARBAGE = [b"?what\r\n", b"$5\r\nabcdefgh\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"%1\r\n*0\r\n:1\r\n"]


@pytest.mark.parametrize("said", GARBAGE)
def test_what_no_redis_says_is_a_lost_answer_and_the_next_call_works(proxy: Cuts, prefix: str, said: bytes):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.before = said
            with pytest.raises(StoreTimeout, match="lost"):
                await limiter.take("a")
            assert (await limiter.take("a")).remaining == 10**6 - 3
            assert len(store._client.connection_pool._in_use_connections) == 1

    asyncio.run(main())


def test_an_answer_that_nobody_asked_for_is_never_taken_for_the_next_one(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            first = await connection_id(store)
            proxy.after = b"*4\r\n:0\r\n:7\r\n:0\r\n:0\r\n"
            assert (await limiter.take("a")).remaining == 10**6 - 1
            assert (await limiter.take("a")).remaining == 10**6 - 2
            assert await connection_id(store) != first

    asyncio.run(main())


@pytest.mark.parametrize("place", ["before", "after"])
def test_word_that_the_server_will_leave_is_no_answer_and_another_connection_is_taken(
    proxy: Cuts, prefix: str, place: str
):
    async def main() -> None:
        async with (
            redis.asyncio.Redis.from_url(proxy.url, protocol=3) as own,
            AsyncRedisStore(own, prefix=prefix, timeout=5) as store,
        ):
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.delay = 0.1
            held = [asyncio.create_task(limiter.take("a")), asyncio.create_task(connection_id(store))]
            while len(store._line._under_way) < 2:
                await asyncio.sleep(0.001)
            setattr(proxy, place, b">2\r\n$6\r\nMOVING\r\n:1\r\n")  # the second is under way still as it comes
            taken, first = await asyncio.gather(*held)
            assert taken.remaining == 10**6 - 2
            assert (await limiter.take("a")).remaining == 10**6 - 3
            assert await connection_id(store) not in (0, first)

    asyncio.run(main())


def test_a_push_that_says_something_else_leaves_the_connection(server: servers.Server, prefix: str):
    async def main() -> None:
        async with (
            redis.asyncio.Redis.from_url(server.url, protocol=3, max_connections=1) as own,
            AsyncRedisStore(own, prefix=prefix) as store,
        ):
            limiter = AsyncLimiter(POLICY, store=store)
            first = await connection_id(store)
            await store.aclose()
            await own.execute_command("CLIENT", "TRACKING", "ON", "BCAST")
            for taken in range(1, 9):  # each of them is news of a key that was changed
                assert (await limiter.take("a")).remaining == 10**6 - taken
            assert await connection_id(store) == first

    asyncio.run(main())


def test_the_rest_of_what_has_come_in_part_is_no_answer_to_another(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(proxy.url, protocol=3, max_connections=1) as own:
            limiter = AsyncLimiter(POLICY, store=AsyncRedisStore(own, prefix=prefix, timeout=5))
            await limiter.take("a")
            proxy.after = b">2\r\n$10\r\ninvalid"
            await limiter.take("a")
            proxy.before = b"ate\r\n*0\r\n"
            while not own.connection_pool._available_connections:
                await asyncio.sleep(0)
            assert not own.connection_pool._available_connections[0].is_connected

    asyncio.run(main())


# A connection that is no more


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("how", ["killed", "aborted"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_lent_connection_whose_other_end_has_left_is_connected_anew(
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
def test_a_store_that_is_closed_while_it_connects_leaves_no_connection(server: servers.Server, prefix: str, turns: int):
    async def main() -> None:
        async with AsyncRedisStore.from_url(f"{server.url}?client_name={prefix}", prefix=prefix) as store:
            asking = asyncio.create_task(AsyncLimiter(POLICY, store=store).take("a"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        assert store._line._wire is None
        await asyncio.sleep(0.02)
        assert [each for each in server.client.client_list() if each["name"] == prefix] == []

    asyncio.run(main())


def test_a_pool_that_does_not_take_a_connection_back_is_nobodys_error(server: servers.Server, prefix: str):
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


def test_a_store_that_is_closed_tells_those_whose_calls_are_under_way_and_does_not_wait(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.hold = True
            held = asyncio.create_task(limiter.take("a"))
            await asyncio.sleep(0.01)
            began = time.monotonic()
            await store.aclose()
            with pytest.raises(StoreTimeout):
                await held
            assert time.monotonic() - began < 0.5
            proxy.mend()

    asyncio.run(main())


@pytest.mark.slow
def test_what_had_not_left_when_its_caller_was_told_so_never_leaves(proxy: Cuts, prefix: str):
    async def main() -> None:
        wide = prefix + "x" * 8000
        async with AsyncRedisStore.from_url(proxy.url, prefix=wide, timeout=0.3) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            proxy.deaf = True
            with pytest.raises(StoreTimeout):  # it fills every buffer on its way
                await store.decide([((POLICY, f"{n}", 1),) for n in range(2000)])
            proxy.mend()
            await asyncio.sleep(0.3)
            assert (await limiter.peek("0")).remaining == 10**6

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.kinds())
def test_after_a_refusal_by_a_replica_another_connection_is_taken(kind: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(own.url, timeout=5) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a")
            first = await connection_id(store)
            own.client.replicaof("127.0.0.1", 1)
            asked = [limiter.take("a") for _ in range(40)]
            told = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(each) for each in told} == {StoreUnavailable}
            assert "READONLY" in str(told[0])
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


def test_a_pool_that_has_no_connection_left_is_an_unavailable_store(server: servers.Server, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(server.url, max_connections=1) as own:
            taken = await own.connection_pool.get_connection()
            limiter = AsyncLimiter(POLICY, store=AsyncRedisStore(own, prefix=prefix))
            with pytest.raises(StoreUnavailable, match="Too many connections"):
                await limiter.take("a")
            await own.connection_pool.release(taken)
            assert (await limiter.take("a")).remaining == 10**6 - 1

    asyncio.run(main())


@pytest.mark.parametrize("what", ["ReplyProtocol", "send"])
def test_a_driver_that_is_made_otherwise_is_an_error_that_is_told_and_loses_no_connection(
    server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch, what: str
):
    def broken(*_: object) -> None:
        raise AttributeError("'Connection' object has no attribute '_writer'")

    async def main() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            with monkeypatch.context() as patched:
                patched.setattr(
                    *((task_line, "ReplyProtocol") if what == "Wire" else (task_line.ReplyProtocol, "send")),
                    broken,
                )
                for _ in range(3):
                    with pytest.raises((StoreUnavailable, StoreTimeout), match="_writer"):
                        await limiter.take("a")
            assert (await limiter.take("a")).remaining == 10**6 - 1
            assert len(store._client.connection_pool._in_use_connections) == 1

    asyncio.run(main())
