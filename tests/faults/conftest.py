"""Fixtures of the tests of faults: a proxy that causes them, and a check of what event loops log."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import servers
from faults.cuts import Cuts
from sluicegate import AsyncLimiter, Limiter
from sluicegate._stores import health
from sluicegate._stores.redis.body import Body


@pytest.fixture(autouse=True)
def plain_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store's calls be those of its callers alone, and let limiters raise its errors where a test says no more.

    It announces itself to no fleet, and its breaker stays closed; the tests of these are in tests/outages.
    """
    for limiter in (Limiter, AsyncLimiter):
        monkeypatch.setitem(limiter.__init__.__wrapped__.__kwdefaults__, "on_outage", "raise")
    monkeypatch.setattr(Body, "_may_announce", False)
    monkeypatch.setattr(health, "OPENS_AFTER", 10**9)


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[Cuts]:
    with Cuts(server.port) as made:
        yield made


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no event loop logged an error, such as a destroyed task or an exception that was never retrieved."""
    yield
    gc.collect()
    records = caplog.get_records("call") + caplog.records  # of the test, and of what has only just been collected
    logged = [record.getMessage() for record in records if record.name == "asyncio"]
    assert [message for message in logged if "proxy.py" not in message] == []
