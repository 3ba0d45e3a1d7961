"""The service over HTTP, on each backend in turn: what is allowed, what is denied, and what a client is told.

`serve(requests, window_seconds)` gives a client of a service with that limit. Add your own below.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import http_sf
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import servers
from app.config import Settings
from app.main import create_app

Serve = Callable[..., TestClient]

AWAY = "redis://:hunter2@127.0.0.1:1/0"  # nobody listens there


def app_on(backend: str, requests: int = 10, window_seconds: float = 60) -> FastAPI:
    """Make the service in memory, or on the server with this URL."""
    return create_app(
        Settings(
            rate_limit_backend="memory" if backend == "memory" else "redis",
            redis_url=backend if backend != "memory" else "",
            rate_limit_requests=requests,
            rate_limit_window_seconds=window_seconds,
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
        yield lambda *limit: opened.enter_context(TestClient(app_on(backend, *limit)))


@pytest.fixture
def away() -> Iterator[TestClient]:
    with TestClient(app_on(AWAY)) as client:
        yield client


@pytest.fixture
def user() -> str:
    """A user that no other test has: the servers are shared."""
    return f"user-{uuid.uuid4().hex}"


def ping(client: TestClient, user: str) -> httpx2.Response:
    return client.get("/ping", params={"user_id": user})


def item(response: httpx2.Response, name: str) -> tuple[str, dict]:
    ((policy, params),) = http_sf.parse(response.headers[name].encode(), tltype="list")
    return policy, params


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
    end = time.monotonic() + 5
    while connections() and time.monotonic() < end:
        time.sleep(0.01)  # the server learns of it a moment later
    assert connections() == 0


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


@pytest.mark.parametrize("tail", ["", " ", "\0", "{}", "}:a", "é", "\U0001f600", "%", "+", "&", "\n", "x" * 200])
def test_any_other_text_is_a_user_of_its_own(serve: Serve, user: str, tail: str):
    client = serve(1, 60)
    assert ping(client, f"{user}.{tail}").status_code == 200
    assert ping(client, f"{user}.{tail}").status_code == 429


def test_a_user_id_of_256_characters_is_not_too_long(serve: Serve, user: str):
    assert ping(serve(), user + "é" * (256 - len(user))).status_code == 200


# While the store is away


def test_without_its_store_a_ping_is_a_503_within_a_second(away: TestClient, user: str):
    began_at = time.monotonic()
    response = ping(away, user)
    assert time.monotonic() - began_at < 1
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
    for _ in range(3):
        ping(away, user)
    assert [record.getMessage() for record in caplog.records if record.name == "app.main"] == [
        "no answer from the store: StoreUnavailable, ConnectionError"
    ]


# For those who run it


def test_it_is_alive_and_ready_and_so_it_is_without_any_ping(serve: Serve):
    client = serve()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_without_its_store_it_is_alive_and_not_ready(away: TestClient):
    assert away.get("/healthz").status_code == 200
    began_at = time.monotonic()
    response = away.get("/readyz")
    assert time.monotonic() - began_at < 1
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"


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
    assert 'headgate_decisions_total{outcome="allowed",policy="sliding-window-60s"} 2.0' in response.text
    assert 'headgate_decisions_total{outcome="denied",policy="sliding-window-60s"} 3.0' in response.text
    assert user not in response.text


def test_requests_without_a_decision_are_counted_as_errors(away: TestClient, user: str):
    ping(away, user)
    assert 'headgate_decisions_total{outcome="error",policy="sliding-window-60s"} 1.0' in away.get("/metrics").text


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
