"""The service over HTTP."""

import uuid

import pytest
from fastapi.testclient import TestClient

from app.main import app

MANY = 200  # more than the limit that the service has if nothing is set


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client


@pytest.fixture
def user():
    return f"alice-{uuid.uuid4().hex}"


def test_an_allowed_request_is_answered_with_200(client, user):
    assert client.get("/ping", params={"user_id": user}).status_code == 200


def test_who_asks_too_often_gets_429_and_is_told_when_to_come_back(client, user):
    answers = [client.get("/ping", params={"user_id": user}) for _ in range(MANY)]
    denied = [answer for answer in answers if answer.status_code == 429]
    assert denied, f"{MANY} requests, and none denied"
    assert int(denied[0].headers["Retry-After"]) >= 1


# Yours: two users, a request without user_id, Redis away.
