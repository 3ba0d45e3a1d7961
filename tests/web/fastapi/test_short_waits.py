"""Short waits: a request over its limit waits for its turn: in order, bounded, and while its client is there."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2
import pytest
from asking import served
from fastapi import Depends, Request
from waiting_apps import ALICE, BOB, BY_USER, SOON, App, ended, reached, until

import servers
from sluicegate import InvalidPolicy, SlidingWindow, TokenBucket
from sluicegate.web.fastapi import RateLimits, header


def test_requests_wait_for_their_turn_and_are_served_in_order():
    app = App("2/second", wait=5, waiting=10)

    async def use(client: httpx2.AsyncClient) -> None:
        asked = []
        for number in range(6):
            asked.append(asyncio.create_task(client.get(f"/x/{number}", headers=ALICE)))
            await reached(lambda number=number: len(app.seen) + app.waiting == number + 1)
        assert app.seen == ["0", "1"]
        assert (await client.get("/x/bob", headers=BOB)).status_code == 200  # another key does not wait
        app.clock.advance(1)
        await reached(lambda: len(app.seen) == 5)
        app.clock.advance(1)
        assert {response.status_code for response in await asyncio.gather(*asked)} == {200}
        assert app.seen == ["0", "1", "bob", "2", "3", "4", "5"]

    app.run(use)


def test_a_request_is_held_no_longer_than_its_wait():
    app = App("1/second", wait=1.5)

    async def use(client: httpx2.AsyncClient) -> None:
        await client.get("/x/0", headers=ALICE)
        asked = [asyncio.create_task(client.get(f"/x/{number}", headers=ALICE)) for number in (1, 2)]
        await reached(lambda: app.waiting == 2)
        app.clock.advance(1)
        await reached(lambda: len(app.seen) == 2)
        app.clock.advance(0.5)
        responses = await asyncio.gather(*asked)
        assert sorted(response.status_code for response in responses) == [200, 429]
        (refused,) = [response for response in responses if response.status_code == 429]
        assert refused.json()["violated-policies"] == ["get-x-name"]
        assert refused.headers["retry-after"] == "1"

    app.run(use)


def test_a_wait_that_is_too_long_is_not_begun():
    app = App("1/minute", wait=5)

    async def use(client: httpx2.AsyncClient) -> None:
        statuses = [(await client.get("/x/0", headers=ALICE)).status_code for _ in range(3)]
        assert statuses == [200, 429, 429]

    app.run(use)


def test_so_many_may_wait_and_others_are_refused_at_once():
    app = App("1/second", wait=5, waiting=2)

    async def use(client: httpx2.AsyncClient) -> None:
        await client.get("/x/0", headers=ALICE)
        asked = [asyncio.create_task(client.get("/x/1", headers=ALICE)) for _ in range(2)]
        await reached(lambda: app.waiting == 2)
        assert [(await client.get("/x/2", headers=ALICE)).status_code for _ in range(3)] == [429] * 3
        app.clock.advance(1)
        await reached(lambda: app.waiting == 1)
        app.clock.advance(1)
        assert [response.status_code for response in await asyncio.gather(*asked)] == [200, 200]

    app.run(use)


def test_a_request_under_several_limits_waits_as_long_as_the_shortest_of_their_waits():
    app = App("1/second", wait=5)
    other = app.limits.limit("100/second", per=BY_USER, wait=0.5)
    plain = app.limits.limit("100/second", per=header("x-tenant"))
    app.app.get("/y/{name}", dependencies=[Depends(app.limit), Depends(other)])(app.note)
    app.app.get("/z/{name}", dependencies=[Depends(app.limit), Depends(plain)])(app.note)

    async def use(client: httpx2.AsyncClient) -> None:
        headers = {**ALICE, "x-tenant": "acme"}
        for path in ("/y", "/z"):
            assert (await client.get(f"{path}/0", headers=headers)).status_code == 200
        assert (await client.get("/y/1", headers=headers)).status_code == 429  # for 1 s it may not wait
        asked = asyncio.create_task(client.get("/z/1", headers=headers))
        await reached(lambda: app.waiting == 1)
        app.clock.advance(1)
        assert (await asked).status_code == 200

    app.run(use)


def test_a_limit_that_rounds_is_decided_by_itself():
    app = App("1/second", wait=5)
    rounded = app.limits.limit(SlidingWindow(100, window=60, buckets=6), per=BY_USER)
    app.app.get("/y/{name}", dependencies=[Depends(app.limit), Depends(rounded)])(app.note)

    async def use(client: httpx2.AsyncClient) -> None:
        await client.get("/y/0", headers=ALICE)
        asked = asyncio.create_task(client.get("/y/1", headers=ALICE))
        await reached(lambda: app.waiting == 1)
        app.clock.advance(1)
        assert (await asked).status_code == 200

    app.run(use)


def test_charges_that_a_response_decides_about_wait_too():
    app = App("1/second", wait=5, charge_when=lambda response: response.status_code != 200)

    async def use(client: httpx2.AsyncClient) -> None:
        responses = await asyncio.gather(*[client.get(f"/x/{number}", headers=ALICE) for number in range(4)])
        assert {response.status_code for response in responses} == {200}  # each gives its unit back to the next

    app.run(use)


@pytest.mark.parametrize("size", [10, 300_000], ids=["short", "long"])
def test_the_body_of_a_request_that_waited_is_whole(size: int):
    app = App("1/second", wait=50)

    @app.app.post("/length", dependencies=[Depends(app.limit)])
    async def length(request: Request) -> int:
        return len(await request.body())

    with served(app.app) as url, httpx2.Client(base_url=url, timeout=SOON) as client, ThreadPoolExecutor() as threads:
        post = partial(client.post, "/length", headers=ALICE, content=b"x" * size)
        assert post().json() == size
        waiting = threads.submit(post)
        until(lambda: app.waiting == 1)
        app.clock.advance(1)
        assert waiting.result().json() == size


def test_a_client_that_has_gone_waits_no_longer():
    app = App("1/second", wait=50)
    with served(app.app) as url, httpx2.Client(base_url=url, timeout=SOON) as client:
        client.get("/x/first", headers=ALICE)
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as gone:
            gone.sendall(b"GET /x/gone HTTP/1.1\r\nhost: a\r\nx-user: alice\r\n\r\n")
            until(lambda: app.waiting == 1)
        until(lambda: app.waiting == 0)
        app.clock.advance(1)
        assert client.get("/x/last", headers=ALICE).text == '"last"'
    assert app.seen == ["first", "last"]


def test_requests_wait_on_a_server(server: servers.Server, prefix: str):
    from sluicegate import AsyncRedisStore

    async def run() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
            app = App(TokenBucket(10, window=1, burst=1), store=store, wait=30)
            async with app.client() as client:
                responses = await asyncio.gather(*[client.get(f"/x/{number}", headers=ALICE) for number in range(6)])
            assert {response.status_code for response in responses} == {200}
            assert app.seen == [str(number) for number in range(6)]

    asyncio.run(ended(run()))


@pytest.mark.slow
def test_hundreds_of_requests_at_twice_the_limit():
    """Half of them are allowed, in order, and none is held longer than half a second; others are not held up."""
    app = App(TokenBucket(200, window=1, burst=20), wait=0.5, waiting=100)
    held: list[float] = []

    async def use(client: httpx2.AsyncClient) -> None:
        async def ask(number: int) -> int:
            began_us = app.clock.now_us()
            response = await client.get(f"/x/{number}", headers=ALICE)
            held.append((app.clock.now_us() - began_us) / 1_000_000)
            return response.status_code

        tasks = []
        for number in range(400):
            tasks.append(asyncio.create_task(ask(number)))
            await reached(lambda number=number: len(held) + app.waiting == number + 1)
            if number % 10 == 0:  # while the clock stands
                assert (await client.get("/x/other", headers={"x-user": f"bob-{number}"})).status_code == 200
            app.clock.advance(1 / 400)
            await asyncio.sleep(0)
        for _ in range(200):
            app.clock.advance(1 / 400)
            await asyncio.sleep(0.001)
        statuses = await asyncio.gather(*tasks)
        allowed = [str(number) for number, status in enumerate(statuses) if status == 200]
        assert [name for name in app.seen if name != "other"] == allowed
        assert set(statuses) == {200, 429}
        assert 220 < len(allowed) <= 20 + 200 * 1.5
        print(f"{len(allowed)} allowed; held for {max(held):.3f} s at most")

    app.run(use, 60)
    assert 0.4 < max(held) <= 0.5 + 0.05


# What is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"wait": -1}, "wait must be a number of seconds from 0 to 60, got -1"),
        ({"wait": 61}, "wait must be a number of seconds"),
        ({"wait": float("nan")}, "wait must be a number of seconds"),
        ({"wait": True}, "wait must be a number of seconds"),
        ({"wait": "1"}, "wait must be a number of seconds"),
        ({"wait": 1, "waiting": 0}, "waiting must be a whole number of 1 or more, got 0"),
        ({"wait": 1, "waiting": True}, "waiting must be a whole number"),
        ({"wait": 1, "waiting": 1.5}, "waiting must be a whole number"),
    ],
    ids=repr,
)
def test_what_is_no_wait_is_refused(options: dict[str, Any], match: str):
    with pytest.raises(InvalidPolicy, match=match):
        RateLimits().limit("5/minute", **options)


def test_a_policy_that_rounds_has_no_waits():
    with pytest.raises(InvalidPolicy, match="a wait needs exact entries"):
        RateLimits().limit(SlidingWindow(5, window=60, buckets=6), wait=1)
