"""`LimitsInTest` and the fixture ``sluicegate``: limits count by the test's clock, and are as before afterwards."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

import servers
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    InvalidStore,
    Limiter,
    MemoryStore,
    SlidingWindow,
    StoreEvent,
    StoreTimeout,
    StoreUnavailable,
    open_async_store,
    open_store,
)
from sluicegate._stores import resolve
from sluicegate.testing import LimitsInTest
from sluicegate.web.asgi import RateLimitMiddleware
from sluicegate.web.fastapi import RateLimits, Reservation
from sluicegate.web.limiters import Limiters

NOBODY = "redis://localhost:1/0"
"""The URL of a server that does not exist."""

PATIENT = 30.0
"""Seconds that an app waits for a server that exists: on a busy machine nothing may run for half a second."""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that a test leaves limits as they were."""
    yield
    assert resolve.stand_in is None
    assert Limiters.are_on


# An app that a module makes, long before the tests.

its_limits = RateLimits(store=NOBODY)
service = FastAPI(lifespan=its_limits.lifespan)


@service.get("/login", dependencies=[Depends(its_limits.limit("2/minute", charge_when=lambda r: r.status_code == 401))])
async def login(password: str) -> str:
    if password != "right":
        raise HTTPException(401)
    return "in"


@service.get("/chat")
async def chat(
    budget: Annotated[Reservation, Depends(its_limits.reserve("100/minute", cost=90, name="tokens"))],
) -> str:
    budget.settle(10)
    return "hello"


# And apps that tests make.


def app_of(limits: RateLimits, rate: str = "2/minute", name: str | None = None) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan)

    @app.get("/", dependencies=[Depends(limits.limit(rate, name=name))])
    async def index() -> str:
        return "hello"

    return app


def statuses(app: Any, times: int) -> list[int]:
    with TestClient(app) as client:
        return [client.get("/").status_code for _ in range(times)]


# Where limits count


def no_store(_: str) -> None:
    return None


def memory_store(_: str) -> MemoryStore:
    return MemoryStore()


def url(url: str) -> str:
    return url


def redis_store(url: str) -> AsyncRedisStore:
    return AsyncRedisStore.from_url(url)


@pytest.mark.parametrize("store_of", [no_store, memory_store, url, redis_store])
def test_limits_count_by_the_clock_of_the_test_whatever_their_store_is(store_of: Callable[[str], Any]):
    app = app_of(RateLimits(store=store_of(NOBODY), on_outage="closed"))  # where nobody is, a store would be an outage
    with LimitsInTest() as limits, TestClient(app) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
        limits.advance(59)
        assert client.get("/").status_code == 429
        limits.advance(1)
        assert client.get("/").status_code == 200


def test_a_server_sees_nothing_of_a_test_and_the_store_of_the_app_is_used_again_after_it(
    server: servers.Server, prefix: str
):
    store = AsyncRedisStore.from_url(server.url, prefix=prefix)
    app = app_of(RateLimits(store=store, on_outage="raise", deadline=PATIENT))

    def keys() -> int:
        return len(list(server.client.scan_iter(f"{prefix}*")))

    with LimitsInTest():
        assert statuses(app, 3) == [200, 200, 429]
        assert keys() == 0
    with TestClient(app) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
        assert keys() > 0
        with LimitsInTest() as again:
            assert client.get("/").status_code == 200  # the server's count is not seen
            again.advance(3600)
        assert client.get("/").status_code == 429  # and neither the test's units nor its clock by the server
        assert client.portal is not None
        client.portal.call(store.aclose)


def test_what_was_counted_in_memory_before_a_test_is_there_after_it():
    app = app_of(RateLimits())
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
        with LimitsInTest() as limits:
            limits.assert_remaining(client.get("/"), 1)
        assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def test_an_app_that_ends_in_a_test_closes_its_own_store_and_keeps_the_units_of_the_test():
    own = MemoryStore()
    app = app_of(RateLimits(store=own))
    with LimitsInTest():
        assert statuses(app, 2) == [200, 200]
        assert statuses(app, 1) == [429]


def test_apps_that_share_a_store_share_their_counters_in_a_test_and_others_do_not():
    shared = MemoryStore()
    pairs = [(NOBODY, NOBODY), (shared, shared), (None, None), ("redis://localhost:3/0", "redis://localhost:2/0")]
    apps = [[app_of(RateLimits(store=store), name="same") for store in pair] for pair in pairs]
    with LimitsInTest():
        seen = [[statuses(app, 2) for app in pair] for pair in apps]
    assert seen == [[[200] * 2, [429] * 2]] * 2 + [[[200] * 2] * 2] * 2


