"""Bans: when a key is shut out, for how long, what it is told, and what that costs the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from asking import Serve
from fastapi import Depends, FastAPI, HTTPException, Request
from httpx2 import Response

import servers
from sluicegate import (
    AsyncRedisStore,
    Concurrency,
    InvalidKey,
    InvalidPolicy,
    InvalidRate,
    InvalidStore,
    MemoryStore,
    SlidingWindow,
)
from sluicegate.testing import ManualClock
from sluicegate.web.asgi import RateLimitMiddleware
from sluicegate.web.fastapi import Ban, RateLimits, header

PROBLEMS = "https://iana.org/assignments/http-problem-types#"
BY_USER = header("x-user")
ALICE, BOB = {"x-user": "alice"}, {"x-user": "bob"}


def ok() -> str:
    return "ok"


def app_with(limits: RateLimits, ban: Any, *policies: Any, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan)
    limit = limits.limit(*(policies or ("2/minute",)), per=BY_USER, ban=ban, **options)
    app.get("/x", dependencies=[Depends(limit)])(ok)
    return app


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limits(clock: ManualClock) -> RateLimits:
    return RateLimits(store=MemoryStore(clock=clock))


def kind(response: Response) -> str:
    return response.json()["type"].removeprefix(PROBLEMS) if response.status_code == 429 else str(response.status_code)


def asked(client: Any, times: int, headers: dict[str, str] = ALICE) -> list[str]:
    return [kind(client.get("/x", headers=headers)) for _ in range(times)]


QUOTA, ABNORMAL = "quota-exceeded", "abnormal-usage-detected"


# One ban


def test_a_key_is_banned_once_it_was_denied_so_often_and_no_other_key_is(
    limits: RateLimits, clock: ManualClock, serve: Serve
):
    client = serve(app_with(limits, ("3/hour", 600)))
    assert asked(client, 6) == ["200", "200", QUOTA, QUOTA, QUOTA, ABNORMAL]
    assert asked(client, 1, BOB) == ["200"]
    clock.advance(599.999)
    response = client.get("/x", headers=ALICE)
    assert kind(response) == ABNORMAL
    assert response.headers["retry-after"] == "1"
    clock.advance(0.001)
    assert asked(client, 3) == ["200", "200", QUOTA]


def test_what_a_banned_client_is_told(limits: RateLimits, serve: Serve):
    client = serve(app_with(limits, ("1/hour", 600)))
    asked(client, 3)
    response = client.get("/x", headers=ALICE)
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "600"
    assert response.headers["ratelimit"] == '"get-x";r=0;t=600'
    assert response.json() == {
        "type": f"{PROBLEMS}{ABNORMAL}",
        "title": "Abnormal Usage Detected",
        "status": 429,
        "detail": "Too many requests were denied, so none is allowed for a while. Try again in 600 s.",
        "violated-policies": ["get-x"],
    }


def test_denials_that_have_left_the_window_do_not_count(limits: RateLimits, clock: ManualClock, serve: Serve):
    client = serve(app_with(limits, ("3/hour", 600)))
    for _ in range(4):  # two an hour and a bit
        assert asked(client, 4) == ["200", "200", QUOTA, QUOTA]
        clock.advance(3601)


def test_denials_during_a_ban_do_not_count(limits: RateLimits, clock: ManualClock, serve: Serve):
    client = serve(app_with(limits, ("3/hour", 600)))
    asked(client, 5)
    assert asked(client, 50) == [ABNORMAL] * 50
    clock.advance(600)
    assert asked(client, 4) == ["200", "200", QUOTA, QUOTA]


def test_a_ban_is_of_one_limit_and_counts_no_denials_of_another(limits: RateLimits, serve: Serve):
    app = app_with(limits, ("3/hour", 600))
    app.get("/y", dependencies=[Depends(limits.limit("1/minute", per=BY_USER))])(ok)
    client = serve(app)
    assert [client.get("/y", headers=ALICE).status_code for _ in range(9)] == [200] + [429] * 8
    assert asked(client, 2) == ["200", "200"]
    asked(client, 4)
    assert asked(client, 1) == [ABNORMAL]
    assert client.get("/y", headers=BOB).status_code == 200


def test_limits_that_are_decided_together_ban_each_its_own_key(limits: RateLimits, serve: Serve):
    async def tenant(request: Request) -> str:
        return request.headers["x-tenant"]

    app = FastAPI(
        lifespan=limits.lifespan, dependencies=[Depends(limits.limit("9/minute", per=tenant, name="tenants"))]
    )
    app.get("/x", dependencies=[Depends(limits.limit("2/minute", per=BY_USER, ban=("2/hour", 600)))])(ok)
    client = serve(app)
    assert asked(client, 5, {**ALICE, "x-tenant": "acme"}) == ["200", "200", QUOTA, QUOTA, ABNORMAL]
    assert asked(client, 1, {**BOB, "x-tenant": "acme"}) == ["200"]


def test_a_denial_by_another_limit_does_not_count(limits: RateLimits, serve: Serve):
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits.shared("3/minute"))])
    app.get("/x", dependencies=[Depends(limits.limit("100/minute", per=BY_USER, ban=("2/hour", 600)))])(ok)
    assert asked(serve(app), 9) == ["200"] * 3 + [QUOTA] * 6


def test_a_ban_by_several_attributes_is_of_their_pair(limits: RateLimits, serve: Serve):
    app = FastAPI(lifespan=limits.lifespan)
    limit = limits.limit(
        SlidingWindow(1, window=60, per=("tenant", "user")),
        per={"user": BY_USER, "tenant": header("x-tenant")},
        ban=("2/hour", 600),
    )
    app.get("/x", dependencies=[Depends(limit)])(ok)
    client = serve(app)
    assert asked(client, 4, {**ALICE, "x-tenant": "acme"}) == ["200", QUOTA, QUOTA, ABNORMAL]
    assert asked(client, 1, {**ALICE, "x-tenant": "other"}) == ["200"]
    assert asked(client, 1, {**BOB, "x-tenant": "acme"}) == ["200"]


def test_a_ban_of_the_default(clock: ManualClock, serve: Serve):
    limits = RateLimits("1/minute", per=BY_USER, ban=("2/hour", 600), store=MemoryStore(clock=clock))
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])
    app.get("/x")(ok)
    assert asked(serve(app), 4) == ["200", QUOTA, QUOTA, ABNORMAL]


def test_a_ban_of_the_middleware(clock: ManualClock, serve: Serve):
    app = FastAPI()
    app.add_middleware(
        RateLimitMiddleware, limit="1/minute", per=BY_USER, ban=("2/hour", 600), store=MemoryStore(clock=clock)
    )
    app.get("/x")(ok)
    assert asked(serve(app), 4) == ["200", QUOTA, QUOTA, ABNORMAL]


def test_a_ban_under_the_limits_of_a_plan(limits: RateLimits, serve: Serve):
    async def plan(request: Request) -> list[str]:
        return request.headers["x-plan"].split(";")

    client = serve(app_with(limits, ("2/hour", 600), plan))
    free, both = {**ALICE, "x-plan": "1/minute"}, {**BOB, "x-plan": "1/minute;5/hour"}
    assert asked(client, 4, free) == ["200", QUOTA, QUOTA, ABNORMAL]
    assert asked(client, 4, both) == ["200", QUOTA, QUOTA, ABNORMAL]


def test_a_ban_is_of_the_plan_that_a_key_has_by_then(limits: RateLimits, clock: ManualClock, serve: Serve):
    async def plan(request: Request) -> str:
        return request.headers["x-plan"]

    client = serve(app_with(limits, ("2/hour", 600), plan))
    assert asked(client, 2, {**ALICE, "x-plan": "1/minute"}) == ["200", QUOTA]
    assert asked(client, 4, {**ALICE, "x-plan": "2/second"}) == ["200", "200", QUOTA, ABNORMAL]
    clock.advance(599)
    assert asked(client, 1, {**ALICE, "x-plan": "2/second"}) == [ABNORMAL]


def test_a_response_that_decides_about_its_charge_bans_too(limits: RateLimits, serve: Serve):
    app = FastAPI(lifespan=limits.lifespan)
    failures = limits.limit(
        "2/minute", per=BY_USER, ban=("2/hour", 600), charge_when=lambda response: response.status_code == 401
    )

    def login() -> None:
        raise HTTPException(401)

    app.get("/x", dependencies=[Depends(failures)])(login)
    assert asked(serve(app), 5) == ["401", "401", QUOTA, QUOTA, ABNORMAL]


# Longer bans


def test_each_further_ban_is_longer_up_to_the_longest(limits: RateLimits, clock: ManualClock, serve: Serve):
    client = serve(app_with(limits, Ban("1/hour", 60, growth=3, longest=1000)))
    lengths = []
    for _ in range(12):
        clock.advance(60)  # the limit's own window
        assert asked(client, 4) == ["200", "200", QUOTA, ABNORMAL]
        lengths.append(int(client.get("/x", headers=ALICE).headers["retry-after"]))
        clock.advance(lengths[-1])
    assert lengths == [60, 180, 540] + [1000] * 9


def test_in_twice_the_time_of_the_longest_a_ban_is_forgotten(limits: RateLimits, clock: ManualClock, serve: Serve):
    client = serve(app_with(limits, Ban("1/hour", 60, growth=3, longest=500)))

    def ban() -> int:
        asked(client, 3)
        return int(client.get("/x", headers=ALICE).headers["retry-after"])

    assert ban() == 60
    clock.advance(999)
    assert ban() == 180
    clock.advance(1001)  # since the first, two were forgotten
    assert ban() == 60
    clock.advance(500)
    assert ban() == 180
    clock.advance(5000)
    assert ban() == 60


@pytest.mark.parametrize(
    ("ban", "lengths"),
    [
        (Ban("1/hour", 60), [60, 60, 60]),
        (Ban("1/hour", timedelta(minutes=1), growth=2), [60, 120, 240]),
        (Ban("1/hour", 60, growth=1.5, longest=timedelta(minutes=2)), [60, 90, 120]),
        (Ban("1/hour", 60, growth=100, longest=60), [60, 60, 60]),
        (Ban("1/hour", 7 * 86400), [7 * 86400] * 3),
    ],
    ids=str,
)
def test_how_long_a_ban_lasts(ban: Ban, lengths: list[float]):
    assert [ban.lasts(number) for number in (1, 2, 3)] == lengths
    assert ban.lasts(10**9) <= ban.longest


# Several instances on a server


class Instance:
    """One instance of an app, with a store of its own."""

    def __init__(self, server: servers.Server, prefix: str, ban: Any) -> None:
        self.store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        self.limits = RateLimits(store=self.store, deadline=30)
        self.app = app_with(self.limits, ban)

    async def ask(self, times: int, headers: dict[str, str] = ALICE) -> list[str]:
        responses = await asyncio.gather(*[self.client.get("/x", headers=headers) for _ in range(times)])
        return sorted(map(kind, responses))

    async def wait(self) -> int:
        return int((await self.client.get("/x", headers=ALICE)).headers["retry-after"])


async def on_instances(server: servers.Server, prefix: str, ban: Any, number: int, run: Callable[..., Any]) -> None:
    instances = [Instance(server, prefix, ban) for _ in range(number)]
    async with AsyncExitStack() as stack:
        for instance in instances:
            await stack.enter_async_context(instance.store)
            await stack.enter_async_context(instance.app.router.lifespan_context(instance.app))
            transport = httpx2.ASGITransport(app=instance.app)
            client = httpx2.AsyncClient(transport=transport, base_url="http://a")
            instance.client = await stack.enter_async_context(client)
        await run(*instances)


async def until_told(instance: Instance, expected: str, headers: dict[str, str] = ALICE) -> None:
    async with asyncio.timeout(60):
        while await instance.ask(1, headers) != [expected]:
            await asyncio.sleep(0.01)


@pytest.mark.mostly_waits
def test_all_instances_ban_a_key_that_was_denied_by_each(server: servers.Server, prefix: str):
    async def run(one: Instance, other: Instance) -> None:
        assert await one.ask(12) == ["200"] * 2 + [QUOTA] * 10
        assert await other.ask(12) == [QUOTA] * 12
        await until_told(one, ABNORMAL)
        await until_told(other, ABNORMAL)
        assert await one.ask(1, BOB) == ["200"]

    asyncio.run(on_instances(server, prefix, ("20/hour", 600), 2, run))


def test_instances_that_ban_a_key_at_once_ban_it_once(
    server: servers.Server, prefix: str, caplog: pytest.LogCaptureFixture
):
    async def run(*instances: Instance) -> None:
        await asyncio.gather(*[instance.ask(30) for instance in instances])
        for instance in instances:
            await until_told(instance, ABNORMAL)
        assert 500 < await instances[0].wait() <= 600  # not longer, as the second ban of the key would be

    asyncio.run(on_instances(server, prefix, Ban("5/hour", 600, growth=10), 4, run))
    assert [record.getMessage() for record in caplog.records if record.name == "sluicegate"] == [
        "limit get-x bans a key for 600 s, as it was denied too often"
    ]


def test_another_instance_learns_of_a_ban_by_its_first_denial(server: servers.Server, prefix: str):
    async def run(one: Instance, other: Instance) -> None:
        await one.ask(30)
        await until_told(one, ABNORMAL)
        assert await other.ask(1) == [QUOTA]
        async with asyncio.timeout(60):
            while all(each.banned_until < 0 for each in other.limits._engine.bans.watched.values()):
                await asyncio.sleep(0.01)
        assert await other.ask(1) == [ABNORMAL]

    asyncio.run(on_instances(server, prefix, ("20/hour", 600), 2, run))


@pytest.mark.mostly_waits
def test_a_key_that_floods_before_it_is_banned_costs_two_calls_a_second(server: servers.Server, prefix: str):
    async def run(instance: Instance) -> None:
        await instance.ask(30)
        before, began = calls(server), asyncio.get_running_loop().time()
        for _ in range(20):
            await instance.ask(50)
        seconds = asyncio.get_running_loop().time() - began
        assert calls(server) - before <= 2 * (1 + seconds)

    asyncio.run(on_instances(server, prefix, ("1000000/hour", 600), 1, run))


@pytest.mark.mostly_waits
def test_a_banned_key_that_floods_costs_a_call_a_second(server: servers.Server, prefix: str):
    async def run(instance: Instance) -> None:
        await instance.ask(30)
        await until_told(instance, ABNORMAL)
        before, began = calls(server), asyncio.get_running_loop().time()
        for _ in range(20):
            await instance.ask(50)
        seconds = asyncio.get_running_loop().time() - began
        # Two more if a request that was on its way when the key was banned is counted as a denial.
        assert calls(server) - before <= 3 + seconds

    asyncio.run(on_instances(server, prefix, ("5/hour", 600), 1, run))


def calls(server: servers.Server) -> int:
    stats = server.client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


@pytest.mark.mostly_waits
def test_a_ban_that_was_lifted_is_over_for_every_instance(server: servers.Server, prefix: str):
    async def run(one: Instance, other: Instance) -> None:
        await one.ask(30)
        await until_told(one, ABNORMAL)
        await until_told(other, ABNORMAL)
        await one.limits.forget("alice")
        await until_told(other, "200")
        await until_told(one, QUOTA)  # it was the second

    asyncio.run(on_instances(server, prefix, ("5/hour", 600), 2, run))


@pytest.mark.mostly_waits
def test_after_a_ban_was_lifted_an_instance_that_sees_only_denials_does_not_speak_of_it(
    server: servers.Server, prefix: str
):
    async def run(one: Instance, other: Instance) -> None:
        await one.ask(30)
        await until_told(other, ABNORMAL)
        await one.limits.forget("alice")
        assert await one.ask(2) == ["200", "200"]
        await until_told(other, QUOTA)

    asyncio.run(on_instances(server, prefix, ("20/hour", 600), 2, run))


@pytest.mark.mostly_waits
def test_after_a_ban_was_lifted_a_longer_wait_than_its_rest_is_none_of_it(server: servers.Server, prefix: str):
    async def run(one: Instance) -> None:
        await one.ask(30)
        await until_told(one, ABNORMAL)
        await one.limits.forget("alice")
        assert await one.ask(3) == ["200", "200", QUOTA]

    asyncio.run(on_instances(server, prefix, ("20/hour", 30), 1, run))


@pytest.mark.parametrize(
    ("on_outage", "answers"), [("local", {QUOTA}), ("open", {"200"}), ("closed", {"503"}), ("raise", {"503"})]
)
def test_while_a_store_is_gone_nobody_is_banned(on_outage: Any, answers: set[str], caplog: pytest.LogCaptureFixture):
    with servers.running(next(iter(servers.binaries()))) as own:
        limits = RateLimits(store=own.url, deadline=0.3, on_outage=on_outage, share=1)
        app = app_with(limits, ("2/hour", 600))

        async def run() -> list[str]:
            transport = httpx2.ASGITransport(app=app)
            async with (
                app.router.lifespan_context(app),
                httpx2.AsyncClient(transport=transport, base_url="http://a") as client,
            ):
                for _ in range(2):
                    assert (await client.get("/x", headers=ALICE)).status_code == 200
                own.process.kill()
                own.process.wait()
                return [kind(await client.get("/x", headers=ALICE)) for _ in range(12)]

        assert set(asyncio.run(run())) == answers
    assert "bans a key" not in caplog.text


# What is refused


@pytest.mark.parametrize(
    ("ban", "error", "match"),
    [
        ("20/hour", InvalidPolicy, r'ban must be a pair such as \("20/hour", 3600\), or a Ban, got .20/hour.'),
        (("20/hour",), InvalidPolicy, "ban must be a pair"),
        (("often", 3600), InvalidRate, "often"),
        (("20/hour;3/minute", 3600), InvalidPolicy, "after must be one rate"),
        ((SlidingWindow(5, window=60, per="user"), 3600), InvalidPolicy, "after must be one rate"),
        ((SlidingWindow(5, window=60, shared=True), 3600), InvalidPolicy, "after must be one rate"),
        ((Concurrency(5, ttl=60), 3600), InvalidPolicy, "after must be one rate"),
        (("20/hour", 0.5), InvalidPolicy, r"seconds must be a number of seconds .* from 1 to 316224000 .* got 0.5"),
        (("20/hour", float("nan")), InvalidPolicy, "seconds must be a number"),
        (("20/hour", True), InvalidPolicy, "seconds must be a number"),
        (("20/hour", "3600"), InvalidPolicy, "seconds must be a number"),
        (("20/hour", 4e8), InvalidPolicy, "seconds must be a number"),
    ],
    ids=repr,
)
def test_what_is_no_ban_is_refused(ban: Any, error: type[Exception], match: str):
    limits = RateLimits()
    with pytest.raises(error, match=match):
        limits.limit("5/minute", ban=ban)
    with pytest.raises(error, match=match):
        RateLimits("5/minute", ban=ban)
    with pytest.raises(error, match=match):
        RateLimitMiddleware(FastAPI(), "5/minute", ban=ban)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"growth": 0.9}, "growth must be a number from 1 to 100, got 0.9"),
        ({"growth": float("inf")}, "growth must be a number from 1 to 100"),
        ({"growth": True}, "growth must be a number from 1 to 100"),
        ({"longest": 30}, r"longest must be 60 s \(seconds=\) or more, got 30"),
        ({"longest": -1}, "longest must be a number of seconds"),
    ],
    ids=repr,
)
def test_what_a_ban_cannot_be(options: dict[str, Any], match: str):
    with pytest.raises(InvalidPolicy, match=match):
        Ban("5/minute", 60, **options)


def test_a_shared_policy_bans_nobody():
    with pytest.raises(InvalidPolicy, match="a shared policy cannot ban anybody"):
        RateLimits().limit("5/minute", SlidingWindow(100, window=60, shared=True), ban=("20/hour", 60))


def test_a_limit_with_several_keys_bans_nobody():
    policies = SlidingWindow(5, window=60, per="user"), SlidingWindow(50, window=60, per="tenant")
    with pytest.raises(InvalidPolicy, match="a limit that bans must count by one key"):
        RateLimits().limit(*policies, per={"user": BY_USER, "tenant": BY_USER}, ban=("20/hour", 60))


def test_a_policy_must_not_have_the_name_of_a_bans_counter():
    with pytest.raises(InvalidPolicy, match="named strikes would share a counter"):
        RateLimits().limit(SlidingWindow(5, window=60, name="strikes"), ban=("20/hour", 60))


# To list bans, and to lift them


def banned(limits: RateLimits, **options: Any) -> list[tuple[str, Any, float | None]]:
    found = asyncio.run(limits.bans(**options))
    return [(each.limit, each.key, each.seconds) for each in found]


def test_bans_are_listed_and_lifted(limits: RateLimits, clock: ManualClock, serve: Serve):
    app = app_with(limits, Ban("1/hour", 600, growth=2))
    by_pair = limits.limit(
        SlidingWindow(1, window=60, per=("tenant", "user")),
        per={"user": BY_USER, "tenant": header("x-tenant")},
        ban=("1/hour", 60),
    )
    app.get("/pairs", dependencies=[Depends(by_pair)])(ok)
    client = serve(app)
    assert banned(limits) == []
    for _ in range(4):
        client.get("/pairs", headers={**BOB, "x-tenant": "acme"})
    asked(client, 4, {"x-user": "Zoe {*}"})
    clock.advance(10)
    asked(client, 4)
    asked(client, 1, BOB)
    expected = [
        ("get-x", "alice", 600),
        ("get-x", "Zoe {*}", 590),
        ("get-pairs", {"tenant": "acme", "user": "bob"}, 50),
    ]
    assert banned(limits) == expected
    assert banned(limits, app=app) == expected
    asyncio.run(limits.forget("alice"))
    assert banned(limits) == expected[1:]
    assert asked(client, 4) == ["200", "200", QUOTA, ABNORMAL]
    assert banned(limits)[0] == ("get-x", "alice", 600)  # and not for longer, as the first was forgotten
    asyncio.run(limits.forget({"user": "bob", "tenant": "acme"}, limit="get-pairs"))
    assert client.get("/pairs", headers={**BOB, "x-tenant": "acme"}).status_code == 200
    clock.advance(600)
    assert banned(limits) == []


@pytest.mark.mostly_waits
def test_bans_on_a_server_are_listed_and_lifted(server: servers.Server, prefix: str):
    users = ["alice", "a%20b", "{*}", "#" * 200, "~", "1,2"]

    async def run(one: Instance, other: Instance) -> None:
        for user in users:
            headers = {"x-user": user}
            await one.ask(4, headers)
            await until_told(one, ABNORMAL, headers)
        found = await other.limits.bans()
        digest = [each for each in found if each.seconds is None]
        assert [each.key[0] for each in digest] == ["~"]
        assert {each.key for each in found} - {digest[0].key} == set(users) - {"#" * 200}
        assert all(590 < each.seconds <= 600 for each in found if each.seconds is not None)
        await other.limits.forget("{*}")
        assert len(await one.limits.bans()) == len(found) - 1
        await until_told(other, "200", {"x-user": "{*}"})

    asyncio.run(on_instances(server, prefix, ("1/hour", 600), 2, run))


def test_limits_of_a_plan_are_freed_under_every_plan(clock: ManualClock, serve: Serve):
    async def plan(request: Request) -> str:
        return request.headers["x-plan"]

    limits = RateLimits(store=MemoryStore(clock=clock), plans={"free": "1/minute", "pro": ["2/minute", "100/hour"]})
    client = serve(app_with(limits, ("1/hour", 600), plan))
    for name, allowed in (("free", 1), ("pro", 2)):
        headers = {"x-user": name, "x-plan": name}
        assert asked(client, allowed + 2, headers) == ["200"] * allowed + [QUOTA, ABNORMAL]
        asyncio.run(limits.forget(name))
        assert asked(client, 1, headers) == ["200"]


def test_what_cannot_be_freed_is_named(limits: RateLimits, serve: Serve):
    app = app_with(limits, ("1/hour", 600))
    with pytest.raises(InvalidPolicy, match=r"has not started: give it, as in limits.bans\(app\)"):
        asyncio.run(limits.bans())
    serve(app)
    with pytest.raises(InvalidKey, match="no limit is named 'get-y'"):
        asyncio.run(limits.forget("alice", limit="get-y"))
    with pytest.raises(InvalidKey, match="limit get-x counts by text, got user"):
        asyncio.run(limits.forget({"user": "alice"}))


def test_a_store_that_does_not_say_which_keys_it_holds_is_named():
    class Mine:
        async def decide(self, request: Any) -> Any: ...
        async def forget(self, counters: Any) -> None: ...
        async def block(self, counters: Any, span_us: int) -> None: ...
        async def aclose(self) -> None: ...

    limits = RateLimits(store=Mine())
    with pytest.raises(
        InvalidStore, match=r"store must say which keys it holds, to list bans, and Mine has no keys\(\)"
    ):
        asyncio.run(limits.bans(app_with(limits, ("1/hour", 600))))
