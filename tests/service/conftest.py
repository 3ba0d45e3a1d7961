"""Fixtures for the tests of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

import servers
from app.config import Settings
from app.main import create_app

Serve = Callable[..., TestClient]


@pytest.fixture(params=servers.kinds() or ["none"])
def own_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A server of the test's own: the service has no prefix to keep its keys apart by."""
    if request.param == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    with servers.running(request.param) as server:
        yield server


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run the service in this process, on the server with a URL; more settings go by their names.

    It is patient, as the machine may be busy: an answer that is late would be the one for an outage.
    """

    def on(url: str, **settings: object) -> TestClient:
        settings = {"rate_limit_deadline_seconds": 30, **settings}
        app = create_app(Settings(rate_limit_backend="redis", redis_url=url, **settings))
        return opened.enter_context(TestClient(app))

    with ExitStack() as opened:
        yield on
