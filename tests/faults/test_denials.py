"""Denials that a store remembers: returned while they cannot be wrong, with exact waits, and dropped in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import redis

import servers
from faults.cuts import Cuts
from machine import awake
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    Limiter,
    RedisStore,
    SlidingWindow,
    StoreTimeout,
    StoreUnavailable,
    TokenBucket,
)
from sluicegate._core.keys import Key
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Request
from sluicegate._stores.base import Remembered
from sluicegate._stores.redis import denials
from sluicegate._stores.redis.pipeline import queue
from sluicegate.proof.faketime import stepped_server, why_not

POLICY = SlidingWindow(2, window=60, name="two")


class Client:
    """A store and limiters on it, for threads or for tasks: the same verbs for both."""

    def __init__(self, form: str, url: str, prefix: str, **options: Any) -> None:
        self._runner = asyncio.Runner() if form == "async" else None
        self.store = (AsyncRedisStore if self._runner else RedisStore).from_url(
            url, prefix=prefix, **({"timeout": 5} | options)
        )

    def limiter(self, *policies: Policy, **options: Any) -> Limiter | AsyncLimiter:
        return (AsyncLimiter if self._runner else Limiter)(*policies, store=self.store, **options)

    def run(self, result: Any) -> Any:
        return self._runner.run(_awaited(result)) if self._runner and hasattr(result, "__await__") else result

    def close(self) -> None:
        if self._runner is None:
            self.store.close()
        else:
            self._runner.run(self.store.aclose())
            self._runner.close()


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(form: str, server: servers.Server, prefix: str) -> Iterator[Callable[..., Client]]:
    """Make clients on the server, which are closed in the end."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        given = {"form": form, "url": server.url, "prefix": prefix} | options
        made.append(Client(given.pop("form"), given.pop("url"), given.pop("prefix"), **given))
        return made[-1]

    yield make
    for one in made:
        one.close()


def calls(server: servers.Server) -> int:
    """Count the script calls that the server has run."""
    stats = server.client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


# Which denials are remembered, and the waits that they return


@pytest.mark.parametrize(
    "policy",
    [POLICY, TokenBucket(2, window=60), FixedWindow(2, window=86_400), CalendarWindow(2, every="month")],
    ids=lambda policy: policy.algorithm,
)
def test_a_denial_is_returned_again_with_the_rest_of_its_wait_and_without_a_call(
    client: Callable[..., Client], server: servers.Server, policy: Policy
):
    own = client(denial_ttl=20)
    limiter = own.limiter(policy)
    own.run(limiter.peek("a"))
    assert own.run(limiter.take("a", 2)).allowed
    before = time.monotonic()
    first = own.run(limiter.take("a"))
    after = time.monotonic()
    assert (first.allowed, first.source, own.store.remembered) == (False, "store", 0)
    called = calls(server)
    for n in range(1, 4):
        time.sleep(0.01)
        begin = time.monotonic()
        again = own.run(limiter.take("a"))
        end = time.monotonic()
        assert (again.allowed, again.source, again.remaining) == (False, "denial-cache", 0)
        for now, was in ((again.retry_after, first.retry_after), (again.reset_after, first.reset_after)):
            assert begin - after - 0.000_002 <= was - now <= end - before
        true = own.run(limiter.peek("a"))
        assert true.source == "store"
        # It counts from the reply, so a little more than the truth and never less.
        assert true.retry_after - 0.000_002 <= again.retry_after <= true.retry_after + 0.1
        assert own.store.remembered == n
    assert calls(server) == called + 3  # the peeks
    assert own.run(limiter.allow("a")) is False
    assert (own.store.remembered, calls(server)) == (4, called + 3)


def test_a_denial_is_remembered_no_longer_than_its_wait(client: Callable[..., Client]):
    own, policy = client(), SlidingWindow(1, window=0.15)
    limiter, allowed = own.limiter(policy), []
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        begin = time.monotonic()
        if own.run(limiter.allow("a")):
            allowed.append((begin, time.monotonic()))
    # Of two that were allowed the second was decided a window after the first, at least; and not much later.
    gaps = [second[1] - first[0] for first, second in pairwise(allowed)]
    assert min(gaps) >= 0.15
    assert len(allowed) >= 2
    assert own.store.remembered > 10


