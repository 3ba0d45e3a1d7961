"""The page docs/how-to/come-from-slowapi.md: an app before and after gets the same statuses, but for what it names."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from same_traffic import Answers, Call, Difference, Step, Wait, answers, load, routes, sentences

from sluicegate import InvalidPolicy, InvalidRate
from sluicegate.testing import LimitsInTest
from sluicegate.web.fastapi import RateLimits

slowapi = pytest.importorskip("slowapi", reason="slowapi is not installed; requirements-dev.txt has it")

PAGE = "come-from-slowapi.md"
ANOTHER = "192.0.2.2"
DOWN = "redis://127.0.0.1:1/0"
"""A server that refuses connections."""


@pytest.fixture(scope="module")
def modules() -> tuple[Any, Any]:
    return load("slowapi_before"), load("slowapi_after")


@pytest.fixture
def advance(sluicegate: LimitsInTest, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clocks of both: slowapi counts by `time.time`."""
    began, moved = time.time(), [0.0]
    monkeypatch.setattr(time, "time", lambda: began + moved[0])

    def by(seconds: float) -> None:
        moved[0] += seconds
        sluicegate.advance(seconds)

    return by


@pytest.fixture
def both(modules: tuple[Any, Any], advance: Callable[[float], None]) -> Callable[[Sequence[Step]], list[Answers]]:
    """Send traffic to the app before and to that after, and return the answers of both."""
    before, after = modules
    before.limiter.reset()
    return lambda traffic: [answers(module.app, traffic, advance) for module in (before, after)]


def login(password: str, times: int) -> Call:
    return Call("/login", times, method="POST", json={"password": password})


SAME: dict[str, Sequence[Step]] = {
    "a route, a sync one, a response of its own": [Call("/search?q=a", 7), Call("/suggest", 7), Call("/file", 7)],
    "each client": [Call("/search", 6), Call("/search", 6, address=ANOTHER)],
    "after the window": [Call("/search", 6), Wait(61), Call("/search", 6)],
    "the default, for each route": [Call("/books", 31), Call("/books/1", 31)],
    "a limit in place of the default": [Call("/prices", 101)],
    "exempt": [Call("/health", 31)],
    "two limits in one string": [Call("/news", 4), Wait(2), Call("/news", 4)],
    "two decorators": [Call("/feed", 7), Wait(61), Call("/feed", 1)],
    "failed log-ins": [login("guess", 6), login("correct horse", 1)],
    "each user": [Call(path, 6, user=user) for user in ("alice", "bob", None) for path in ("/me", "/me/orders")],
    "two limits by two keys": [Call("/transfers", 2, user=user) for user in ("alice", "bob", "carol", "dave")],
    "shared": [Call("/orders", 4), Call("/customers", 4), Call("/orders", 7, address=ANOTHER)],
    "cost": [Call("/scan?pages=15"), Call("/scan?pages=5"), Call("/scan?pages=1"), Call("/export", 3)],
    "by a function": [Call("/reviews", 9, user="alice"), Call("/reviews", 4, user="bob")],
    "exempt_when": [Call("/stock", 9, user="partner"), Call("/stock", 4, user="bob")],
    "a dependency": [Call("/account", 6, user="alice")],
    "a router": [Call("/v1/things", 6)],
}


@pytest.mark.slow
@pytest.mark.parametrize("traffic", SAME.values(), ids=SAME)
def test_the_same_traffic_gets_the_same_statuses(both: Any, traffic: Sequence[Step]):
    before, after = both(traffic)
    assert after == before
    assert (429 in before) is (traffic is not SAME["exempt"])


