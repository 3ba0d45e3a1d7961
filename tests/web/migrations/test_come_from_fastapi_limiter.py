"""The page docs/how-to/come-from-fastapi-limiter.md: one app before and after, and the differences that it names.

There are two lines of fastapi-limiter, 0.1 on Redis and 0.2 in memory, which cannot be installed side by side.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from same_traffic import Answers, Call, Difference, Step, Talk, Wait, answers, load, routes, sentences

import servers
from sluicegate.testing import LimitsInTest
from sluicegate.web.fastapi import RateLimits

# A peer counts on the server, and the app after in memory: one kind of server is enough.
pytestmark = pytest.mark.mostly_waits

PAGE = "come-from-fastapi-limiter.md"
ANOTHER = "192.0.2.2"

OF_0_1 = Path(sys.prefix) / "fastapi-limiter-0.1"
HOW_TO_GET_0_1 = f"fastapi-limiter 0.1 is not in {OF_0_1}; make .venv/.installed-dev puts it there"

Both = Callable[[Sequence[Step]], list[Answers]]
"""Sends traffic to the app before and to that after, and returns the answers of both."""


def load_as_on_fastapi_0_136(name: str) -> Any:
    """Return an app's module, run with the routes of its router copied into the app: fastapi-limiter needs that."""

    def include_router(app: FastAPI, router: APIRouter) -> None:
        for route in router.routes:
            app.add_api_route(route.path, route.endpoint, methods=route.methods, dependencies=route.dependencies)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FastAPI, "include_router", include_router)
        return load(name)


