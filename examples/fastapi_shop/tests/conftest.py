"""Fixtures: a client of the shop, whose counters are fresh in each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

os.environ.pop("SHOP_REDIS_URL", None)  # before the shop reads it: tests count in memory

from ..main import app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Return a client of a shop that has just started. What it counted in memory is gone when it stops."""
    with TestClient(app) as client:
        yield client
