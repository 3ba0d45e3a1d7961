"""How the service ends on SIGTERM: what it has accepted is answered, and nothing holds it beyond its grace."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fleet import EXACT, Connection
from processes import ROOT, Service, environment, serving_with_more
from pydantic import ValidationError

import servers
from app.config import Settings, complaints, strangers
from app.main import create_app

SLOW, CLIENTS = 4, 16


def check_end(service: Service) -> None:
    """Wait until it has ended, and check that it ended well."""
    assert service.process.wait(60) == 0, service.log.read_text()
    log = service.log.read_text()
    assert re.findall("ERROR|CRITICAL|Traceback|Exception", log) == []
    assert "Application shutdown complete" in log  # so the store is closed


def connection(service: Service) -> Connection:
    return Connection(int(service.url.rpartition(":")[2]))


async def get(service: Service, path: str) -> tuple[int, dict[bytes, bytes]]:
    async with connection(service) as its:
        return await its.get(path)


async def status(service: Service, path: str) -> int:
    return (await get(service, path))[0]


async def until_unanswered(service: Service, requests: int) -> None:
    """Wait until the service has begun so many requests, and the one that asks for their number."""
    while int((await get(service, "/unanswered"))[1][b"unanswered"]) != requests + 1:
        await asyncio.sleep(0.01)


async def until_refused(service: Service) -> None:
    """Wait until the service takes no more connections."""
    try:
        while True:
            async with connection(service):
                await asyncio.sleep(0.01)
    except ConnectionRefusedError:
        return


def test_an_instance_that_drains_is_alive_and_not_ready():
    with TestClient(create_app(Settings(rate_limit_backend="memory"))) as client:
        client.app.state.drain.has_begun = True
        response = client.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "draining")
        assert response.headers["Retry-After"] == "1"
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("value", ["-1", "3601", "nan", "inf", "soon", ""])
@pytest.mark.parametrize("name", ["drain_delay_seconds", "drain_grace_seconds"])
def test_a_span_that_makes_no_sense_is_one_line(name: str, value: str):
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})
    assert complaints(caught.value) == [f"{name.upper()}={value!r}: expected a number of seconds from 0 to 3600"]


def test_a_misspelt_span_is_named():
    assert strangers(["DRAIN_SECONDS", "DRAIN_GRACE_SECONDS"]) == ["DRAIN_SECONDS"]


@pytest.mark.slow
def test_every_request_that_was_accepted_is_answered_while_it_drains_under_traffic(
    own_server: servers.Server, tmp_path: Path
):
    settings = {"RATE_LIMIT_BACKEND": "redis", "REDIS_URL": own_server.url, "RATE_LIMIT_REQUESTS": "20", **EXACT}
    settings |= {"DRAIN_DELAY_SECONDS": "3600", "DRAIN_GRACE_SECONDS": "600"}  # no part ends before its signal
    with serving_with_more(tmp_path, **settings) as service:
        slow, pings = asyncio.run(asyncio.wait_for(drained_under_traffic(service, tmp_path / "go"), 300))
        check_end(service)
    assert slow == [200] * SLOW
    assert set(pings) == {200, 429}


async def drained_under_traffic(service: Service, go: Path) -> tuple[list[int], Counter[int]]:
    """Return the statuses of slow requests, and of those beside them. A request without an answer raises.

    The clients behave as a balancer does: they open connections for as long as the service is ready, and keep each for
    as long as its responses let them.
    """
    is_ready = True
    answered: Counter[int] = Counter()

    async def client(user: int) -> None:
        while is_ready:
            async with connection(service) as its:
                is_open = True
                while is_open:
                    code, fields = await its.get(f"/ping?user_id={user}")
                    answered[code] += 1
                    is_open = fields.get(b"connection") != b"close"

    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(status(service, "/slow")) for _ in range(SLOW)]
        await until_unanswered(service, SLOW)
        clients = [group.create_task(client(number % 3)) for number in range(CLIENTS)]
        while answered.total() < 10 * CLIENTS:
            await asyncio.sleep(0.01)

        service.process.send_signal(signal.SIGTERM)
        while await status(service, "/readyz") == 200:
            await asyncio.sleep(0.01)
        assert await status(service, "/ping?user_id=late") == 200  # it still takes connections
        is_ready = False
        await asyncio.gather(*clients)

        service.process.send_signal(signal.SIGTERM)  # ends the delay
        await until_refused(service)
        assert service.process.poll() is None
        assert not any(task.done() for task in slow)
        go.touch()  # noqa: ASYNC240 - it blocks nobody
    return [task.result() for task in slow], answered


@pytest.mark.slow
def test_a_request_that_waits_its_turn_or_hangs_gets_a_503_when_the_grace_ends(tmp_path: Path):
    async def stopped() -> list[tuple[int, dict[bytes, bytes]]]:
        assert await status(service, "/turn") == 200
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get(service, path)) for path in ("/turn", "/turn", "/slow")]
            await until_unanswered(service, 3)
            service.process.send_signal(signal.SIGTERM)
        return [task.result() for task in tasks]

    with serving_with_more(tmp_path, DRAIN_GRACE_SECONDS="0.5") as service:
        for code, fields in asyncio.run(asyncio.wait_for(stopped(), 60)):
            assert (code, fields[b"retry-after"], fields[b"connection"]) == (503, b"1", b"close")
        check_end(service)


@pytest.mark.slow
def test_an_idle_connection_does_not_hold_it(tmp_path: Path):
    async def stopped() -> None:
        async with connection(service) as its:
            assert (await its.get("/healthz"))[0] == 200
            service.process.send_signal(signal.SIGTERM)
            assert await its.reader.read() == b""  # closed by the service

    with serving_with_more(tmp_path, DRAIN_GRACE_SECONDS="600") as service:
        asyncio.run(asyncio.wait_for(stopped(), 60))
        check_end(service)


STOPPED_WHILE_IMPORTING = """
import os, signal, sys
import app.__main__ as command

class Stop:
    def find_spec(self, name, *_):
        if name == "app.config":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stop())
command.main()
"""


def test_a_signal_that_comes_before_it_serves_ends_it_at_once():
    # As the first process of a container it would ignore a signal that it does not handle yet.
    command = [sys.executable, "-c", STOPPED_WHILE_IMPORTING]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
