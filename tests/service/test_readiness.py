"""What /readyz proves: that the store takes a write, as /ping needs it; and what it says where the store does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from processes import within

import servers

PROBE = b"sluicegate:{*}:sliding-window:readyz:1000000"

EVERY_MODE = pytest.mark.parametrize("mode", ["local", "open", "closed", "raise"])
DECIDES_WITHOUT = pytest.mark.parametrize("mode", ["local", "open"])
DOES_NOT = pytest.mark.parametrize("mode", ["closed", "raise"])

pytestmark = pytest.mark.slow

Serve = Callable[..., TestClient]


@pytest.fixture
def replica(own_server: servers.Server) -> Iterator[servers.Server]:
    """A replica that is in touch with its primary."""
    with servers.running(own_server.kind, "--replicaof", "127.0.0.1", str(own_server.port)) as replica:
        assert within(lambda: replica.client.info("replication")["master_link_status"] == "up")
        yield replica


def refusal(client: TestClient) -> dict[str, str]:
    """Return the document of a service that is not ready."""
    response = client.get("/readyz")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.json()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the library logged."""
    return [record.getMessage() for record in caplog.records if record.name == "sluicegate"]


# A store that was set up wrong, and has never taken a write


@EVERY_MODE
def test_a_read_only_replica_is_not_ready_and_says_why_until_it_is_promoted(
    replica: servers.Server, serve: Serve, mode: str
):
    client = serve(replica.url, rate_limit_on_outage=mode)
    assert refusal(client) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "The redis store does not take writes: replica. The log of the service says more.",
        "store": "redis",
        "reason": "replica",
    }
    assert client.get("/ping?user_id=alice").status_code == 503
    assert client.get("/healthz").status_code == 200
    replica.client.replicaof("NO", "ONE")
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    "rights",
    [
        {"keys": ["*"], "categories": ["+@all", "-@write"]},
        {"keys": ["*"], "commands": ["+@all", "-rpush"]},
        {"keys": ["%R~*"], "commands": ["+@all"]},
    ],
    ids=["no command that writes", "one command too few", "keys for reading alone"],
)
def test_a_user_that_may_not_write_is_not_ready(own_server: servers.Server, serve: Serve, rights: dict):
    own_server.client.acl_setuser("reader", enabled=True, passwords=["+hunter2"], **rights)
    client = serve(f"redis://reader:hunter2@127.0.0.1:{own_server.port}/0")
    assert refusal(client)["reason"] == "no-permission"
    assert client.get("/ping?user_id=alice").status_code == 503


def test_a_denial_proves_no_write(own_server: servers.Server, serve: Serve):
    assert serve(own_server.url, rate_limit_requests=1).get("/ping?user_id=alice").status_code == 200
    own_server.client.acl_setuser(
        "reader", enabled=True, passwords=["+hunter2"], keys=["*"], categories=["+@all", "-@write"]
    )
    client = serve(f"redis://reader:hunter2@127.0.0.1:{own_server.port}/0", rate_limit_requests=1)
    client.get("/ping?user_id=alice")
    assert refusal(client)["reason"] == "no-permission"


@EVERY_MODE
def test_a_wrong_password_is_not_ready_however_often_it_is_tried_and_is_not_shown(
    own_server: servers.Server, serve: Serve, caplog: pytest.LogCaptureFixture, mode: str
):
    client = serve(f"redis://ann:hunter2@127.0.0.1:{own_server.port}/0", rate_limit_on_outage=mode)
    for _ in range(4):  # the last is not sent to the server any more
        document = refusal(client)
        assert document["reason"] == "wrong-password"
        assert client.get("/ping?user_id=alice").status_code == 503
    (line,) = told(caplog)
    assert line.startswith("the store is down, wrong-password: ")
    for secret in ("hunter2", "ann:", "127.0.0.1", str(own_server.port)):
        assert secret not in str(document)
        assert secret not in caplog.text


# A store that is down


@DECIDES_WITHOUT
def test_a_primary_that_becomes_a_replica_is_no_reason_to_take_an_instance_out_that_decides_without(
    own_server: servers.Server, serve: Serve, mode: str
):
    client = serve(own_server.url, rate_limit_on_outage=mode)
    assert client.get("/readyz").json() == {"status": "ready"}
    own_server.client.replicaof("127.0.0.1", "1")
    assert [client.get("/ping?user_id=alice").status_code for _ in range(3)] == [200] * 3
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "store": "down", "mode": mode})
    own_server.client.replicaof("NO", "ONE")
    assert within(lambda: client.get("/readyz").json() == {"status": "ready"})