def test_a_request_with_another_possible_answer_calls_the_server(client: Callable[..., Client]):
    own = client()
    limiter = own.limiter(POLICY)
    small, large = (own.limiter(SlidingWindow(limit, window=60, name="two")) for limit in (1, 3))
    assert own.run(limiter.take("b")).allowed
    for _ in range(2):  # a dearer one is denied with a unit left, which another one may take
        dearer = own.run(limiter.take("b", 2))
        assert (dearer.allowed, dearer.remaining, dearer.source) == (False, 1, "store")
    for _ in range(2):  # one above the limit has no wait
        never = own.run(limiter.take("b", 3))
        assert (never.allowed, never.retry_after, never.source) == (False, float("inf"), "store")
    assert own.run(limiter.take("b")).allowed
    assert own.run(limiter.take("b")).source == "store"
    assert own.run(limiter.take("b")).source == "denial-cache"
    assert own.run(limiter.take("b", 2)).source == "store"
    assert own.run(limiter.take("c")).allowed
    assert own.run(limiter.peek("b")).source == "store"
    assert own.run(small.take("b")).source == "store"
    assert own.run(large.take("b")).allowed
    assert own.store.remembered == 1


@pytest.mark.parametrize("ttl", [0, 0.0])
def test_with_a_ttl_of_0_no_denial_is_remembered(client: Callable[..., Client], server: servers.Server, ttl: float):
    own = client(denial_ttl=ttl)
    limiter = own.limiter(POLICY)
    own.run(limiter.take("a", 2))
    called = calls(server)
    assert {own.run(limiter.take("a")).source for _ in range(3)} == {"store"}
    assert (calls(server), own.store.remembered) == (called + 3, 0)


@pytest.mark.parametrize("ttl", [-1, 61, True, "1", None, float("nan"), float("inf")])
def test_an_invalid_ttl_is_refused(form: str, ttl: object):
    kind = RedisStore if form == "sync" else AsyncRedisStore
    with pytest.raises(ValueError, match="denial_ttl must be seconds from 0 to 60, got "):
        kind.from_url("redis://127.0.0.1:1/0", denial_ttl=ttl)


def test_the_number_of_denials_is_bounded_and_the_oldest_goes_first(
    client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(denials, "MAX_DENIALS", 50)
    own = client(denial_ttl=30)
    keys = [f"k{n}" for n in range(80)]
    for _ in range(3):
        for key in keys:
            own.run(own.store.decide(Request((Charge(POLICY, key, 1),))))
    assert len(own.store._denials.kept) == 50
    sources = [own.run(own.limiter(POLICY).take(key)).source for key in reversed(keys)]
    assert sources == ["denial-cache"] * 50 + ["store"] * 30


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        (SlidingWindow(1, window=60), "k" * 257),
        (SlidingWindow(1, window=60, per=("user", "ip")), {"user": "u" * 250, "ip": "1.2.3.4"}),
        (SlidingWindow(1, window=60, shared=True), {}),
    ],
    ids=["long", "long-together", "beside-a-long-one"],
)
def test_long_keys_are_not_remembered(client: Callable[..., Client], policy: SlidingWindow, key: Key):
    own = client(denial_ttl=30)
    beside = [SlidingWindow(100, window=60, per="user")] if policy.shared else []
    limiter = own.limiter(policy, *beside)
    long_key = {"user": "u" * 257} if beside else key
    assert own.run(limiter.take(long_key)).allowed
    assert {own.run(limiter.take(long_key)).source for _ in range(3)} == {"store"}
    assert len(own.store._denials.kept) == 0


def test_a_flood_of_denied_requests_costs_one_call_per_ttl(client: Callable[..., Client], server: servers.Server):
    own = client(denial_ttl=0.2)
    limiter = own.limiter(POLICY)
    own.run(limiter.take("a", 2))
    called, began = calls(server), time.monotonic()
    for _ in range(1000):
        assert not own.run(limiter.allow("a"))
    most = (time.monotonic() - began) / 0.2 + 1
    assert 1 <= calls(server) - called <= most


