"""Requests that wait for their turn at several apps on one store, and while that store is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from waiting_apps import App, ended, reached

import servers
from machine import awake
from sluicegate import AsyncRedisStore, SlidingWindow

MARGIN = 0.3
"""Seconds by which an answer may be late, by the clock that stands still while the machine is busy."""


class Instance:
    """One app of a fleet, with a store of its own: for how long its requests were held, and when its endpoint ran."""

    def __init__(self, app: App, client: httpx2.AsyncClient) -> None:
        self.app = app
        self.held: list[float] = []
        self.ran_at: list[float] = []
        self._client = client

    async def get(self) -> int:
        began_at = awake()
        response = await self._client.get("/x/any", headers={"x-user": "alice"})
        self.held.append(awake() - began_at)
        if response.status_code == 200:
            self.ran_at.append(time.monotonic())
        return response.status_code


@asynccontextmanager
async def instance(server: servers.Server, prefix: str, *policies: Any, **options: Any) -> AsyncIterator[Instance]:
    async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
        app = App(*policies, store=store, **options)
        async with app.client() as client:
            yield Instance(app, client)


@pytest.mark.parametrize(("wait", "expected"), [(30, {200}), (0.25, {200, 429})], ids=["long", "short"])
def test_two_apps_never_go_over_their_limit_and_hold_nobody_for_longer_than_its_wait(
    server: servers.Server, prefix: str, wait: float, expected: set[int]
):
    policy = SlidingWindow(10, window=0.2)

    async def run() -> None:
        async with (
            instance(server, prefix, policy, wait=wait) as one,
            instance(server, prefix, policy, wait=wait) as two,
        ):
            began_at = time.monotonic()
            statuses = await asyncio.gather(*[each.get() for _ in range(20) for each in (one, two)])
            assert set(statuses) <= expected
            assert max(one.held + two.held) <= wait + MARGIN
            for number, at in enumerate(sorted(one.ran_at + two.ran_at)):
                assert at >= began_at + number // 10 * 0.2, f"the {number + 1}th of 40 ran too early"
            assert statuses.count(200) >= 10
            assert one.ran_at
            assert two.ran_at

    asyncio.run(ended(run(), 60))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize(
    ("on_outage", "ends"),
    [("local", {200}), ("open", {200}), ("closed", {429, 503}), ("raise", {503})],
    ids=["local", "open", "closed", "raise"],
)
def test_when_the_store_goes_down_the_policy_for_outages_ends_a_wait_and_in_time(
    own_server: servers.Server, on_outage: str, ends: set[int], fault: str
):
    wait, deadline = 1.5, 0.4

    async def run() -> None:
        options = {"wait": wait, "deadline": deadline, "on_outage": on_outage}
        async with instance(own_server, "fleet:", SlidingWindow(2, window=0.3), **options) as app:
            assert [await app.get() for _ in range(2)] == [200, 200]
            waiting = [asyncio.create_task(app.get()) for _ in range(2)]
            await reached(lambda: app.app.waiting == 2)
            getattr(own_server, fault)()
            try:
                assert set(await asyncio.gather(*waiting)) <= ends
            finally:
                if fault == "freeze":
                    own_server.thaw()
            assert max(app.held) <= wait + deadline + MARGIN
            assert app.app.waiting == 0

    asyncio.run(ended(run(), 60))
