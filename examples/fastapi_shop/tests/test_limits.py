"""Whom the limits of the shop stop, and what they count."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from .. import database
from .asking import key, policies, remaining, statuses


@pytest.mark.parametrize(("name", "limit"), [("alice", 20), ("bob", 600), ("carol", 60), ("dave", 20)])
def test_each_plan_has_its_limit(client: TestClient, name: str, limit: int) -> None:
    assert remaining(client, name)["plan.60s"] == limit - 1


def test_a_free_customer_may_send_20_requests_over_all_routes_and_others_are_not_affected(client: TestClient) -> None:
    assert statuses(client, "alice", *["/v1/me", "/v1/items"] * 10) == [200] * 20
    denied = client.get("/v1/items/1", headers=key("alice"))
    assert (denied.status_code, denied.json()["violated-policies"]) == (429, ["plan.60s"])
    assert 0 < int(denied.headers["Retry-After"]) <= 60
    assert statuses(client, "dave", "/v1/items/1") == [200]


def test_a_partner_has_no_plan_and_only_the_limits_that_protect_the_shop(client: TestClient) -> None:
    assert remaining(client, "acme").keys() == {"default", "total"}


def test_when_a_trial_ends_its_requests_count_for_the_free_plan(client: TestClient) -> None:
    now = datetime.now(UTC)
    trial = database.Customer("erin", "key-of-erin", b"", "trial", now + timedelta(days=1))
    database.save_customer(trial)
    assert statuses(client, "erin", *["/v1/me"] * 20) == [200] * 20
    database.save_customer(replace(trial, trial_ends_at=now))
    assert statuses(client, "erin", "/v1/me") == [429]


def test_a_suspended_customer_is_refused_and_counted_by_address(client: TestClient) -> None:
    refused = client.get("/v1/me", headers=key("mallory"))
    assert (refused.status_code, policies(refused)) == (403, {"default": 999, "total": 29_999})


def test_all_customers_share_the_total(client: TestClient) -> None:
    assert [remaining(client, name)["total"] for name in ("alice", "bob", "acme")] == [29_999, 29_998, 29_997]


def test_unknown_keys_unknown_paths_and_the_status_page_count_for_the_address(client: TestClient) -> None:
    answers = [client.get("/v1/me", headers=key("nobody")), client.get("/nothing"), client.get("/status/")]
    assert [answer.status_code for answer in answers] == [401, 404, 200]
    assert [policies(answer)["default"] for answer in answers] == [999, 998, 997]


def test_the_health_check_is_not_limited(client: TestClient) -> None:
    assert "RateLimit" not in client.get("/health").headers
    assert remaining(client, "alice")["default"] == 999


def test_reading_and_writing_reviews_of_all_items_share_a_limit(client: TestClient) -> None:
    paths = ["/v1/items/1/reviews", "/v1/items/2/reviews", "/v1/items/3/reviews"] * 3
    assert statuses(client, "bob", *paths) == [200] * 9
    assert client.post("/v1/items/1/reviews", json={"stars": 4}, headers=key("bob")).status_code == 201
    assert statuses(client, "bob", "/v1/items/3/reviews", "/v1/items/3") == [429, 200]
    assert statuses(client, "acme", "/v1/items/1/reviews") == [200]


def test_only_failed_log_ins_count(client: TestClient) -> None:
    def log_in(password: str) -> int:
        return client.post("/login", json={"name": "alice", "password": password}).status_code

    assert [log_in("password of alice") for _ in range(6)] == [200] * 6
    assert [log_in("guess") for _ in range(5)] == [401] * 5
    assert log_in("password of alice") == 429


def test_support_answers_30_messages_a_minute_through_all_connections_of_a_customer(client: TestClient) -> None:
    for _ in range(2):
        with client.websocket_connect("/v1/support/chat", headers=key("alice")) as chat:
            for _ in range(15):
                chat.send_text("hello")
                assert chat.receive_text() == "Thank you, alice. You said: hello"
    with client.websocket_connect("/v1/support/chat", headers=key("alice")) as chat:
        chat.send_text("me again")
        with pytest.raises(WebSocketDisconnect) as closed:
            chat.receive_text()
        assert closed.value.code == 1013


def test_the_21st_chat_of_a_minute_is_refused_at_the_handshake(client: TestClient) -> None:
    for _ in range(20):
        with client.websocket_connect("/v1/support/chat", headers=key("acme")):
            pass
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/v1/support/chat", headers=key("acme")),
    ):
        pass
    assert denied.value.status_code == 429