def test_the_middleware_counts_in_a_test_too_also_when_its_first_request_makes_it():
    async def index(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    middleware = Middleware(RateLimitMiddleware, limit="2/minute", store=NOBODY, on_outage="closed")
    app = Starlette(routes=[Route("/", index)], middleware=[middleware])
    for _ in range(2):
        with LimitsInTest() as limits:
            client = TestClient(app)
            assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
            limits.advance(60)
            limits.assert_remaining(client.get("/"), 1)
    assert client.get("/").status_code == 503  # its own store, which is down


def test_limits_that_are_made_in_a_test_have_their_own_store_after_it(sluicegate: LimitsInTest):
    assert resolve.stand_in is not None
    app = app_of(RateLimits(store=NOBODY, on_outage="closed"))
    assert statuses(app, 3) == [200, 200, 429]
    sluicegate.__exit__(None, None, None)
    assert statuses(app, 1) == [503]


def test_tests_follow_each_other_without_a_trace():
    app = app_of(RateLimits(store=NOBODY))
    for _ in range(3):
        with LimitsInTest() as limits, TestClient(app) as client:
            assert limits.clock.now_us() == 0
            assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
            limits.advance(30)
            limits.fail()
            limits.enabled = False


def test_limits_are_as_before_after_a_test_that_failed():
    app = app_of(RateLimits(), "1/minute")
    with pytest.raises(ZeroDivisionError), LimitsInTest():
        statuses(app, 1 // 0)
    with TestClient(app) as client:
        assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def test_apps_and_what_they_counted_are_not_kept_alive():
    limits = RateLimits()
    with LimitsInTest() as in_test:
        assert statuses(app_of(limits), 1) == [200]
    engine, store = weakref.ref(limits._engine.limiters), weakref.ref(in_test.store)
    del limits, in_test
    gc.collect()
    assert engine() is None
    assert store() is None


@pytest.mark.slow
def test_many_tests_of_one_app_are_not_taken_for_many_limiters():
    app = app_of(RateLimits(store=NOBODY))
    policy = SlidingWindow(2, window=60, name="own")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(45):
            with LimitsInTest() as limits:
                assert statuses(app, 1) == [200]
                assert Limiter(policy, store=limits.store).allow("alice")
                assert asyncio.run(AsyncLimiter(policy, store=limits.store).allow("alice"))


def test_two_cannot_be_entered_at_once(sluicegate: LimitsInTest):
    with pytest.raises(RuntimeError, match=r"^limits are in a test already: "), LimitsInTest():
        pass
    app = app_of(RateLimits(store=NOBODY))
    assert statuses(app, 3) == [200, 200, 429]
    assert repr(sluicegate) == "LimitsInTest(clock=ManualClock(0.000000))"


# What limits do


def test_a_web_socket_and_its_messages_are_limited_by_the_clock(sluicegate: LimitsInTest):
    limits = RateLimits(store=NOBODY)
    app = FastAPI(lifespan=limits.lifespan)

    @app.websocket("/ws", dependencies=[Depends(limits.limit("1/minute"))])
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in limits.messages(websocket, "1/second"):
            await websocket.send_text(message)

    with TestClient(app) as client:
        with client.websocket_connect("/ws") as websocket:
            for text in ("one", "two"):
                websocket.send_text(text)
                assert websocket.receive_text() == text
                sluicegate.advance(1)
            websocket.send_text("three")
            websocket.send_text("four")
            assert websocket.receive_text() == "three"
            with pytest.raises(WebSocketDisconnect):
                websocket.receive_text()
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
            pass
        sluicegate.assert_limited(denied.value, policy="ws-ws")


def test_what_a_response_gives_back_and_a_reservation_settles_is_counted(sluicegate: LimitsInTest):
    with TestClient(service) as client:
        passwords = ["right", "right", "wrong", "right", "wrong", "right"]
        got = [client.get("/login", params={"password": word}).status_code for word in passwords]
        assert got == [200, 200, 401, 200, 401, 429]
        client.get("/chat")
        sluicegate.assert_remaining(client.get("/chat"), 0, "tokens")
        sluicegate.advance(60)
        sluicegate.assert_remaining(client.get("/chat"), 10, "tokens")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_async_test_moves_the_clock_as_well(sluicegate: LimitsInTest):
    app = app_of(RateLimits(store=NOBODY))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
        sluicegate.assert_remaining(await client.get("/"), 1)
        sluicegate.assert_remaining(await client.get("/"), 0)
        sluicegate.assert_limited(await client.get("/"))
        sluicegate.advance(60)
        sluicegate.assert_remaining(await client.get("/"), 1)


def test_bans_are_of_one_test_and_end_by_its_clock():
    limits = RateLimits(store=NOBODY)
    app = FastAPI(lifespan=limits.lifespan)

    @app.get("/", dependencies=[Depends(limits.limit("1/minute", ban=("2/hour", 600)))])
    async def index() -> str:
        return "hello"

    with TestClient(app) as client:
        for _ in range(2):
            with LimitsInTest() as in_test:
                assert [client.get("/").status_code for _ in range(3)] == [200, 429, 429]
                in_test.advance(599)
                assert client.get("/").status_code == 429
                in_test.advance(1)
                assert client.get("/").status_code == 200


# Off


def test_while_limits_are_off_nothing_is_counted_and_no_field_is_sent(sluicegate: LimitsInTest):
    app = app_of(RateLimits())
    with TestClient(app) as client:
        sluicegate.assert_remaining(client.get("/"), 1)
        with sluicegate.off():
            assert not sluicegate.enabled
            later = app_of(RateLimits())  # of an app that is made meanwhile, either
            assert statuses(later, 5) == [200] * 5
            answers = [client.get("/") for _ in range(5)]
            assert [(each.status_code, "ratelimit" in each.headers) for each in answers] == [(200, False)] * 5
            with sluicegate.off():
                pass
            assert not sluicegate.enabled
        assert sluicegate.enabled
        sluicegate.assert_remaining(client.get("/"), 0)
        sluicegate.assert_limited(client.get("/"))
    assert statuses(later, 3) == [200, 200, 429]


def test_limits_that_an_app_has_switched_off_itself_stay_off(sluicegate: LimitsInTest):
    limits = RateLimits(enabled=False)
    app = app_of(limits)
    with sluicegate.off():
        assert statuses(app, 3) == [200] * 3
    assert statuses(app, 3) == [200] * 3
    assert limits.enabled is False
    limits.enabled = True
    assert statuses(app, 3) == [200, 200, 429]


def test_an_app_that_switches_its_limits_on_while_all_are_off_is_not_limited(sluicegate: LimitsInTest):
    limits = RateLimits(enabled=False)
    with TestClient(app_of(limits)) as client, sluicegate.off():
        client.get("/")
        limits.enabled = True
        assert [client.get("/").status_code for _ in range(3)] == [200] * 3


# Outages


@pytest.mark.parametrize(
    ("on_outage", "expected"),
    [("local", [200, 429, 429]), ("open", [200] * 3), ("closed", [503] * 3), ("raise", [503] * 3)],
)
@pytest.mark.parametrize("error", [StoreUnavailable, StoreTimeout])
def test_in_an_outage_the_app_does_what_it_says(
    sluicegate: LimitsInTest, on_outage: Any, expected: list[int], error: Any
):
    app = app_of(RateLimits(store=NOBODY, on_outage=on_outage))
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
        with sluicegate.outage(error):
            assert [client.get("/").status_code for _ in range(3)] == expected
        sluicegate.advance(60)
        sluicegate.assert_remaining(client.get("/"), 1)


def test_an_outage_and_its_end_are_events_of_the_app(sluicegate: LimitsInTest):
    events: list[StoreEvent] = []
    app = app_of(RateLimits(store=NOBODY, on_event=events.append), "100/minute")
    sluicegate.fail()
    statuses(app, 4)
    assert [event.kind for event in events] == ["down"]
    sluicegate.recover()
    sluicegate.recover()
    assert [event.kind for event in events] == ["down", "up"]


def test_an_outage_is_one_of_all_stores_also_of_those_that_are_made_in_it(sluicegate: LimitsInTest):
    before = app_of(RateLimits(store=NOBODY, on_outage="closed"))
    own = Limiter("5/minute", store=sluicegate.store, on_outage="closed")
    sluicegate.fail()
    after = app_of(RateLimits(on_outage="closed"))
    assert statuses(before, 1) == statuses(after, 1) == [503]
    assert not own.allow("alice")
    sluicegate.recover()
    at_last = app_of(RateLimits(on_outage="closed"))
    assert statuses(before, 1) == statuses(after, 1) == statuses(at_last, 1) == [200]
    assert own.allow("alice")


# Limiters outside of the web layer


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_limiters_are_given_the_store_of_the_test(sluicegate: LimitsInTest, kind: Any):
    limiter = kind("1/minute", store=sluicegate.store)
    assert [allowed(limiter), allowed(limiter)] == [True, False]
    sluicegate.advance(60)
    assert allowed(limiter)


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_limiter_that_is_made_in_a_test_with_a_url_counts_there_and_says_so_after_it(kind: Any):
    with LimitsInTest() as limits:
        limiter, other = (kind("1/minute", store=NOBODY, on_outage="raise") for _ in range(2))
        assert [allowed(limiter), allowed(other)] == [True, False]
        limits.advance(60)
        assert allowed(other)
    with pytest.raises(RuntimeError, match=r"^this limiter was made in a test .* and the test is over: make it "):
        allowed(limiter)


def test_a_limiter_without_a_url_has_a_store_of_its_own(sluicegate: LimitsInTest):
    for store in (None, "memory://", MemoryStore()):
        assert Limiter("1/minute", store=store)._store is not sluicegate.store
        assert type(Limiter("1/minute", store=store)._store) is MemoryStore


def test_a_store_that_is_opened_in_a_test_counts_by_its_clock(sluicegate: LimitsInTest):
    opened, opened_async = open_store(NOBODY), open_async_store(NOBODY)
    policy = SlidingWindow(1, window=60, name="opened")
    assert [allowed(Limiter(policy, store=opened)), allowed(AsyncLimiter(policy, store=opened_async))] == [True, False]
    sluicegate.advance(60)
    assert allowed(AsyncLimiter(policy, store=opened_async))


def test_an_app_with_the_store_of_the_test_shares_it_with_others(sluicegate: LimitsInTest):
    app = app_of(RateLimits(store=sluicegate.store), name="shared")
    assert statuses(app, 1) == [200]
    assert len(sluicegate.store) == 1


def test_a_url_that_cannot_be_read_is_refused_in_a_test_too(sluicegate: LimitsInTest):
    for make in (lambda: Limiter("1/minute", store="redis//localhost"), lambda: RateLimits(store="redis//localhost")):
        with pytest.raises(InvalidStore):
            make()


def test_without_the_extra_of_the_web_layer_other_limiters_can_be_tested():
    code = (
        "import sys; sys.modules['http_sf'] = None\n"
        "from sluicegate import Limiter\n"
        "from sluicegate.testing import LimitsInTest\n"
        "with LimitsInTest() as limits:\n"
        f"    limiter = Limiter('1/minute', store={NOBODY!r})\n"
        "    print(limiter.allow('a'), limiter.allow('a'), limits.advance(60), limiter.allow('a'), limits.enabled)\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "False", "None", "True", "True"]


def allowed(limiter: Any) -> bool:
    async def awaited() -> Any:
        return await result

    result = limiter.allow("alice")
    return asyncio.run(awaited()) if inspect.isawaitable(result) else result


# Bad input


@pytest.mark.parametrize("seconds", ["60", None, True, float("nan"), float("inf"), [60]])
def test_a_span_that_is_none_is_refused(sluicegate: LimitsInTest, seconds: Any):
    with pytest.raises(TypeError, match=r"^seconds must be a finite number or a timedelta, got "):
        sluicegate.advance(seconds)
    assert sluicegate.clock.now_us() == 0


@pytest.mark.parametrize("enabled", ["no", 0, None])
def test_off_is_false_and_nothing_else(sluicegate: LimitsInTest, enabled: Any):
    with pytest.raises(TypeError, match=r"^enabled must be True or False, got "):
        sluicegate.enabled = enabled
    assert sluicegate.enabled


def test_an_error_that_no_store_raises_is_refused(sluicegate: LimitsInTest):
    with pytest.raises(TypeError, match=r"^error must be the class StoreUnavailable or StoreTimeout, got "):
        sluicegate.fail(ValueError)  # type: ignore[arg-type]
    assert statuses(app_of(RateLimits(on_outage="closed")), 1) == [200]