def test_when_its_time_is_over_one_request_refreshes_it_and_a_flood_does_not_go_with_it(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30, denial_ttl=10) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a", 2)
            assert (await limiter.take("a")).source == "store"
            (name,) = store._denials.kept
            store._denials.kept[name] = replace(store._denials.kept[name], fresh_until_ns=time.monotonic_ns())
            proxy.hold = True
            first = asyncio.create_task(limiter.take("a"))
            await asyncio.sleep(0)
            async with asyncio.timeout(20):
                assert {(await limiter.take("a")).source for _ in range(100)} == {"denial-cache"}
            proxy.hold = False
            assert (await first).source == "store"
            assert not store._denials.kept[name].is_refreshing

    asyncio.run(main())


def test_a_request_that_refreshes_a_denial_and_is_allowed_ends_it(server: servers.Server, prefix: str):
    async def main() -> None:
        async with (
            AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30, denial_ttl=10) as store,
            AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30) as other,
        ):
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a", 2)
            assert not await limiter.allow("a")
            (name,) = store._denials.kept
            await other._client.flushdb()  # as another process gives units back
            assert not await limiter.allow("a")
            store._denials.kept[name] = replace(store._denials.kept[name], fresh_until_ns=time.monotonic_ns())
            assert await limiter.allow("a")
            assert await limiter.allow("a")

    asyncio.run(main())


def test_tasks_in_the_queue_for_a_key_that_is_denied_meanwhile_are_answered_without_a_call(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            await limiter.take("a", 2)
            proxy.hold = True
            tasks = [asyncio.create_task(limiter.take("a")) for _ in range(2000)]
            await asyncio.sleep(0.05)
            proxy.hold = False
            sources = [decision.source for decision in await asyncio.gather(*tasks)]
            sent = sum(int(words[2]) for words in proxy.scripts if words[0] == b"EVALSHA") - 1
            assert sources.count("store") == sent <= queue.MAX_IN_FLIGHT * queue.MAX_CHARGES
            assert sources.count("denial-cache") == store.remembered == 2000 - sent

    asyncio.run(main())


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[Cuts]:
    with Cuts(server.port) as made:
        yield made


def test_a_refusal_reaches_only_the_requests_that_were_sent(client: Callable[..., Client]):
    own = client(denial_ttl=30)
    full(own, own.limiter(POLICY))
    steps = own.store._decide([(Charge(POLICY, key, 1),) for key in "ab"], commit=True)
    assert next(steps)[2] == "1"  # key: that of b
    with pytest.raises(StopIteration) as done:
        steps.throw(redis.ResponseError("OOM command not allowed"))
    remembered, refused = done.value.value
    assert isinstance(remembered, Remembered)
    assert isinstance(refused, StoreUnavailable)
    assert isinstance(refused.__cause__, redis.ResponseError)


# Several policies


def test_a_denial_by_several_policies_is_remembered_until_the_shortest_of_their_waits(client: Callable[..., Client]):
    own = client(denial_ttl=5)
    short, long, free = (
        SlidingWindow(1, window=0.2, name="short"),
        SlidingWindow(1, window=60, name="long"),
        SlidingWindow(9, window=60, name="free"),
    )
    limiter = own.limiter(short, long, free)
    assert own.run(limiter.take("a")).allowed
    taken_at = time.monotonic()
    first = own.run(limiter.take("a"))
    again = own.run(limiter.take("a"))
    assert (first.source, again.source, again.policy) == ("store", "denial-cache", "long")
    assert [part.allowed for part in again.decisions] == [False, False, True]
    assert [part.remaining for part in again.decisions] == [0, 0, 8]
    passed = {first.decisions[n].retry_after - again.decisions[n].retry_after for n in (0, 1)}
    assert max(passed) - min(passed) < 0.000_002
    time.sleep(max(taken_at + 0.2 - time.monotonic(), 0) + 0.001)
    later = own.run(limiter.take("a"))
    assert (later.source, [part.allowed for part in later.decisions]) == ("store", [True, False, True])
    # The part of one that has room in a denial is of that step, though another one has taken of it since.
    own.run(own.limiter(free).take("a", 8))
    assert [part.remaining for part in own.run(limiter.take("a")).decisions] == [1, 0, 8]


# Giving units back


def full(own: Client, limiter: Limiter | AsyncLimiter) -> None:
    """Fill key a, until a denial of it is remembered."""
    own.run(limiter.take("a", 2))
    own.run(limiter.take("a"))
    assert own.run(limiter.take("a")).source == "denial-cache"
    assert own.run(limiter.allow("a")) is False


@pytest.mark.parametrize("where", ["same store", "another store", "the other form"])
def test_forgetting_a_key_in_this_process_drops_its_denials_at_once(
    client: Callable[..., Client], form: str, where: str
):
    own = client(denial_ttl=30)
    limiter = own.limiter(POLICY)
    if where == "same store":
        other = own
    else:
        other = client(form=form if where == "another store" else {"sync": "async", "async": "sync"}[form])
    for _ in range(2):
        full(own, limiter)
        other.run(other.limiter(POLICY).forget("a"))
        assert own.run(limiter.allow("a"))
        own.run(limiter.take("a"))
        assert not own.run(limiter.allow("a"))
        other.run(other.limiter(POLICY).forget("a"))


@pytest.mark.parametrize("where", ["same store", "another store"])
def test_lifting_a_block_in_this_process_drops_its_denials_at_once(client: Callable[..., Client], where: str):
    own = client(denial_ttl=30)
    limiter, other = own.limiter(POLICY), own if where == "same store" else client()
    blocks = other.limiter(POLICY)
    other.run(blocks.block("a", 60))
    first, again = own.run(limiter.take("a")), own.run(limiter.take("a"))
    assert (first.source, again.source) == ("store", "denial-cache")
    other.run(blocks.block("a", 600))
    assert own.run(limiter.take("a")).retry_after == pytest.approx(600, abs=1)
    other.run(blocks.block("a", 0))
    assert own.run(limiter.allow("a"))


def test_a_denial_in_flight_is_not_remembered_if_its_key_is_forgotten(proxy: Cuts, server: servers.Server, prefix):
    async def main() -> None:
        async with (
            AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30, denial_ttl=30) as slow,
            AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30) as fast,
        ):
            limiter, other = AsyncLimiter(POLICY, store=slow), AsyncLimiter(POLICY, store=fast)
            await limiter.take("a", 2)
            proxy.hold = True
            replies = proxy.replies
            late = asyncio.create_task(limiter.take("a"))
            while proxy.replies == replies:
                await asyncio.sleep(0.001)
            await other.forget("a")
            proxy.hold = False
            assert not (await late).allowed
            assert (await limiter.take("a")).remaining == 1

    asyncio.run(main())