@DOES_NOT
def test_a_primary_that_becomes_a_replica_is_a_reason_to_take_an_instance_out_that_decides_nothing_without(
    own_server: servers.Server, serve: Serve, mode: str
):
    client = serve(own_server.url, rate_limit_on_outage=mode)
    assert client.get("/readyz").json() == {"status": "ready"}
    own_server.client.replicaof("127.0.0.1", "1")
    assert [client.get("/ping?user_id=alice").status_code for _ in range(3)] == [503] * 3
    assert refusal(client)["reason"] == "replica"
    own_server.client.replicaof("NO", "ONE")
    assert within(lambda: client.get("/readyz").status_code == 200)
    assert client.get("/ping?user_id=alice").status_code == 200


@DOES_NOT
def test_a_full_server_is_not_ready_where_nothing_is_decided_without(
    own_server: servers.Server, serve: Serve, mode: str
):
    own_server.client.config_set("maxmemory", 1)
    assert refusal(serve(own_server.url, rate_limit_on_outage=mode))["reason"] == "out-of-memory"


@DECIDES_WITHOUT
def test_a_full_server_is_down_where_it_is_decided_without(own_server: servers.Server, serve: Serve, mode: str):
    own_server.client.config_set("maxmemory", 1)
    client = serve(own_server.url, rate_limit_on_outage=mode)
    assert client.get("/readyz").json() == {"status": "ready", "store": "down", "mode": mode}
    assert client.get("/ping?user_id=alice").status_code == 200


def test_a_server_that_is_gone_is_unreachable_and_one_that_hangs_is_late(own_server: servers.Server, serve: Serve):
    settings = {"rate_limit_on_outage": "raise", "rate_limit_deadline_seconds": 0.1}
    assert refusal(serve("redis://127.0.0.1:1/0", **settings))["reason"] == "unreachable"
    late = serve(own_server.url, **settings)
    own_server.freeze()
    try:
        assert refusal(late)["reason"] in ("timeout", "unreachable")  # it may hang before the request is sent
    finally:
        own_server.thaw()


def test_what_is_wrong_is_logged_once(own_server: servers.Server, serve: Serve, caplog: pytest.LogCaptureFixture):
    own_server.client.config_set("maxmemory", 1)
    client = serve(own_server.url, rate_limit_on_outage="raise")
    for _ in range(5):
        refusal(client)
    own_server.client.config_set("maxmemory", 0)
    assert within(lambda: client.get("/readyz").status_code == 200)
    down, up = told(caplog)
    assert down.startswith("the store is down, out-of-memory: ")
    assert re.fullmatch(r"the store is up again, after \d+\.\d s", up)


# What the proof leaves behind


def test_the_proof_takes_from_nobody_is_nobody_and_is_soon_gone(own_server: servers.Server, serve: Serve):
    for _ in range(30):  # each instance proves it once
        assert serve(own_server.url, rate_limit_requests=1).get("/readyz").status_code == 200
    client = serve(own_server.url, rate_limit_requests=1)
    assert servers.counters(own_server, "") in ([PROBE], [])
    assert own_server.client.pttl(PROBE) <= 3000
    assert own_server.client.llen(PROBE) <= 1  # a page, however many instances prove it
    assert within(lambda: not own_server.client.exists(PROBE))
    for user in ("readyz", "*", "%2A", PROBE.decode(), "sluicegate:{*}:members"):
        assert client.get("/ping", params={"user_id": user}).status_code == 200


def test_the_proof_is_not_a_decision_in_the_metrics(own_server: servers.Server, serve: Serve):
    client = serve(own_server.url)
    assert client.get("/readyz").status_code == 200
    text = client.get("/metrics").text
    assert "sluicegate_store_up 1.0" in text
    assert "readyz" not in text
    counted = re.findall(r"^sluicegate_decision(?:s_total|_duration_seconds_count){.*} (.*)$", text, re.MULTILINE)
    assert counted == ["0.0"] * 6