DIFFERENCES = {
    "window": Difference(
        "Its default strategy, the fixed window, lets up to twice the limit through around the end of a window; here "
        "no 60 seconds ever have more than the limit.",
        [Call("/search"), Wait(59), Call("/search", 4), Wait(2), Call("/search", 5)],
        before=[200] * 10,
        after=[200] * 6 + [429] * 4,
    ),
    "path parameters": Difference(
        "`/reports/1` and `/reports/2` are two counters there, and one here.",
        [Call("/reports/1", 3, user="alice"), Call("/reports/2", 3, user="alice")],
        before=[200] * 6,
        after=[200] * 3 + [429] * 3,
    ),
    "path parameters under the default": Difference(
        "The same holds for the default.",
        [Call("/books/1", 30), Call("/books/2")],
        before=[200] * 31,
        after=[200] * 30 + [429],
    ),
    "methods": Difference(
        "Methods of one path share a counter there if their limits are alike, and have one each here.",
        [Call("/notes", 4), Call("/notes", method="POST")],
        before=[200] * 4 + [429],
        after=[200] * 5,
    ),
    "all or nothing": Difference(
        "There, the limits that are checked before the one that denies are charged; here a denied request takes "
        "nothing.",
        [Call("/transfers", 6, user="alice"), Call("/transfers", user="bob")],
        before=[200] * 3 + [429] * 4,
        after=[200] * 3 + [429] * 3 + [200],
    ),
    "denied costs": Difference(
        "In a fixed window, a denied request that costs more than is left uses up what is left.",
        [Call("/scan?pages=15"), Call("/scan?pages=6"), Call("/scan?pages=5")],
        before=[200, 429, 429],
        after=[200, 429, 200],
    ),
    "defaults": Difference(
        "A default of slowapi gives way to a limit of the route.",
        [Call("/maps", 31)],
        before=[200] * 31,
        after=[200] * 30 + [429],
    ),
    "defaults of routers": Difference(
        "From FastAPI 0.137 on, slowapi's middleware does not find the routes of an included router, so its defaults "
        "do not hold there; here they do.",
        [Call("/v1/parts", 31)],
        before=[200] * 31,
        after=[200] * 30 + [429],
    ),
    "invalid bodies": Difference(
        "There, a request with an invalid body is not counted; here it is, by every limit whose key needs no "
        "dependency.",
        [Call("/login", 6, method="POST", json={"pasword": "x"})],
        before=[422] * 6,
        after=[422] * 5 + [429],
    ),
    "refused by a dependency": Difference(
        "The same holds for a request that a dependency refuses: a failed log-in on the way to the endpoint is now "
        "counted by address.",
        [Call("/account", 6)],
        before=[401] * 6,
        after=[401] * 5 + [429],
    ),
}


def _cases(differences: dict[str, Difference]) -> list[Any]:
    """Return them as parameters; those of many requests are slow."""
    return [
        pytest.param(difference, id=name, marks=[pytest.mark.slow] if len(difference.before) > 20 else [])
        for name, difference in differences.items()
    ]


@pytest.mark.parametrize("difference", _cases(DIFFERENCES))
def test_each_difference_that_the_page_names_is_seen(both: Any, difference: Difference):
    difference.check(PAGE, *both(difference.traffic))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_traffic_gets_the_same_statuses_as_in_moving_windows(
    advance: Any, monkeypatch: pytest.MonkeyPatch, seed: int
):
    monkeypatch.setenv("RATELIMIT_STRATEGY", "moving-window")
    chance = random.Random(seed)
    # One limit each: of several, slowapi charges those before the one that denies.
    limited = ["/search", "/suggest", "/me", "/me/orders", "/orders", "/customers", "/reviews", "/stock", "/v1/things"]
    traffic: list[Step] = []
    for _ in range(60):
        user, address = chance.choice(["alice", "bob", "partner", None]), chance.choice(["192.0.2.1", ANOTHER])
        traffic.append(Call(chance.choice(limited), chance.randint(1, 4), user=user, address=address))
        traffic.append(Wait(chance.choice([0.25, 1.25, 7.5, 31.25])))
    before, after = (answers(load(name).app, traffic, advance) for name in ("slowapi_before", "slowapi_after"))
    assert after == before
    assert {200, 429} == set(before)


