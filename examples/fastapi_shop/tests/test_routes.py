"""What the shop does for a customer who is within all limits."""

from __future__ import annotations

from fastapi.testclient import TestClient

from .asking import key, statuses


def test_a_customer_searches_reviews_and_orders_an_item(client: TestClient) -> None:
    found = client.get("/v1/items", params={"text": "Green"}, headers=key("alice")).json()
    assert [item["name"] for item in found] == ["green tea"]
    item = found[0]["id"]
    written = client.post(f"/v1/items/{item}/reviews", json={"stars": 5}, headers=key("alice"))
    assert written.status_code == 201
    assert written.json() in client.get(f"/v1/items/{item}/reviews", headers=key("bob")).json()
    ordered = client.post("/v1/orders", json={"item_id": item, "quantity": 2}, headers=key("alice"))
    assert ordered.status_code == 201
    order = f"/v1/orders/{ordered.json()['id']}"
    assert statuses(client, "alice", order) == [200]
    assert statuses(client, "bob", order) == [404]


def test_what_does_not_exist_is_a_404(client: TestClient) -> None:
    assert statuses(client, "alice", "/v1/items/9", "/v1/items/9/reviews", "/v1/orders/0", "/nothing") == [404] * 4
    assert client.post("/v1/orders", json={"item_id": 9}, headers=key("alice")).status_code == 404


def test_a_customer_logs_in_and_uses_the_key(client: TestClient) -> None:
    answer = client.post("/login", json={"name": "bob", "password": "password of bob"}).json()
    assert client.get("/v1/me", headers={"X-API-Key": answer["api_key"]}).json() == {"id": "bob", "plan": "pro"}


def test_nobody_else_gets_in(client: TestClient) -> None:
    assert client.get("/v1/me").status_code == 401
    assert statuses(client, "nobody", "/v1/me") == [401]
    assert statuses(client, "mallory", "/v1/me") == [403]
