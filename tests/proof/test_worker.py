"""What a worker does in its own process: how it loads a target, what clocks it gives it, how it asks a service."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from targets import written

from sluicegate.proof.crew import TargetFailed, Worker, ask
from sluicegate.proof.grading import survey
from sluicegate.proof.need import Need
from sluicegate.proof.rig import Settings
from sluicegate.proof.target import Target, parse
from sluicegate.proof.target import service as named_service
from sluicegate.proof.worker import service

WORKER = Path(service.__file__).parent


def _seen(target: Target, **how: object) -> str:
    """Return the text that a target answers, for the sake of this, where a bool is due."""
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, **how)
        played = worker.play([ask(0, "a")])
    assert not played.errors
    [text] = played.odd
    return text.removeprefix("str ").strip("'")


# Loading


def test_modules_beside_the_target_may_have_any_name_of_the_worker(tmp_path: Path):
    names = [path.stem for path in WORKER.glob("*.py") if not path.stem.startswith("__")]
    assert {"clocks", "play", "commands"} <= set(names)
    for name in [*names, "worker", "sluicegate"]:
        (tmp_path / f"{name}.py").write_text(f"NAME = 'own {name}'")
    imports = "\n".join(
        f"import {name}; assert {name}.NAME == 'own {name}'" for name in [*names, "worker", "sluicegate"]
    )
    source = "class Limiter:\n    def __init__(self, n, t): ...\n    def allow(self, user_id): return 'imported'\n"
    assert _seen(written(tmp_path, f"{imports}\n{source}")) == "imported"


@pytest.mark.parametrize("name", ["clocks", "play", "commands", "words"])
def test_the_target_itself_may_have_the_name_of_a_file_of_the_worker(tmp_path: Path, name: str):
    (tmp_path / f"{name}.py").write_text(
        "import sys\nclass Limiter:\n    def __init__(self, n, t): ...\n    def allow(self, user_id): return __name__\n"
    )
    assert _seen(parse(f"{tmp_path / name}.py:Limiter")) == name


def test_a_target_finds_neither_sluicegate_nor_arguments_in_its_process(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import sys
        found = [name for name in sys.modules if name == "sluicegate" or name.startswith("sluicegate.")]
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                return f"{found} {sys.argv[1:]} {any('proof' in path for path in sys.path)}"
        """,
    )
    assert _seen(target) == "[] [] False"


def test_a_file_in_a_package_is_imported_as_a_part_of_it(tmp_path: Path):
    package = tmp_path / "app" / "limits"
    package.mkdir(parents=True)
    for folder in (tmp_path / "app", package):
        (folder / "__init__.py").touch()
    (tmp_path / "app" / "config.py").write_text("WHO = 'config'")
    (package / "memory.py").write_text(
        "from ..config import WHO\nclass Limiter:\n    def __init__(self, n, t): ...\n"
        "    def allow(self, user_id): return f'{__name__} {WHO}'\n"
    )
    assert _seen(parse(f"{package / 'memory.py'}:Limiter")) == "app.limits.memory config"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("Limiter = 7", "the target is no class or factory: Limiter is of type int"),
        (
            "def Limiter(limit, window, redis_url, more): ...",
            "Limiter(limit, window_seconds, redis_url), and that does not fit: missing a required argument: 'more'",
        ),
        (
            "def helper(): ...\nclass SlidingWindow:\n    def allow(self): ...\n",
            "the target has no Limiter in target.py; it has SlidingWindow",
        ),
        ("def make(limit, window): ...", "the target has no Limiter in target.py; it has make"),
        ("def Limiter(limit, window): ...", "the target has no method allow(user_id): Limiter"),
        (
            "def Limiter(limit, window):\n    from json import loads\n    return loads('[')",
            "the target raised JSONDecodeError: Expecting value: line 1 column 2 (char 1) at target.py, line 3",
        ),
        ("\n\nif True:\nLimiter = 1", "expected an indented block after 'if' statement on line 3 at target.py, line 4"),
    ],
    ids=["number", "arguments", "no such class", "no such factory", "nothing", "raises", "syntax"],
)
def test_what_cannot_be_graded_is_told_with_its_place(tmp_path: Path, source: str, says: str):
    with Worker(written(tmp_path, source), patience=10) as worker, pytest.raises(TargetFailed) as failure:
        worker.load(3, 1.0, redis_url="redis://127.0.0.1:1/0")
    assert str(failure.value).endswith(says)


def test_the_protocol_names_every_command():
    commands = (WORKER / "commands.py").read_text()
    described = (WORKER / "__init__.py").read_text()
    names = [line.split("(")[0].split()[1] for line in commands.splitlines() if line.startswith("    def ")]
    assert {name for name in names if not name.startswith("_")} == {
        line.split()[0] for line in described.splitlines() if line.startswith("    ") and line[4:5].strip()
    }


