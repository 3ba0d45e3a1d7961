"""Two instances behind the nginx of deploy/, in its own configuration: one limit, the right client, and no gap."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from fleet import EXACT
from processes import ROOT, Service, serving_with_more, within

import servers

CONF = ROOT / "deploy/nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not servers.kinds(), reason=servers.HOW_TO_GET_ONE),
    pytest.mark.skipif(NGINX is None, reason="NOT CHECKED, deploy/nginx.conf: no nginx; apt-get install nginx-light"),
]


@dataclass
class Fleet:
    port: int
    instances: list[Service]

    def get(self, path: str, fields: Mapping[str, str] | None = None, *, client: str = "127.0.0.1") -> tuple[int, str]:
        """Return the status and the body of the answer to a client at an address of loopback."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(client, 0))) as connection:
            connection.request("GET", path, headers=dict(fields or {}))
            response = connection.getresponse()
            return response.status, response.read().decode()

    def status(self, path: str) -> int:
        return self.get(path)[0]


@contextmanager
def running_fleet(directory: Path) -> Iterator[Fleet]:
    """Run two instances on a server of their own, and nginx in front of them."""
    with ExitStack() as stack:
        url = stack.enter_context(servers.running(servers.kinds()[0])).url
        settings = {"RATE_LIMIT_BACKEND": "redis", "REDIS_URL": url, "RATE_LIMIT_REQUESTS": "20", **EXACT}
        settings |= {"RATE_LIMIT_WINDOW_SECONDS": "3600", "FORWARDED_ALLOW_IPS": "127.0.0.1"}
        instances = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            instances.append(stack.enter_context(serving_with_more(directory / name, **settings)))
        one, two = instances
        port = stack.enter_context(nginx(directory, {"one:8000": one.url, "two:8000": two.url}))
        yield Fleet(port, instances)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that stays whole."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as its:
        yield its


@contextmanager
def nginx(directory: Path, addresses: Mapping[str, str]) -> Iterator[int]:
    """Run nginx in the committed configuration; only the addresses are others."""
    conf, port = CONF.read_text(), servers.free_port()
    for written, url in {**addresses, "listen 8080": f"listen 127.0.0.1:{port}"}.items():
        assert conf.count(written) == 1
        conf = conf.replace(written, url.removeprefix("http://"))
    (directory / "nginx.conf").write_text(conf)
    command = [NGINX, "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
    with (
        (directory / "nginx.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            assert within(lambda: listens(port) or process.poll() is not None)
            assert process.poll() is None, (directory / "nginx.log").read_text()
            yield port
        finally:
            process.send_signal(signal.SIGQUIT)  # as a container of the image is stopped


def listens(port: int) -> bool:
    with closing(socket.socket()) as its:
        return its.connect_ex(("127.0.0.1", port)) == 0


def logged(instance: Service) -> str:
    return instance.log.read_text()


def test_both_instances_answer_and_count_together(fleet: Fleet):
    statuses = Counter(fleet.status("/ping?user_id=alice") for _ in range(50))
    assert statuses == {200: 20, 429: 30}
    for instance in fleet.instances:
        assert logged(instance).count("GET /ping") >= 10
    assert fleet.status("/metrics") == 404


def test_a_client_is_the_address_that_the_proxy_saw_whatever_it_claims(fleet: Fleet):
    def statuses(client: str) -> list[int]:
        answers = []
        for n in range(6):
            claimed = {"X-Forwarded-For": f"198.51.100.{n}", "Forwarded": f"for=198.51.100.{n}", "X-Real-IP": "::1"}
            status, body = fleet.get("/address", claimed, client=client)
            assert status == 429 or json.loads(body) == client
            answers.append(status)
        return answers

    assert statuses("127.0.0.5") == [200] * 3 + [429] * 3
    assert statuses("127.0.0.6") == [200] * 3 + [429] * 3
    # A client at an address that is trusted, as that of the proxy itself: what it claims is worth no more.
    assert statuses("127.0.0.1") == [200] * 3 + [429] * 3
    for instance in fleet.instances:
        assert "198.51.100." not in logged(instance)
        assert re.search(r" 127\.0\.0\.5:\d+ - .*GET /address", logged(instance))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
def test_while_an_instance_goes_the_other_one_answers(tmp_path: Path, number: signal.Signals):
    with running_fleet(tmp_path) as fleet:
        check_that_nobody_notices(fleet, number)


def check_that_nobody_notices(fleet: Fleet, number: signal.Signals) -> None:
    goes, stays = fleet.instances
    answered: Counter[int] = Counter()
    is_over = threading.Event()

    def client(user: int) -> None:
        while not is_over.is_set():
            answered[fleet.status(f"/ping?user_id={user}")] += 1

    def more() -> bool:
        before = answered.total()
        return within(lambda: answered.total() > before + 100)

    clients = [threading.Thread(target=client, args=(user,)) for user in range(8)]
    for each in clients:
        each.start()
    try:
        assert more()
        goes.process.send_signal(number)
        assert goes.process.wait(60) == (0 if number == signal.SIGTERM else -number)
        assert more()
    finally:
        is_over.set()
        for each in clients:
            each.join()
    # A request that was under way when it was killed is sent to the other one, as it is a GET.
    assert set(answered) == {200, 429}
    assert answered[200] <= 8 * 20
    assert [fleet.status("/ping?user_id=late") for _ in range(5)] == [200] * 5
    assert stays.process.poll() is None