def test_the_apps_have_the_same_routes(modules: tuple[Any, Any]):
    before, after = (routes(module.app) for module in modules)
    assert before == after
    assert f"Two apps of {len(before)} routes" in sentences(PAGE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "answered"),
    [
        pytest.param(None, [500] * 8, id="no option"),
        pytest.param("RATELIMIT_SWALLOW_ERRORS", [500] * 8, id="swallow_errors"),
        pytest.param("RATELIMIT_IN_MEMORY_FALLBACK_ENABLED", [200] * 6 + [429] * 2, id="in_memory_fallback_enabled"),
    ],
)
def test_with_redis_down_slowapi_answers_as_the_page_says(
    monkeypatch: pytest.MonkeyPatch, advance: Any, option: str | None, answered: Answers
):
    monkeypatch.setenv("RATELIMIT_STORAGE_URL", DOWN)
    if option:
        monkeypatch.setenv(option, "true")
    before = load("slowapi_before")
    assert answers(before.app, [Call("/books"), Call("/search", 7)], advance) == answered


@pytest.mark.usefixtures("both")
def test_the_fields_and_the_body_are_as_the_page_says(modules: tuple[Any, Any]):
    before, after = map(_searches, modules)
    for then, now in zip(before, after, strict=True):
        for field in ("X-RateLimit-Limit", "X-RateLimit-Remaining"):
            assert then.headers[field] == now.headers[field]
        assert float(then.headers["X-RateLimit-Reset"]) > 1e9 > int(now.headers["X-RateLimit-Reset"])
        assert "Retry-After" in then.headers
        assert ("Retry-After" in now.headers) is (now.status_code == 429)
    body = before[-1].text.replace(":", ": ", 1)
    assert f"`{body}`" in sentences(PAGE)
    assert set(after[-1].json()) == {"type", "title", "status", "detail", "violated-policies"}


def _searches(module: Any) -> list[Any]:
    with TestClient(module.app) as client:
        return [client.get("/search") for _ in range(6)]


async def _endpoint(request: Request) -> None: ...


@pytest.mark.parametrize("mistake", ["a typo", "above the route", "an empty key"])
def test_what_slowapi_leaves_without_a_limit(mistake: str):
    limiter = slowapi.Limiter(key_func=lambda: "" if mistake == "an empty key" else "someone")
    app = FastAPI()
    limit = limiter.limit("1/mintue" if mistake == "a typo" else "1/minute")
    if mistake == "above the route":
        limit(app.get("/")(_endpoint))
    else:
        app.get("/")(limit(_endpoint))
    assert answers(app, [Call("/", 3)], lambda _: None) == [200] * 3


@pytest.mark.parametrize("mistake", ["a typo", "above the route", "an empty key"])
def test_what_sluicegate_says_to_that(mistake: str):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    if mistake == "a typo":
        with pytest.raises(InvalidRate):
            limits.limit("1/mintue")
    elif mistake == "above the route":
        kept = limits.limit("1/minute")(app.get("/")(_endpoint))
        with pytest.raises(InvalidPolicy, match="stands above the line of its route"), TestClient(app):
            pass
        assert kept is not None
    else:
        app.get("/", dependencies=[Depends(limits.limit("1/minute", per=lambda: ""))])(_endpoint)
        assert answers(app, [Call("/")], lambda _: None) == [400]


def test_limits_of_the_application_leave_out_routes_with_a_decorator():
    limiter = slowapi.Limiter(key_func=lambda: "someone", application_limits=["2/minute"])
    app = FastAPI()
    app.state.limiter = limiter
    from slowapi.middleware import SlowAPIMiddleware

    app.add_middleware(SlowAPIMiddleware)
    app.get("/decorated")(limiter.limit("9/minute")(_endpoint))

    @app.get("/plain")
    async def plain() -> None: ...

    assert answers(app, [Call("/decorated", 4), Call("/plain", 3)], lambda _: None) == [200] * 6 + [429]