def test_the_worker_imports_nothing_but_the_standard_library():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import worker.commands; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(WORKER.parent)]
    assert subprocess.check_output(command, text=True).strip() == "['worker']"


# Clocks

_READS = """
    import asyncio, datetime, time
    from datetime import datetime as DateTime
    class Limiter:
        def __init__(self, limit, window): ...
        def allow(self, user_id):
            return f"{time.time()} {time.time_ns()} {DateTime.now(datetime.UTC).timestamp()} {time.monotonic()}"
    """


def test_a_moved_clock_stands_still_but_for_what_moves_it(tmp_path: Path):
    with Worker(written(tmp_path, _READS), patience=10) as worker:
        worker.load(3, 1.0, clock="moved")
        readings = []
        for _ in range(2):
            [text] = worker.play([ask(0, "a", 2)]).odd  # both calls read the same
            readings.append([float(each) for each in text.removeprefix("str ").strip("'").split()])
            worker.advance(100.5)
    assert [after - before for before, after in zip(*readings, strict=True)] == [100.5, 100.5e9, 100.5, 100.5]


def test_a_sleep_on_a_moved_clock_takes_no_time_and_all_of_it(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import time
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                began = time.monotonic()
                time.sleep(3600)
                try:
                    time.sleep(-1)
                except ValueError:
                    return time.monotonic() - began == 3600
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, clock="moved")
        [record] = worker.play([ask(0, "a")]).records
    assert record.allowed is True
    assert record.end - record.start == 3600


def test_a_thread_beside_sleeps_until_the_moved_clock_has_been_moved_so_far(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import threading, time
        class Limiter:
            def __init__(self, limit, window):
                self.swept = 0
                threading.Thread(target=self._janitor, daemon=True).start()
            def _janitor(self):
                while True:
                    time.sleep(10)
                    self.swept += 1
            def allow(self, user_id):
                return f"{self.swept} {time.monotonic()}"
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, clock="moved")
        seen = []
        for _ in range(3):
            time.sleep(0.1)  # for the janitor to run as far as it can
            [text] = worker.play([ask(0, "a", 2)]).odd
            swept, now = text.removeprefix("str ").strip("'").split()
            seen.append((int(swept), float(now) - 1_000_000))
            worker.advance(9)
    assert seen == [(0, 0.0), (0, 9.0), (1, 18.0)]


def test_a_wall_clock_is_off_and_can_be_stepped_while_the_monotonic_one_runs_on(tmp_path: Path):
    with Worker(written(tmp_path, _READS), patience=10) as worker:
        worker.load(3, 1.0, wall=3600)
        for off in (3600, -7200):
            worker.set_wall(off)
            [text] = worker.play([ask(0, "a")]).odd
            wall, wall_ns, moment, monotonic = (float(each) for each in text.removeprefix("str ").strip("'").split())
            for reading in (wall, wall_ns / 1e9, moment):
                assert reading == pytest.approx(time.time() + off, abs=5)
            assert monotonic == pytest.approx(time.monotonic(), abs=5)


def test_a_datetime_of_before_the_clocks_were_replaced_still_is_one(tmp_path: Path):
    target = written(
        tmp_path,
        """
        from datetime import UTC, date, datetime
        from _datetime import datetime as Made  # what C code makes, and who imported it before
        class Own(datetime): ...
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                made = Made.now(UTC)
                are = [isinstance(each, datetime) for each in (made, datetime.now(UTC), date(2026, 1, 1))]
                return f"{are} {isinstance(made, Own)} {isinstance(Own.now(UTC), Own)}"
        """,
    )
    assert _seen(target, clock="moved") == "[True, True, False] False True"