@pytest.fixture
def of_0_1(server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make fastapi-limiter 0.1 importable, and return the name of the app on it."""
    if not OF_0_1.exists():
        pytest.skip(HOW_TO_GET_0_1)
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("REDIS_PREFIX", prefix)
    monkeypatch.syspath_prepend(OF_0_1)
    _forget_fastapi_limiter()
    yield "fastapi_limiter_0_1_before"
    _forget_fastapi_limiter()


def _forget_fastapi_limiter() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fastapi_limiter"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def of_0_2() -> str:
    """Return the name of the app on fastapi-limiter 0.2."""
    pytest.importorskip("fastapi_limiter", reason="fastapi-limiter is not installed; requirements-dev.txt has it")
    return "fastapi_limiter_before"


@pytest.fixture
def both_of_0_1(of_0_1: str, sluicegate: LimitsInTest, server: servers.Server, prefix: str) -> Both:
    def advance(seconds: float) -> None:
        """Let the counters end as much sooner: the time of a server cannot be moved."""
        for key in server.client.scan_iter(f"{prefix}*"):
            server.client.pexpire(key, max(server.client.pttl(key) - int(seconds * 1000), 0))

    return lambda traffic: [
        answers(load_as_on_fastapi_0_136(of_0_1).app, traffic, advance),
        answers(load("fastapi_limiter_after").app, traffic, sluicegate.advance),
    ]


@pytest.fixture
def both_of_0_2(of_0_2: str, sluicegate: LimitsInTest, monkeypatch: pytest.MonkeyPatch) -> Both:
    moved = [10**12]
    monkeypatch.setattr("pyrate_limiter.clocks.monotonic_ns", lambda: moved[0])

    def advance(seconds: float) -> None:
        moved[0] += int(seconds * 1e9)

    return lambda traffic: [
        answers(load_as_on_fastapi_0_136(of_0_2).app, traffic, advance),
        answers(load("fastapi_limiter_after").app, traffic, sluicegate.advance),
    ]


SAME: dict[str, Sequence[Step]] = {
    "the README's": [Call("/", 3), Wait(5.5), Call("/", 3)],
    "a route, a sync one, a response of its own": [Call("/search?q=a", 7), Call("/suggest", 7), Call("/file", 7)],
    "a path parameter": [Call("/items/1", 4)],
    "a body": [Call("/login", 6, method="POST", json={"password": "guess"})],
    "an invalid body": [Call("/login", 6, method="POST", json={"pasword": "x"})],
    "an identifier": [Call("/me", 6, user="alice"), Call("/me/orders", 5, user="alice")],
    "a callback": [Call("/reviews", 4)],
    "hours and milliseconds": [Call("/export", 3), Wait(3601), Call("/export", 3), Call("/prices", 3)],
    "methods": [Call("/notes", 5), Call("/notes", 5, method="POST")],
    "no limit": [Call("/health", 9)],
    "a dependency": [Call("/account", 6, user="alice")],
    "a router": [Call("/v1/things", 6)],
    "connections": [Talk("/room", 1)] * 4,
}
OF_0_1_ONLY: dict[str, Sequence[Step]] = {
    "each client": [Call("/search", 6), Call("/search", 6, address=ANOTHER)],
    "each user": [Call("/me", 6, user="alice"), Call("/me", 6, user="bob")],
    "an object on two routes": [Call("/orders", 7), Call("/customers", 7)],
    "a router's other route": [Call("/v1/things", 6), Call("/v1/parts", 6)],
}


# Of redis-py, for the app's way to close its client.
IGNORE_CLOSE = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


@pytest.mark.slow
@IGNORE_CLOSE
@pytest.mark.parametrize("traffic", [*SAME.values(), *OF_0_1_ONLY.values()], ids=[*SAME, *OF_0_1_ONLY])
def test_the_same_traffic_gets_the_same_statuses_as_from_0_1(both_of_0_1: Both, traffic: Sequence[Step]):
    _check_same(both_of_0_1, traffic)


@pytest.mark.slow
@pytest.mark.parametrize("traffic", SAME.values(), ids=SAME)
def test_the_same_traffic_gets_the_same_statuses_as_from_0_2(both_of_0_2: Both, traffic: Sequence[Step]):
    _check_same(both_of_0_2, traffic)


def _check_same(both: Both, traffic: Sequence[Step]) -> None:
    before, after = both(traffic)
    assert after == before
    assert (429 in before) is (traffic is not SAME["no limit"])


HELLO = ["Hello, world"] * 3

FROM_BOTH = {
    "all or nothing": Difference(
        "There, a limiter that allows is charged, even if the next one denies the request; here a denied request takes "
        "nothing.",
        [Call("/multiple"), Wait(6), Call("/multiple"), Wait(6), Call("/multiple"), Wait(3.5), Call("/multiple")],
        before=[200, 200, 429, 429],
        after=[200, 200, 429, 200],
    ),
    "malformed bodies": Difference(
        "There, a request whose body is not JSON is not counted; here it is, by every limit whose key needs no "
        "dependency.",
        [Call("/login", 6, method="POST", content="{", headers={"Content-Type": "application/json"})],
        before=[422] * 6,
        after=[422] * 5 + [429],
    ),
    "refused by a dependency": Difference(
        "There, a dependency that stands before the limiter and refuses the request keeps it from being counted; here "
        "limits by address count it.",
        [Call("/account", 6)],
        before=[401] * 6,
        after=[401] * 5 + [429],
    ),
    "messages": Difference(
        "There, your `except` decides what happens to a message over the limit; here the connection is closed with "
        "code 1013.",
        [Talk("/talk", 5)],
        before=[*HELLO, "Hello again", "Hello again"],
        after=[*HELLO, 1013],
    ),
}

FROM_0_1 = {
    "path parameters": Difference(
        "Version 0.1 counts by path: `/items/1` and `/items/2` are two counters there, and one here.",
        [Call("/items/1", 3), Call("/items/2", 3)],
        before=[200] * 6,
        after=[200] * 3 + [429] * 3,
    ),
    "two limits and a path parameter": Difference(
        "On a route with path parameters, two limiters of version 0.1 share a counter, so each request counts twice; "
        "here each has its own.",
        [Call("/shelves/1", 4)],
        before=[200, 200, 429, 429],
        after=[200] * 4,
    ),
    "forwarded": Difference(
        "Version 0.1 believes any `X-Forwarded-For`, so a client has a new limit for each value that it makes up; here "
        "it has one.",
        [Call("/search", 5), Call("/search", headers={"X-Forwarded-For": "198.51.100.7"})],
        before=[200] * 6,
        after=[200] * 5 + [429],
    ),
    "window": Difference(
        "Version 0.1 counts in fixed windows, which let up to twice the limit through around the end of one; here no "
        "60 seconds ever have more than the limit.",
        [Call("/search"), Wait(59), Call("/search", 4), Wait(2), Call("/search", 5)],
        before=[200] * 10,
        after=[200] * 6 + [429] * 4,
    ),
    "context_key": Difference(
        "As a dependency, a `WebSocketRateLimiter` of version 0.1 reads its `context_key` from the query, so a client "
        "has a new limit for each value; here it has one.",
        [*[Talk("/room", 1)] * 3, Talk("/room?context_key=x", 1)],
        before=["Hello, room"] * 4,
        after=["Hello, room"] * 3 + [429],
    ),
}

FROM_0_2 = {
    "clients": Difference(
        "A limiter of version 0.2, in the form of its README, counts all clients together; here each has a limit of "
        "its own.",
        [Call("/search", 5), Call("/search", address=ANOTHER)],
        before=[200] * 5 + [429],
        after=[200] * 6,
    ),
    "users": Difference(
        "An `identifier` does not change that; here `per=` does.",
        [Call("/me", 5, user="alice"), Call("/me", user="bob")],
        before=[200] * 5 + [429],
        after=[200] * 6,
    ),
    "an object on two routes": Difference(
        "A `Limiter` of version 0.2 on two routes is one counter; here a limit on two routes is two counters, and "
        "`limits.shared` is one.",
        [Call("/orders", 6), Call("/customers")],
        before=[200] * 6 + [429],
        after=[200] * 7,
    ),
    "a router": Difference(
        "On a router, version 0.2 counts all routes together, as a limit here does without `each=True`.",
        [Call("/v1/things", 5), Call("/v1/parts")],
        before=[200] * 5 + [429],
        after=[200] * 6,
    ),
    "new connections": Difference(
        "A limiter that is made in the endpoint is new for each connection in version 0.2; here `key=` counts all "
        "connections of a client.",
        [Talk("/talk", 3), Talk("/talk", 1)],
        before=[*HELLO, "Hello, world"],
        after=[*HELLO, 1013],
    ),
}


@pytest.mark.slow
@IGNORE_CLOSE
@pytest.mark.parametrize("difference", [*FROM_BOTH.values(), *FROM_0_1.values()], ids=[*FROM_BOTH, *FROM_0_1])
def test_each_difference_from_0_1_that_the_page_names_is_seen(both_of_0_1: Both, difference: Difference):
    difference.check(PAGE, *both_of_0_1(difference.traffic))


@pytest.mark.slow
@pytest.mark.parametrize("difference", [*FROM_BOTH.values(), *FROM_0_2.values()], ids=[*FROM_BOTH, *FROM_0_2])
def test_each_difference_from_0_2_that_the_page_names_is_seen(both_of_0_2: Both, difference: Difference):
    difference.check(PAGE, *both_of_0_2(difference.traffic))


ROUTERS = Difference(
    "From FastAPI 0.137 on, both versions answer every limited route of an app that includes a router with a 500.",
    [Call("/search")],
    before=[500],
    after=[200],
)


@pytest.mark.slow
@IGNORE_CLOSE
def test_0_1_fails_in_an_app_with_a_router(of_0_1: str, sluicegate: LimitsInTest):
    _check_routers(of_0_1)


@pytest.mark.slow
def test_0_2_fails_in_an_app_with_a_router(of_0_2: str, sluicegate: LimitsInTest):
    _check_routers(of_0_2)


def _check_routers(of_before: str) -> None:
    before, after = load(of_before), load("fastapi_limiter_after")
    ROUTERS.check(PAGE, *(answers(module.app, ROUTERS.traffic, _no_clock) for module in (before, after)))


def _no_clock(seconds: float) -> None:
    raise AssertionError("this traffic has no waits")


@pytest.mark.slow
def test_the_app_on_0_1_has_the_same_routes(of_0_1: str):
    _check_routes(of_0_1)


@pytest.mark.slow
def test_the_app_on_0_2_has_the_same_routes(of_0_2: str):
    _check_routes(of_0_2)


def _check_routes(of_before: str) -> None:
    """Check that an app has the routes of that after, and that the page says how many."""
    served = routes(load(of_before).app)
    assert served == routes(load("fastapi_limiter_after").app)
    assert f"An app of {len(served)} routes" in sentences(PAGE)


@pytest.mark.slow
@IGNORE_CLOSE
def test_0_1_answers_as_the_page_says(of_0_1: str):
    with TestClient(load_as_on_fastapi_0_136(of_0_1).app) as client:
        denied = [client.get("/search") for _ in range(6)][-1]
    assert f"`{denied.text.replace(':', ': ')}`" in sentences(PAGE)
    assert 1 <= int(denied.headers["Retry-After"]) <= 60


@pytest.mark.slow
def test_0_2_answers_as_the_page_says(of_0_2: str):
    with TestClient(load_as_on_fastapi_0_136(of_0_2).app) as client:
        denied = [client.get("/search") for _ in range(6)][-1]
    assert f"`{denied.text.replace(':', ': ')}`" in sentences(PAGE)
    assert "Retry-After" not in denied.headers


@pytest.mark.slow
@IGNORE_CLOSE
def test_0_1_without_redis_does_not_start_and_later_answers_with_a_500(of_0_1: str, monkeypatch: pytest.MonkeyPatch):
    import redis

    kinds = list(servers.binaries())
    if not kinds:
        pytest.skip(servers.HOW_TO_GET_ONE)
    with servers.running(kinds[0]) as own:
        monkeypatch.setenv("REDIS_URL", own.url)
        with TestClient(load_as_on_fastapi_0_136(of_0_1).app, raise_server_exceptions=False) as client:
            assert client.get("/search").status_code == 200
            own.stop()
            assert client.get("/search").status_code == 500
    with pytest.raises(redis.ConnectionError), TestClient(load_as_on_fastapi_0_136(of_0_1).app):
        pass


@pytest.mark.slow
def test_blocking_of_0_2_is_a_wait(of_0_2: str):
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Limiter, Rate

    limits = RateLimits()
    before = Depends(RateLimiter(limiter=Limiter(Rate(2, 300)), blocking=True))
    after = Depends(limits.limit("2/300ms", wait=30))
    for limit in (before, after):
        app = FastAPI(dependencies=[limit])

        @app.get("/")
        async def index() -> None: ...

        assert answers(app, [Call("/", 4)], _no_clock) == [200] * 4