def test_a_denial_is_not_returned_while_its_key_is_being_forgotten(proxy: Cuts, server: servers.Server, prefix: str):
    async def main() -> None:
        async with (
            AsyncRedisStore.from_url(proxy.url, prefix=prefix, timeout=30) as slow,
            AsyncRedisStore.from_url(server.url, prefix=prefix, timeout=30, denial_ttl=30) as fast,
        ):
            limiter, other = AsyncLimiter(POLICY, store=fast), AsyncLimiter(POLICY, store=slow)
            await other.peek("a")
            await limiter.take("a", 2)
            proxy.hold = True
            replies = proxy.replies
            assert not (await limiter.take("a")).allowed
            forgetting = asyncio.create_task(other.forget("a"))
            while proxy.replies == replies:
                await asyncio.sleep(0.001)
            assert (await limiter.peek("a")).remaining == 2
            allowed = await limiter.allow("a")
            proxy.hold = False
            await forgetting
            assert allowed

    asyncio.run(main())


@pytest.mark.parametrize("cut", ["cut_reply", "cut_command"])
def test_a_key_that_may_have_been_forgotten_calls_the_server_again(
    client: Callable[..., Client], proxy: Cuts, cut: str
):
    own, other = client(denial_ttl=30), client(url=proxy.url)
    limiter = own.limiter(POLICY)
    blocks = other.limiter(POLICY)
    other.run(blocks.peek("a"))
    full(own, limiter)
    setattr(proxy, cut, 1)
    with pytest.raises(StoreTimeout):
        other.run(blocks.block("a", 0.001))
    assert own.run(limiter.take("a")).source == "store"


def test_units_given_back_by_another_process_are_seen_within_the_ttl(
    client: Callable[..., Client], server: servers.Server, prefix: str
):
    own = client(denial_ttl=0.4)
    limiter = own.limiter(POLICY)
    full(own, limiter)
    code = (
        "import sys\nfrom sluicegate import *\n"
        "with RedisStore.from_url(sys.argv[1], prefix=sys.argv[2], timeout=30) as store:\n"
        "    Limiter(SlidingWindow(2, window=60, name='two'), store=store).forget('a')\n"
    )
    assert not own.run(limiter.take("a")).allowed
    subprocess.run([sys.executable, "-c", code, server.url, prefix], check=True, timeout=30)
    ended = awake()
    while not own.run(limiter.allow("a")):
        assert awake() < ended + 0.4 + 0.05
        time.sleep(0.005)


