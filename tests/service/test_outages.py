"""The service while its server is gone, and once it is back: its answers, /readyz, its metrics and its log."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from processes import within

import servers

pytestmark = pytest.mark.slow

Serve = Callable[..., TestClient]

_fresh = (f"user-{n}" for n in itertools.count())


def pings(client: TestClient, user: str, times: int) -> list[int]:
    return [client.get("/ping", params={"user_id": user}).status_code for _ in range(times)]


def readiness(client: TestClient) -> tuple[int, dict[str, str]]:
    response = client.get("/readyz")
    return response.status_code, response.json()


def metric(client: TestClient, name: str) -> float:
    """Return the value of one series of /metrics."""
    return float(re.search(rf"^{re.escape(name)} (.*)$", client.get("/metrics").text, re.MULTILINE)[1])


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the library logged."""
    return [record.getMessage() for record in caplog.records if record.name == "sluicegate"]


def sees(instances: int, client: TestClient) -> bool:
    """Tell whether this instance knows of so many, having asked the store once more."""
    pings(client, next(_fresh), 1)
    return client.app.state.store.outage.fleet.size == instances


def test_while_its_server_is_gone_each_instance_goes_on_by_its_share(
    own_server: servers.Server, serve: Serve, caplog: pytest.LogCaptureFixture
):
    one, other = serve(own_server.url, rate_limit_requests=8), serve(own_server.url, rate_limit_requests=8)
    assert within(lambda: all([sees(2, one), sees(2, other)]))
    for client in (one, other):
        assert readiness(client) == (200, {"status": "ready"})
    assert pings(one, "alice", 4) == [200] * 4
    own_server.kill()

    assert pings(one, "alice", 4) == [200, 200, 429, 429]  # of its 4 it takes off half of the 4 units used
    for client in (one, other):
        assert pings(client, "bob", 6) == [200] * 4 + [429] * 2  # half of 8, as nothing was used
    for client, decided in ((one, 10), (other, 6)):
        assert readiness(client) == (200, {"status": "ready", "store": "down", "mode": "local"})
        assert metric(client, 'sluicegate_fallback_decisions_total{mode="local"}') == decided
        assert metric(client, 'sluicegate_decision_duration_seconds_count{source="fallback"}') == decided
        assert metric(client, 'sluicegate_decisions_total{outcome="error",policy="sliding-window-60s"}') == 0
        assert metric(client, 'sluicegate_store_events_total{kind="down"}') == 1
        assert metric(client, "sluicegate_store_up") == 0
    lines = told(caplog)
    assert len(lines) == 2  # a line of each
    assert all(line.startswith("the store is down, ") for line in lines)

    own_server.launch()
    for client in (one, other):
        assert within(lambda client=client: readiness(client) == (200, {"status": "ready"}))
        assert metric(client, "sluicegate_store_up") == 1
        assert metric(client, 'sluicegate_store_events_total{kind="up"}') == 1
        before = metric(client, 'sluicegate_decision_duration_seconds_count{source="store"}')
        assert pings(client, next(_fresh), 1) == [200]
        assert metric(client, 'sluicegate_decision_duration_seconds_count{source="store"}') == before + 1
    # What both allowed meanwhile is entered in the store, which had lost its data.
    assert within(lambda: pings(one, "bob", 1) == [429])


@pytest.mark.parametrize(
    ("mode", "status", "ready"), [("local", 200, 200), ("open", 200, 200), ("closed", 503, 503), ("raise", 503, 503)]
)
def test_an_outage_under_each_setting_from_its_begin_to_its_end(
    own_server: servers.Server, serve: Serve, mode: str, status: int, ready: int
):
    client = serve(own_server.url, rate_limit_requests=1000, rate_limit_on_outage=mode)
    assert pings(client, "alice", 2) == [200] * 2
    assert readiness(client) == (200, {"status": "ready"})
    own_server.kill()
    assert pings(client, "alice", 5) == [status] * 5
    code, document = readiness(client)
    assert code == ready
    if ready == 200:
        assert document == {"status": "ready", "store": "down", "mode": mode}
        assert metric(client, f'sluicegate_fallback_decisions_total{{mode="{mode}"}}') == 5
    else:
        assert document["detail"].startswith("The redis store does not take writes: ")
        assert metric(client, 'sluicegate_decisions_total{outcome="error",policy="sliding-window-60s"}') == 5
        for none in ("local", "open"):
            assert metric(client, f'sluicegate_fallback_decisions_total{{mode="{none}"}}') == 0
    own_server.launch()
    assert within(lambda: readiness(client) == (200, {"status": "ready"}))
    assert pings(client, "alice", 2) == [200] * 2
    assert within(lambda: pings(client, "bob", 1) and metric(client, LOST) == 1)


LOST = 'sluicegate_store_events_total{kind="state-lost"}'


@pytest.mark.parametrize("mode", ["local", "raise"])
def test_a_key_of_another_type_is_not_an_outage(
    own_server: servers.Server, serve: Serve, caplog: pytest.LogCaptureFixture, mode: str
):
    client = serve(own_server.url, rate_limit_on_outage=mode)
    pings(client, "alice", 1)
    (key,) = servers.counters(own_server, "sluicegate:{alice}")
    own_server.client.delete(key)
    own_server.client.set(key, "something else")
    for _ in range(4):
        assert pings(client, "alice", 1) == [200 if mode == "local" else 503]
        assert pings(client, "bob", 1) == [200]
    assert readiness(client) == (200, {"status": "ready"})
    assert metric(client, "sluicegate_store_up") == 1
    assert metric(client, 'sluicegate_store_events_total{kind="down"}') == 0
    assert metric(client, 'sluicegate_fallback_decisions_total{mode="local"}') == (4 if mode == "local" else 0)
    (line,) = told(caplog)
    assert line.startswith("a request failed, other-data: ")


def test_a_denial_from_memory_is_no_sign_that_an_outage_is_over(
    own_server: servers.Server, serve: Serve, caplog: pytest.LogCaptureFixture
):
    client = serve(own_server.url, rate_limit_requests=1, rate_limit_on_outage="raise")
    pings(client, "alice", 2)
    own_server.kill()
    assert pings(client, "bob", 3) == [503] * 3
    pings(client, "alice", 1)  # a 429 from memory, unless the machine was too slow for that
    assert metric(client, "sluicegate_store_up") == 0
    assert pings(client, "bob", 1) == [503]
    assert len(told(caplog)) == 1
