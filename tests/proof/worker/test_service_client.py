"""How a worker calls a service over HTTP: statuses, connections, lost answers, and Retry-After."""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs

import pytest

from sluicegate.proof.target import service as named_service
from sluicegate.proof.worker import service
from sluicegate.proof.workers import Worker, call


class Scripted:
    """A service that sends the given bytes as answers, and closes the connection after those that end with ``CLOSE``.

    Attributes:
        requests: The requests it received.
        connections: The number of connections it accepted.
    """

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/ping?user_id={{key}}"
        self.closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while self._answers:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(ConnectionError):
                self._answer(connection)
            self.closed.set()

    def _answer(self, connection: socket.socket) -> None:
        while self._answers:
            request = b""
            while not _is_whole(request):
                read = connection.recv(65536)
                if not read:
                    return
                request += read
            self.requests.append(request)
            answer = self._answers.pop(0)
            connection.sendall(answer.removesuffix(CLOSE))
            if answer.endswith(CLOSE):
                return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection
        self._socket.close()


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


CLOSE = b"<close>"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DENIED = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def _served(*answers: bytes) -> Iterator[tuple[Scripted, service.Service]]:
    scripted = Scripted(*answers)
    client = service.Service({"url": scripted.url})
    try:
        yield scripted, client
    finally:
        client.close()
        scripted.close()


def _root(scripted: Scripted) -> str:
    return scripted.url.partition("/ping")[0]


def test_200_is_allowed_and_429_is_denied_on_one_connection():
    with _served(OK, DENIED % b"7", OK) as (scripted, client):
        assert client.take("a") == (True, None, None)
        assert client.take("a") == (False, 7.0, None)
        assert client.allow("a") is True
    assert scripted.connections == 1


def test_a_key_is_escaped_and_sent_in_its_place():
    with _served(OK) as (scripted, client):
        client.allow("a/b&c=d é\r\n\0")
    assert scripted.requests[0].startswith(b"GET /ping?user_id=a%2Fb%26c%3Dd%20%C3%A9%0D%0A%00 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("rest", "sent"),
    [("?user={key}", b"/?user=%7Ba%7D"), ("/a b/{key}/é?x=1%20#top", b"/a%20b/%7Ba%7D/%C3%A9?x=1%20")],
)
def test_a_url_is_escaped_as_a_service_expects_it(rest: str, sent: bytes):
    with _served(OK) as (scripted, _), contextlib.closing(service.Service({"url": _root(scripted) + rest})) as client:
        client.allow("{a}")
    assert scripted.requests[0].split()[1] == sent


STRANGE = (
    *("a", "A", "a b", " a", "a ", "a;b", "a,b", 'a"b', "a\\b", "a%3Bb", "a\r\nX: 1", "a&b=c", "{key}", "\u00e9"),
    *("e\u0301", "\0", "\U0001f600"),
)


def _requested(**request: object) -> list[bytes]:
    """Return the requests that were sent for each of the strange keys."""
    with (
        _served(*[OK] * len(STRANGE)) as (scripted, _),
        contextlib.closing(service.Service({"url": _root(scripted), **request})) as client,
    ):
        assert all(client.allow(key) for key in STRANGE)
    return scripted.requests


def test_a_key_in_a_header_is_one_value_and_no_two_keys_are_the_same():
    requests = _requested(headers=[["X-User", "id={key}"], ["user-agent", "mine"]])
    values = [re.search(rb"\r\nX-User: id=(\S+)\r\n", request)[1] for request in requests]
    assert len(set(values)) == len(STRANGE)
    assert not any(set(value) & set(b'",;\\ ') for value in values)
    assert all(request.count(b"\r\n") == requests[0].count(b"\r\n") for request in requests)
    assert requests[0].startswith(b"GET / HTTP/1.1\r\n") and b"sluicegate-grade" not in requests[0]


def test_a_key_in_a_body_is_a_string_of_json_unless_the_body_is_of_another_type():
    requests = _requested(body='{"user": "{key}", "n": 1}')
    assert all(
        request.startswith(b"POST / ") and b"Content-Type: application/json\r\n" in request for request in requests
    )
    assert [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests] == [
        {"user": key, "n": 1} for key in STRANGE
    ]
    form = _requested(method="PUT", body="u={key}&n=1", headers=[["content-type", "application/x-www-form-urlencoded"]])
    assert form[0].startswith(b"PUT / ") and b"json" not in form[0]
    assert [parse_qs(request.partition(b"\r\n\r\n")[2].decode())["u"] for request in form] == [[key] for key in STRANGE]