@pytest.mark.slow
def test_a_target_that_hangs_on_a_moved_clock_is_graded_in_real_time(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import asyncio
        class Limiter:
            def __init__(self, limit, window): ...
            async def allow(self, user_id):
                await asyncio.sleep(0.01)
                return True
        """,
    )
    seen = survey(target, Settings(patience=1.5))
    assert seen.abilities.asynchronous
    assert Need.MOVED_CLOCK not in seen.met


# Services


class Scripted:
    """A service that answers each request as it is told: with bytes, and by closing the connection where they end so.

    Attributes:
        requests: The requests that came, whole.
        connections: How many were made.
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
            while not request.endswith(b"\r\n\r\n"):
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
            self._socket.shutdown(socket.SHUT_RDWR)  # who waits for a connection is woken
        self._socket.close()


CLOSE = b"<close>"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DENIED = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def _served(*answers: bytes) -> Iterator[tuple[Scripted, service.Service]]:
    scripted = Scripted(*answers)
    asked = service.Service(scripted.url)
    try:
        yield scripted, asked
    finally:
        asked.close()
        scripted.close()


def _root(scripted: Scripted) -> str:
    return scripted.url.partition("/ping")[0]


def test_200_is_allowed_and_429_is_denied_on_one_connection():
    with _served(OK, DENIED % b"7", OK) as (scripted, asked):
        assert asked.take("a") == (True, None, None)
        assert asked.take("a") == (False, 7.0, None)
        assert asked.allow("a") is True
    assert scripted.connections == 1


def test_a_key_is_escaped_and_sent_where_it_goes():
    with _served(OK) as (scripted, asked):
        asked.allow("a/b&c=d é\r\n\0")
    assert scripted.requests[0].startswith(b"GET /ping?user_id=a%2Fb%26c%3Dd%20%C3%A9%0D%0A%00 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("rest", "sent"),
    [("?user={key}", b"/?user=%7Ba%7D"), ("/a b/{key}/é?x=1%20#top", b"/a%20b/%7Ba%7D/%C3%A9?x=1%20")],
)
def test_a_url_is_sent_as_a_service_expects_it(rest: str, sent: bytes):
    with _served(OK) as (scripted, _), contextlib.closing(service.Service(_root(scripted) + rest)) as asked:
        asked.allow("{a}")
    assert scripted.requests[0].split()[1] == sent


@pytest.mark.parametrize("status", [b"302 Found", b"301 Moved Permanently", b"404 Not Found", b"500 Oops", b"204 None"])
def test_any_other_status_is_an_error_that_names_it(status: bytes):
    answer = b"HTTP/1.1 %b\r\nLocation: /ping?user_id=a\r\nContent-Length: 0\r\n\r\n" % status
    with _served(answer, OK) as (scripted, asked):
        with pytest.raises(service.UnexpectedStatus, match=f"expected status 200 or 429, got {status.decode()}"):
            asked.take("a")
        assert len(scripted.requests) == 1  # a redirect is not followed
        assert asked.allow("a")


def test_a_connection_that_the_service_closed_while_it_was_idle_costs_no_call():
    with _served(OK + CLOSE, OK) as (scripted, asked):
        assert asked.allow("a")
        assert scripted.closed.wait(5)
        time.sleep(0.05)  # for the end to come through
        assert asked.allow("b")
    assert scripted.connections == 2


@pytest.mark.parametrize("answer", [CLOSE, b"SMTP\r\n\r\n"], ids=["nothing", "no HTTP"])
def test_a_request_whose_answer_is_lost_is_not_sent_again(answer: bytes):
    with _served(OK, answer, OK) as (scripted, asked):
        assert asked.allow("a")
        with pytest.raises(Exception, match=r".") as lost:
            asked.take("b")
        assert not isinstance(lost.value, service.UnexpectedStatus)
        assert len(scripted.requests) == 2
        assert asked.allow("c")


def test_of_a_body_without_an_end_only_so_much_is_read():
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * (2 << 20)
    with _served(endless, OK) as (_, asked):
        began = time.monotonic()
        assert asked.allow("a")
        assert time.monotonic() - began < 5


def test_a_service_that_is_not_there_is_an_error_of_each_call():
    with socket.socket() as bound:  # and listens not
        bound.bind(("127.0.0.1", 0))
        asked = service.Service(f"http://127.0.0.1:{bound.getsockname()[1]}/{{key}}")
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError, match=r"^nothing listens at 127\.0\.0\.1:\d+$"):
                asked.take("a")
        target = named_service(f"http://127.0.0.1:{bound.getsockname()[1]}/{{key}}")
        with Worker(target, patience=10) as worker:
            worker.load(3, 1.0)
            [error] = worker.play([ask(0, "a")]).errors
    assert error.where == ""


def test_an_error_of_a_service_has_no_place_in_the_files_of_python():
    with _served(b"SMTP\r\n\r\n") as (scripted, _), Worker(named_service(scripted.url), patience=10) as worker:
        worker.load(3, 1.0)
        [error] = worker.play([ask(0, "a")]).errors
    assert (error.type, error.where) == ("BadStatusLine", "")


def test_a_date_to_retry_after_is_held_against_that_of_the_response():
    at, date = "Tue, 24 Nov 2020 10:00:30 GMT", "Tue, 24 Nov 2020 10:00:00 GMT"
    assert service.retry_after(at, date) == 30.0
    assert service.retry_after(at, "soon") == 0.0
    assert service.retry_after("7", date) == 7.0
    answer = DENIED.replace(b"Content", b"Date: %b\r\nContent") % (at.encode(), date.encode())
    with _served(answer) as (_, asked):
        assert asked.take("a") == (False, 30.0, None)


def test_a_retry_after_may_be_a_date():
    told = service.retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert told == pytest.approx(30, abs=3)
    assert service.retry_after("Tue, 24 Nov 2020 10:00:00 GMT") == 0.0
    far = datetime.now(UTC) + timedelta(seconds=30)
    assert service.retry_after(far.strftime("%a, %d %b %Y %H:%M:%S -0000")) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    ("header", "told"),
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
def test_a_retry_after_is_whole_seconds_or_a_date(header: str | None, told: float | None):
    assert service.retry_after(header) == told
