"""The service over HTTP, on each backend in turn: what is allowed, what is denied, and what a client is told.

`serve(requests, window_seconds)` gives a client of a service with that limit; more settings go by their names. Add your
own below.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import http_sf
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import servers
from app.config import ENDPOINTS, Settings
from app.main import create_app
from machine import awake
from sluicegate import InvalidPolicy
from sluicegate._core.policy import seconds

Serve = Callable[..., TestClient]

_apart = itertools.count(uuid.uuid4().int)

AWAY = "redis://:hunter2@127.0.0.1:1/0"  # nobody listens there


def app_on(backend: str, requests: int = 10, window_seconds: float = 60, **others: Any) -> FastAPI:
    """Make the service in memory, or on the server with this URL.

    It is patient, as the machine may be busy: an answer that is late would be the one for an outage.
    """
    others = {"deadline_seconds": 30, **others}
    return create_app(
        Settings(
            rate_limit_backend="memory" if backend == "memory" else "redis",
            redis_url=backend if backend != "memory" else "",
            rate_limit_requests=requests,
            rate_limit_window_seconds=window_seconds,
            **{f"rate_limit_{name}": value for name, value in others.items()},
        )
    )


@pytest.fixture(params=["memory", *(servers.kinds() or ["none"])])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    return "memory" if request.param == "memory" else servers.shared(request.param).url


@pytest.fixture
def serve(backend: str) -> Iterator[Serve]:
    with ExitStack() as opened:
        yield lambda *limit, **others: opened.enter_context(TestClient(app_on(backend, *limit, **others)))


@pytest.fixture
def everyone() -> str:
    """The window of a limit of all users that no other test has, and of an hour or more: the servers are shared."""
    return f"{seconds(3_600_000_000 + next(_apart) % 3_600_000_000)}s"


@pytest.fixture
def away() -> Iterator[TestClient]:
    with TestClient(app_on(AWAY, on_outage="raise")) as client:
        yield client


@pytest.fixture
def user() -> str:
    """A user that no other test has: the servers are shared."""
    return f"user-{uuid.uuid4().hex}"


def ping(client: TestClient, user: str) -> httpx2.Response:
    return client.get("/ping", params={"user_id": user})


def items(response: httpx2.Response, name: str) -> dict[str, dict]:
    return dict(http_sf.parse(response.headers[name].encode(), tltype="list"))


def item(response: httpx2.Response, name: str) -> tuple[str, dict]:
    (only,) = items(response, name).items()
    return only


def remaining(response: httpx2.Response) -> list[int]:
    """Return what remains of the user's limit, that of all users and the endpoint's, of those there are.

    RateLimit begins with the policy that decides, RateLimit-Policy has them all in their own order.
    """
    left = items(response, "RateLimit")
    return [left[name]["r"] for name in items(response, "RateLimit-Policy")]


def counted(client: TestClient, policy: str) -> dict[str, float]:
    """Return what /metrics says of one policy, by outcome."""
    series = re.compile(
        rf'^sluicegate_decisions_total{{outcome="(.*)",policy="{re.escape(policy)}"}} (.*)$', re.MULTILINE
    )
    return {outcome: float(times) for outcome, times in series.findall(client.get("/metrics").text)}


# Allowed and denied


def test_an_allowed_ping_is_a_200_that_says_what_remains(serve: Serve, user: str):
    response = ping(serve(10, 60), user)
    assert response.status_code == 200
    assert response.json() == {"message": "pong", "remaining": 9}
    assert item(response, "RateLimit-Policy") == ("sliding-window-60s", {"q": 10, "w": 60})
    assert item(response, "RateLimit") == ("sliding-window-60s", {"r": 9})
    assert "Retry-After" not in response.headers


def test_a_burst_gets_its_limit_and_then_429(serve: Serve, user: str):
    client = serve(5, 60)
    assert [ping(client, user).status_code for _ in range(7)] == [200] * 5 + [429] * 2


def test_a_denied_ping_says_when_to_come_back_in_fields_and_body(serve: Serve, user: str):
    client = serve(1, 60)
    ping(client, user)
    response = ping(client, user)
    assert response.status_code == 429
    wait = int(response.headers["Retry-After"])
    assert 1 <= wait <= 60
    assert item(response, "RateLimit") == ("sliding-window-60s", {"r": 0, "t": wait})
    assert item(response, "RateLimit-Policy") == ("sliding-window-60s", {"q": 1, "w": 60})
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    body = response.json()
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert body["status"] == 429
    assert body["violated-policies"] == ["sliding-window-60s"]
    assert f"{wait} s" in body["detail"]


@pytest.mark.slow
def test_who_waits_for_retry_after_is_allowed(serve: Serve, user: str):
    client = serve(1, 0.9)
    ping(client, user)
    denied = ping(client, user)
    assert denied.status_code == 429
    time.sleep(int(denied.headers["Retry-After"]))
    assert ping(client, user).status_code == 200


def test_each_user_has_a_limit_of_their_own(serve: Serve, user: str):
    client = serve(1, 60)
    assert ping(client, user).status_code == 200
    assert ping(client, f"{user}-other").status_code == 200
    assert ping(client, user).status_code == 429


def test_parallel_pings_use_the_whole_limit_and_no_more(backend: str, user: str):
    async def burst() -> Counter[int]:
        app = app_on(backend, 20)
        transport = httpx2.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as c:
            answers = await asyncio.gather(*(c.get("/ping", params={"user_id": user}) for _ in range(60)))
        return Counter(answer.status_code for answer in answers)

    assert asyncio.run(burst()) == {200: 20, 429: 40}


def test_two_instances_on_one_server_share_one_limit(server: servers.Server, user: str):
    with TestClient(app_on(server.url, 4)) as one, TestClient(app_on(server.url, 4)) as other:
        codes = [ping(client, user).status_code for client in (one, other) * 3]
    assert codes == [200] * 4 + [429] * 2


def test_a_service_that_stops_gives_its_connections_back(server: servers.Server, user: str):
    def connections() -> int:
        return sum(client["name"] == user for client in server.client.client_list())

    with TestClient(app_on(f"{server.url}?client_name={user}")) as client:
        ping(client, user)
        assert connections() == 1
    end = time.monotonic() + 60
    while connections() and time.monotonic() < end:
        time.sleep(0.01)  # the server learns of it a moment later
    assert connections() == 0


# Several limits at once


def test_each_of_the_three_kinds_of_limit_is_in_the_fields_of_a_200(serve: Serve, user: str):
    client = serve(10, 60, **{"global": "1000/999s;5000/h"}, endpoints='{"/ping": "5/s;100/hour"}')
    response = ping(client, user)
    assert response.status_code == 200
    assert items(response, "RateLimit-Policy") == {
        "sliding-window-60s": {"q": 10, "w": 60},
        "global-999s": {"q": 1000, "w": 999},
        "global-3600s": {"q": 5000, "w": 3600},
        "endpoint-ping-1s": {"q": 5, "w": 1},
        "endpoint-ping-3600s": {"q": 100, "w": 3600},
    }
    left = items(response, "RateLimit")
    assert (left["sliding-window-60s"], left["endpoint-ping-1s"]) == ({"r": 9}, {"r": 4})
    assert response.json()["remaining"] == 4  # of the one that is the nearest to its end


@pytest.mark.parametrize(
    ("limits", "policy", "left"),
    [
        ((3, 9, 9), "sliding-window-60s", [0, 6, 6]),
        ((9, 3, 9), "global-{everyone}", [6, 0, 6]),
        ((9, 9, 3), "endpoint-ping-3600s", [6, 6, 0]),
    ],
    ids=["user", "global", "endpoint"],
)
def test_the_limit_that_denies_is_named_and_none_of_the_others_is_charged(
    serve: Serve, everyone: str, limits: tuple[int, int, int], policy: str, left: list[int]
):
    of_user, of_all, of_endpoint = limits
    policy = policy.format(everyone=everyone)
    client = serve(of_user, **{"global": f"{of_all}/{everyone}"}, endpoints=f'{{"/ping": "{of_endpoint}/h"}}')
    alice = f"alice-{uuid.uuid4().hex}"
    answers = [ping(client, alice) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 4
    assert [remaining(answer) for answer in answers[2:]] == [left] * 5
    last = answers[-1]
    assert last.json()["violated-policies"] == [policy]
    assert f"Denied by policy {policy}, whose limit is 3." in last.json()["detail"]
    assert [name for name, params in items(last, "RateLimit").items() if "t" in params] == [policy]
    for name in items(last, "RateLimit"):
        assert counted(client, name) == {"allowed": 3, "denied": 4 if name == policy else 0, "error": 0}


def test_once_all_users_have_room_again_a_user_has_paid_for_what_was_allowed_alone(serve: Serve, user: str):
    client = serve(1000, **{"global": "1/50ms"})
    allowed = denied = 0
    while allowed < 2 or not denied:
        answer = ping(client, user)
        allowed, denied = allowed + (answer.status_code == 200), denied + (answer.status_code == 429)
        assert remaining(answer)[0] == 1000 - allowed


def test_all_users_together_are_held_to_the_global_limit(serve: Serve, user: str, everyone: str):
    client = serve(10, **{"global": f"4/{everyone}"})
    assert [ping(client, f"{user}-{n}").status_code for n in range(6)] == [200] * 4 + [429] * 2
    assert remaining(ping(client, f"{user}-5")) == [10, 0]


def test_without_other_limits_there_is_the_users_alone(serve: Serve, user: str):
    assert items(ping(serve(), user), "RateLimit").keys() == {"sliding-window-60s"}


def test_a_denial_by_two_limits_names_both_and_the_longer_wait(serve: Serve, user: str):
    client = serve(1, 60, endpoints='{"/ping": "1/h"}')
    ping(client, user)
    denied = ping(client, user)
    assert denied.json()["violated-policies"] == ["sliding-window-60s", "endpoint-ping-3600s"]
    assert "policy endpoint-ping-3600s, whose" in denied.json()["detail"]
    assert 3590 <= int(denied.headers["Retry-After"]) <= 3600


@pytest.fixture
def pong(monkeypatch: pytest.MonkeyPatch, backend: str, everyone: str) -> Iterator[TestClient]:
    """A service with another limited endpoint, as one adds it."""
    monkeypatch.setitem(ENDPOINTS, "/pong", "pong")
    endpoints = '{"/ping": "2/h", "/pong": "3/h"}'
    app = app_on(backend, 4, **{"global": f"9/{everyone}"}, endpoints=endpoints)

    @app.get("/pong", dependencies=app.state.limited("/pong"))
    async def pong() -> str:
        return "ping"

    with TestClient(app) as client:
        yield client


def test_each_endpoint_has_its_own_limit_and_all_share_those_of_the_user_and_of_all_users(pong: TestClient, user: str):
    def ask(path: str) -> httpx2.Response:
        return pong.get(path, params={"user_id": user})

    assert [ask("/ping").status_code for _ in range(3)] == [200, 200, 429]
    first = ask("/pong")
    assert list(items(first, "RateLimit-Policy"))[2:] == ["endpoint-pong-3600s"]
    assert remaining(first) == [1, 6, 2]
    assert next(iter(items(first, "RateLimit"))) == "sliding-window-60s"  # the nearest to its end
    assert ask("/pong").status_code == 200
    assert ask("/pong").json()["violated-policies"] == ["sliding-window-60s"]
    assert remaining(ask("/pong")) == [0, 5, 1]
    assert counted(pong, "sliding-window-60s") == {"allowed": 4, "denied": 2, "error": 0}
    assert counted(pong, "endpoint-ping-3600s") == {"allowed": 2, "denied": 1, "error": 0}
    assert counted(pong, "endpoint-pong-3600s") == {"allowed": 2, "denied": 0, "error": 0}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_each_endpoint_that_is_called_limited_is(path: str, user: str):
    with TestClient(app_on("memory", endpoints=f'{{"{path}": "1/h"}}')) as client:
        assert [client.get(path, params={"user_id": user}).status_code for _ in range(2)] == [200, 429]


def test_an_endpoint_that_nobody_named_a_limited_one_cannot_be_limited():
    app = app_on("memory")
    with pytest.raises(LookupError, match="got /pong; add it"):
        app.state.limited("/pong")


def test_an_endpoint_that_was_left_without_a_limit_keeps_the_service_from_starting():
    app = app_on("memory")
    app.add_api_route("/pong", lambda: "ping")
    with pytest.raises(InvalidPolicy, match=r"no limit is in force on GET /pong"), TestClient(app):
        pass


def test_each_limited_endpoint_has_a_name_of_its_own_which_a_policy_can_have():
    assert len(set(ENDPOINTS.values())) == len(ENDPOINTS)
    for path in ENDPOINTS:  # in the longest form that the name of a window has
        Settings(rate_limit_endpoints={path: "1/315360000000.001ms"}).policies(path)


def test_no_name_of_an_endpoint_meets_that_of_another_policy(monkeypatch: pytest.MonkeyPatch):
    for path, name in (("/global", "global"), ("/sliding-window", "sliding-window")):
        monkeypatch.setitem(ENDPOINTS, path, name)
        settings = Settings(rate_limit_global="1/m", rate_limit_endpoints={path: "1/m"})
        assert len({policy.name for policy in settings.policies(path)}) == 3


def test_switched_off_it_allows_all_counts_nothing_and_tells_of_no_limit(serve: Serve, user: str, everyone: str):
    limits = {"global": f"2/{everyone}", "endpoints": '{"/ping": "1/h"}'}
    off = serve(1, enabled=False, **limits)
    answers = [ping(off, user) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    for answer in answers:
        assert not {"ratelimit", "ratelimit-policy", "retry-after"} & answer.headers.keys()
    assert counted(off, "sliding-window-60s") == {"allowed": 0, "denied": 0, "error": 0}
    assert [ping(serve(1, **limits), user).status_code] == [200]


def test_switched_off_it_needs_no_store(user: str):
    with TestClient(app_on(AWAY, enabled=False)) as off:
        assert (ping(off, user).status_code, off.get("/readyz").status_code) == (200, 200)


def test_two_instances_on_one_server_share_all_three_kinds_of_limit(server: servers.Server, user: str, everyone: str):
    limits = {"global": f"9/{everyone}", "endpoints": '{"/ping": "8/h"}'}
    with TestClient(app_on(server.url, 7, **limits)) as one, TestClient(app_on(server.url, 7, **limits)) as other:
        assert [remaining(ping(client, user)) for client in (one, other, one)] == [[6, 8, 7], [5, 7, 6], [4, 6, 5]]


# User ids


@pytest.mark.parametrize(
    "query",
    [
        "",
        "user_id",
        "user_id=",
        f"user_id={'x' * 257}",
        "user_id=a&user_id=b",
        "user_id=a&user_id=",
        "user_id=%ff",
        "user_id=%ED%A0%80",
        "USER_ID=a",
    ],
)
def test_a_user_id_that_cannot_be_one_is_a_422_that_says_what_is_expected(serve: Serve, query: str):
    response = serve().get(f"/ping?{query}")
    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["type"], body["status"]) == ("about:blank", 422)
    assert "Expected user_id once, as 1 to 256 characters of UTF-8" in body["detail"]


@pytest.mark.parametrize("query", ["", "user_id=", "user_id=a&user_id=b", "user_id=%ff"])
def test_a_user_id_that_cannot_be_one_is_charged_to_nobody(serve: Serve, user: str, everyone: str, query: str):
    client = serve(9, **{"global": f"1/{everyone}"})
    refused = [client.get(f"/ping?{query}") for _ in range(3)]
    assert [response.status_code for response in refused] == [422] * 3
    assert "RateLimit" not in refused[0].headers
    assert ping(client, user).status_code == 200


@pytest.mark.parametrize("tail", ["", " ", "\0", "{}", "}:a", "é", "\U0001f600", "%", "+", "&", "\n", "x" * 200])
def test_any_other_text_is_a_user_of_its_own(serve: Serve, user: str, tail: str):
    client = serve(1, 60)
    assert ping(client, f"{user}.{tail}").status_code == 200
    assert ping(client, f"{user}.{tail}").status_code == 429


def test_a_user_id_of_256_characters_is_not_too_long(serve: Serve, user: str):
    assert ping(serve(), user + "é" * (256 - len(user))).status_code == 200


# While the store is away


def test_without_its_store_a_ping_is_a_503_within_a_second(away: TestClient, user: str):
    began_at = awake()
    response = ping(away, user)
    assert awake() - began_at < 1
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json()["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


def test_an_outage_tells_nobody_where_the_store_is(away: TestClient, user: str, caplog: pytest.LogCaptureFixture):
    told = [away.get(path).text for path in (f"/ping?user_id={user}", "/readyz", "/metrics", "/openapi.json")]
    for secret in ("hunter2", "127.0.0.1", "redis://", "Connect"):
        assert secret not in "".join(told)
    assert "hunter2" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_an_outage_is_logged_once_and_not_for_each_request(
    away: TestClient, user: str, caplog: pytest.LogCaptureFixture
):
    for _ in range(5):
        ping(away, user)
    (told,) = [record.getMessage() for record in caplog.records if record.name == "sluicegate"]
    assert told == "the store is down, unreachable: the store is unreachable; nothing was taken"


@pytest.mark.parametrize(("mode", "statuses"), [("local", [200, 200, 429]), ("open", [200] * 3), ("closed", [503] * 3)])
def test_without_its_store_it_answers_as_it_is_set(user: str, mode: str, statuses: list[int]):
    with TestClient(app_on(AWAY, 2, on_outage=mode)) as client:
        assert [ping(client, user).status_code for _ in range(3)] == statuses
        assert counted(client, "sliding-window-60s")["error"] == (3 if mode == "closed" else 0)
        made = f'sluicegate_fallback_decisions_total{{mode="{mode}"}} 3.0'
        assert (made in client.get("/metrics").text) == (mode != "closed")


def test_by_default_it_decides_by_itself_while_its_store_is_down(user: str):
    with TestClient(app_on(AWAY, 1)) as client:
        assert [ping(client, user).status_code for _ in range(2)] == [200, 429]


# For those who run it


def test_it_is_alive_and_ready_and_so_it_is_without_any_ping(serve: Serve):
    client = serve()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("mode", ["closed", "raise"])
def test_without_its_store_it_is_alive_and_not_ready_if_it_decides_nothing_by_itself(mode: str):
    with TestClient(app_on(AWAY, on_outage=mode)) as client:
        assert client.get("/healthz").status_code == 200
        began_at = awake()
        response = client.get("/readyz")
        assert awake() - began_at < 1
        assert response.status_code == 503
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("mode", ["local", "open"])
def test_a_start_without_its_store_is_ready_if_it_can_decide_without(mode: str):
    with TestClient(app_on(AWAY, on_outage=mode)) as client:
        response = client.get("/readyz")
        assert response.status_code == 200
        assert response.json() == {"status": "ready", "store": "down", "mode": mode}


def test_asking_whether_it_is_ready_takes_nothing_from_anybody():
    with TestClient(app_on("memory", 1)) as client:
        assert client.get("/readyz").status_code == 200
        assert ping(client, "readyz").status_code == 200  # the key that it asks for


def test_decisions_are_counted_by_policy_and_outcome(serve: Serve, user: str):
    client = serve(2, 60)
    for _ in range(5):
        ping(client, user)
    response = client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert 'sluicegate_decisions_total{outcome="allowed",policy="sliding-window-60s"} 2.0' in response.text
    assert 'sluicegate_decisions_total{outcome="denied",policy="sliding-window-60s"} 3.0' in response.text
    assert user not in response.text


def test_requests_without_a_decision_are_counted_as_errors(away: TestClient, user: str):
    ping(away, user)
    assert 'sluicegate_decisions_total{outcome="error",policy="sliding-window-60s"} 1.0' in away.get("/metrics").text


def test_requests_without_a_decision_are_errors_of_each_policy(user: str):
    with TestClient(app_on(AWAY, on_outage="raise", **{"global": "9/m"}, endpoints='{"/ping": "9/h"}')) as client:
        assert ping(client, user).status_code == 503
        for name in ("sliding-window-60s", "global-60s", "endpoint-ping-3600s"):
            assert counted(client, name) == {"allowed": 0, "denied": 0, "error": 1}


def test_the_log_says_which_limits_are_in_force(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "uvicorn.error")
    limits = {"global": "1000/30d;50/s", "endpoints": '{"/ping": "5/s"}'}
    for settings in ({}, limits, {"enabled": False, **limits}):
        with TestClient(app_on("memory", 10, 0.5, **settings)):
            pass
    of_user = "counting in memory, for this process only: 10 requests of each user in any 0.5 s"
    of_all = "1000 of all users together in any 2592000 s, 50 of all users together in any 1 s"
    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == [
        of_user,
        f"{of_user}, {of_all}, 5 of each user on /ping in any 1 s",
        "the limits are off: every request is allowed and none is counted",
    ]


def test_where_no_lifespan_is_run_the_first_request_makes_what_it_needs(user: str):
    client = TestClient(app_on("memory", 1))  # not entered, so not started
    assert [client.get("/readyz").status_code, ping(client, user).status_code] == [200, 200]
    assert ping(client, user).status_code == 429
    assert counted(client, "sliding-window-60s") == {"allowed": 1, "denied": 1, "error": 0}


def test_two_apps_in_one_process_count_apart(user: str):
    with TestClient(app_on("memory")) as one, TestClient(app_on("memory")) as other:
        ping(one, user)
        assert 'outcome="allowed",policy="sliding-window-60s"} 1.0' in one.get("/metrics").text
        assert 'outcome="allowed",policy="sliding-window-60s"} 0.0' in other.get("/metrics").text


def test_the_openapi_document_describes_each_answer_and_its_fields():
    with TestClient(app_on("memory")) as client:
        answers = client.get("/openapi.json").json()["paths"]["/ping"]["get"]["responses"]
    assert answers.keys() == {"200", "422", "429", "503"}
    for code in ("422", "429", "503"):
        assert answers[code]["content"].keys() == {"application/problem+json"}
    assert answers["200"]["headers"].keys() == {"RateLimit-Policy", "RateLimit"}
    assert answers["429"]["headers"].keys() == {"RateLimit-Policy", "RateLimit", "Retry-After"}
    assert answers["503"]["headers"].keys() == {"Retry-After"}
