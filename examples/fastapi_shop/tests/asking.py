"""What the tests send, and what they read from responses."""

from __future__ import annotations

from fastapi.testclient import TestClient
from httpx2 import Response


def key(name: str) -> dict[str, str]:
    """Return the header that says who a customer is."""
    return {"X-API-Key": f"key-of-{name}"}


def policies(response: Response) -> dict[str, int]:
    """Return the units that are left under each limit, by the RateLimit field of a response."""
    parts = (part.split(";") for part in response.headers["RateLimit"].split(", "))
    return {policy.strip('"'): int(left.removeprefix("r=")) for policy, left, *_ in parts}


def remaining(client: TestClient, name: str, path: str = "/v1/me") -> dict[str, int]:
    """Return the units that a customer has left under each limit, after one more request."""
    return policies(client.get(path, headers=key(name)))


def statuses(client: TestClient, name: str, *paths: str) -> list[int]:
    """Return the statuses of a customer's requests, one after the other."""
    return [client.get(path, headers=key(name)).status_code for path in paths]
