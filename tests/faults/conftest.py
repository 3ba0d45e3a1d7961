"""What the tests of faults share: a proxy that does harm, and an ear for what event loops complain of."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import servers
from faults.cuts import Cuts


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[Cuts]:
    with Cuts(server.port) as made:
        yield made


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See that no event loop had to complain, as of a task that was destroyed or of an error that nobody saw."""
    yield
    gc.collect()
    records = caplog.get_records("call") + caplog.records  # of the test, and of what has only just been collected
    told = [record.getMessage() for record in records if record.name == "asyncio"]
    assert [message for message in told if "proxy.py" not in message] == []
