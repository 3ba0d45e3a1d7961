"""Fixtures for the tests of the service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import servers


@pytest.fixture(params=servers.kinds() or ["none"])
def own_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A server of the test's own: the service has no prefix to keep its keys apart by."""
    if request.param == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    with servers.running(request.param) as server:
        yield server