@pytest.mark.slow
def test_a_step_forward_of_the_servers_clock_is_seen_within_the_ttl():
    if why_not():
        pytest.skip(why_not())
    with stepped_server() as stepped:
        own = Client("sync", stepped.server.url, "test:", denial_ttl=0.4)
        limiter = own.limiter(POLICY)
        full(own, limiter)
        stepped.step(100)
        ended = awake()
        while not own.run(limiter.allow("a")):
            assert awake() < ended + 0.4 + 0.05
            time.sleep(0.005)
        own.close()


def test_a_raised_limit_is_seen_at_once(client: Callable[..., Client]):
    own, limit = client(denial_ttl=30), {"a": 2}
    limiter = own.limiter(POLICY, limits=limit.get, limits_ttl=0)
    full(own, limiter)
    limit["a"] = 3
    assert own.run(limiter.take("a")).allowed
    assert own.run(own.limiter(SlidingWindow(5, window=60, name="two")).take("a")).remaining == 1


# allow, which makes no decision


@pytest.mark.parametrize("cost", [True, 1.0, "x", [1], {}, None, 0, -1, 2.5])
def test_while_a_key_is_denied_an_invalid_cost_is_still_refused(client: Callable[..., Client], cost: object):
    own = client(denial_ttl=30)
    limiter = own.limiter(POLICY)
    full(own, limiter)
    before = own.store.remembered
    if cost == {}:  # each policy at its own cost, of 1 where none is named
        assert own.run(limiter.allow("a", cost)) is False
        return
    for key in ("a", "fresh"):
        with pytest.raises(InvalidCost):
            own.run(limiter.allow(key, cost))
    assert own.store.remembered == before


@pytest.mark.parametrize("key", [None, 1, ["a"], {"a": "a"}, b"a", "\ud800"])
def test_while_a_key_is_denied_an_invalid_key_is_still_refused(client: Callable[..., Client], key: object):
    own = client(denial_ttl=30)
    limiter = own.limiter(POLICY)
    full(own, limiter)
    before = own.store.remembered
    with pytest.raises(InvalidKey):
        own.run(limiter.allow(key))
    assert own.store.remembered == before


def test_a_limiter_that_is_switched_off_allows_a_denied_key(client: Callable[..., Client]):
    own = client(denial_ttl=30)
    limiter = own.limiter(POLICY)
    full(own, limiter)
    limiter.enabled = False
    assert own.run(limiter.allow("a"))
    limiter.enabled = True
    assert not own.run(limiter.allow("a"))


def test_denials_that_allow_finds_remembered_are_counted_as_such(client: Callable[..., Client]):
    own = client(denial_ttl=30)
    limiter = own.limiter(POLICY)
    full(own, limiter)
    before, remembered = limiter.statistics(), own.store.remembered
    for _ in range(200):  # several times as many as go without letting other tasks run
        assert own.run(limiter.allow("a")) is False
    after = limiter.statistics()
    assert own.store.remembered == remembered + 200
    assert after.denied == before.denied + 200
    was = before.by_source.get("denial-cache")
    assert after.by_source["denial-cache"].denied == (was.denied if was else 0) + 200


def test_a_task_that_is_denied_in_a_loop_lets_others_run(server: servers.Server, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, denial_ttl=30, timeout=30) as store:
            limiter = AsyncLimiter(POLICY, store=store)
            while await limiter.allow("a"):
                pass
            other = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(other.set_result, None)
            for _ in range(200):
                assert not await limiter.allow("a")
            assert other.done()

    asyncio.run(main())


def test_a_store_that_decides_in_its_own_way_is_asked_by_allow_too(server: servers.Server, prefix: str):
    class Generous(RedisStore):
        def decide(self, request: Request) -> list[Any]:
            return [verdict._replace(allowed=True) for verdict in super().decide(request)]

    with Generous.from_url(server.url, prefix=prefix, denial_ttl=30, timeout=30) as store:
        limiter = Limiter(POLICY, store=store)
        assert all(limiter.allow("a") for _ in range(5))
        assert store.remembered
