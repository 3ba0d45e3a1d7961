"""Fixtures of the tests of faults: plain calls, and a proxy that causes faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import servers
from faults.cuts import Cuts
from sluicegate import AsyncLimiter, Limiter
from sluicegate._stores import health
from sluicegate._stores.redis.announcing import Announcing


@pytest.fixture(autouse=True)
def plain_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store's calls be those of its callers alone, and let limiters raise its errors where a test says no more.

    It announces itself to no fleet, and its breaker stays closed; the tests of these are in tests/outages.
    """
    for limiter in (Limiter, AsyncLimiter):
        monkeypatch.setitem(limiter.__init__.__wrapped__.__kwdefaults__, "on_outage", "raise")
    monkeypatch.setattr(Announcing, "is_due", lambda _: False)
    monkeypatch.setattr(health, "OPENS_AFTER", 10**9)


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[Cuts]:
    with Cuts(server.port) as made:
        yield made