@pytest.mark.parametrize("status", [b"302 Found", b"301 Moved Permanently", b"404 Not Found", b"500 Oops", b"204 None"])
def test_any_other_status_is_an_error_with_the_status(status: bytes):
    answer = b"HTTP/1.1 %b\r\nLocation: /ping?user_id=a\r\nContent-Length: 0\r\n\r\n" % status
    with _served(answer, OK) as (scripted, client):
        with pytest.raises(service.UnexpectedStatus, match=f"expected status 200 or 429, got {status.decode()}"):
            client.take("a")
        assert len(scripted.requests) == 1  # a redirect is not followed
        assert client.allow("a")


def test_a_connection_closed_by_the_service_while_idle_does_not_fail_a_call():
    with _served(OK + CLOSE, OK) as (scripted, client):
        assert client.allow("a")
        assert scripted.closed.wait(5)
        time.sleep(0.05)  # lets the end of the connection arrive
        assert client.allow("b")
    assert scripted.connections == 2


@pytest.mark.parametrize("answer", [CLOSE, b"SMTP\r\n\r\n"], ids=["nothing", "no HTTP"])
def test_a_request_whose_answer_is_lost_is_not_sent_again(answer: bytes):
    with _served(OK, answer, OK) as (scripted, client):
        assert client.allow("a")
        with pytest.raises(Exception, match=r".") as lost:
            client.take("b")
        assert not isinstance(lost.value, service.UnexpectedStatus)
        assert len(scripted.requests) == 2
        assert client.allow("c")


def test_only_the_beginning_of_an_endless_body_is_read():
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * (2 << 20)
    with _served(endless, OK) as (_, client):
        began = time.monotonic()
        assert client.allow("a")
        assert time.monotonic() - began < 5


def test_every_call_to_a_service_that_is_down_is_an_error():
    with socket.socket() as bound:  # but does not listen
        bound.bind(("127.0.0.1", 0))
        client = service.Service({"url": f"http://127.0.0.1:{bound.getsockname()[1]}/{{key}}"})
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError, match=r"^nothing listens at 127\.0\.0\.1:\d+$"):
                client.take("a")
        target = named_service(f"http://127.0.0.1:{bound.getsockname()[1]}/{{key}}")
        with Worker(target, patience=10) as worker:
            worker.load(3, 1.0)
            [error] = worker.run([call(0, "a")]).errors
    assert error.where == ""


def test_an_error_from_a_service_has_no_place_in_the_standard_library():
    with _served(b"SMTP\r\n\r\n") as (scripted, _), Worker(named_service(scripted.url), patience=10) as worker:
        worker.load(3, 1.0)
        [error] = worker.run([call(0, "a")]).errors
    assert (error.type, error.where) == ("BadStatusLine", "")


def test_a_date_in_retry_after_is_compared_with_the_date_of_the_response():
    at, date = "Tue, 24 Nov 2020 10:00:30 GMT", "Tue, 24 Nov 2020 10:00:00 GMT"
    assert service.retry_after(at, date) == 30.0
    assert service.retry_after(at, "soon") == 0.0
    assert service.retry_after("7", date) == 7.0
    answer = DENIED.replace(b"Content", b"Date: %b\r\nContent") % (at.encode(), date.encode())
    with _served(answer) as (_, client):
        assert client.take("a") == (False, 30.0, None)


def test_a_retry_after_may_be_a_date():
    wait = service.retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert wait == pytest.approx(30, abs=3)
    assert service.retry_after("Tue, 24 Nov 2020 10:00:00 GMT") == 0.0
    far = datetime.now(UTC) + timedelta(seconds=30)
    assert service.retry_after(far.strftime("%a, %d %b %Y %H:%M:%S -0000")) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("0", 0.0),
        ("12", 12.0),
        ("9" * 400, math.inf),
        ("0.5", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("", None),
        ("\u0663", None),
        ("soon", None),
        ("7, 9", None),
        ("Tue, 99 Nov 2026 99:00:00 GMT", None),
        ("Tue, 24 Nov 99999999999999999999 10:00:00 GMT", None),
    ],
)
def test_a_retry_after_is_whole_seconds_or_a_date(header: str | None, wait: float | None):
    assert service.retry_after(header) == wait
