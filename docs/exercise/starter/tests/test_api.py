"""The service over HTTP."""

import uuid

import pytest
from fastapi.testclient import TestClient

from app.main import app

MANY = 200  # more than the default limit of the service


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client


@pytest.fixture
def user():
    return f"alice-{uuid.uuid4().hex}"


def test_an_allowed_request_is_answered_with_200(client, user):
    assert client.get("/ping", params={"user_id": user}).status_code == 200


def test_a_denied_request_is_answered_with_429_and_a_retry_after(client, user):
    answers = [client.get("/ping", params={"user_id": user}) for _ in range(MANY)]
    denied = [answer for answer in answers if answer.status_code == 429]
    assert denied, f"none of {MANY} requests was denied"
    assert int(denied[0].headers["Retry-After"]) >= 1


# Yours to write: two users, a request without user_id, an outage of Redis.
