"""A fleet on real processes and a real server, and what its clients saw: never over, and never under."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

import servers
from headgate.proof.history import Record
from headgate.proof.judge import over, spans, unjustified

LIMIT, WINDOW, SECONDS = 50, 1, 10
USERS = [f"user-{n}" for n in range(20)]
CLIENTS = 64

pytestmark = pytest.mark.slow


@pytest.fixture(params=servers.kinds() or ["none"])
def own_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A server of the test's own: the service has no prefix to keep its keys apart by."""
    if request.param == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    with servers.running(request.param) as server:
        yield server


def test_two_instances_of_the_service_allow_each_user_the_limit_and_not_one_more(
    own_server: servers.Server, tmp_path: Path
):
    with service(own_server.url, tmp_path / "one") as one, service(own_server.url, tmp_path / "two") as two:
        answers = asyncio.run(hit([one, two]))
    assert {status for status, _, _ in answers} <= {200, 429, 503}
    for status, _, retry_after in answers:
        assert retry_after == b"" if status == 200 else retry_after.isdigit() and int(retry_after) >= 1
    decided = [record for status, record, _ in answers if status != 503]
    # No answer from the store within its half second, on a busy machine: the unit may have been taken, or not.
    undecided = [record for status, record, _ in answers if status == 503]
    assert len(undecided) <= len(answers) / 1000
    judge(decided, undecided, source="two instances of the service")


def test_four_processes_that_use_the_library_allow_each_user_the_limit_and_not_one_more(
    server: servers.Server, prefix: str
):
    task = {"url": server.url, "prefix": prefix, "limit": LIMIT, "window": WINDOW}
    task |= {"keys": USERS, "threads": 4, "seconds": SECONDS}
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(task)) for _ in range(4)]
        for each in workers:
            each.stdout.readline()  # it is ready
        for each in workers:
            each.stdin.write("go\n")
            each.stdin.flush()
        records = [Record(*fields) for each in workers for fields in json.load(each.stdout)]
        assert [each.wait() for each in workers] == [0] * 4
    judge(records, [], source="four processes")


def judge(records: list[Record], undecided: list[Record], *, source: str) -> None:
    """Hold all that was answered to the limit, from above and from below; and refuse to say so of too little.

    What is undecided is none of the units allowed, but may be what a denial was for.
    """
    allowed = Counter(record.key for record in records if record.allowed)
    denied = Counter(record.key for record in records if not record.allowed)
    fullest = max(span.units for span in spans(records, WINDOW))
    print(
        f"{source}: {len(records)} decisions, {denied.total()} denied; each user was allowed "
        f"{min(allowed.values())} to {max(allowed.values())}, and certainly at most {fullest} in less than a window"
    )
    assert over(records, LIMIT, WINDOW)[:3] == []
    may_be_allowed = [record._replace(allowed=True) for record in undecided]
    assert unjustified([*records, *may_be_allowed], LIMIT, WINDOW)[:3] == []

    full = LIMIT * SECONDS // WINDOW
    too_slow = f"{len(records)} decisions in {SECONDS} s are too few to prove anything: is the machine slow, or busy?"
    assert len(records) > 1.05 * full * len(USERS), too_slow
    assert min(denied[user] for user in USERS) >= 20, f"a user was hardly ever denied. {too_slow}"
    assert min(allowed[user] for user in USERS) >= 0.8 * full, f"a user was not allowed its rate. {too_slow}"
    assert max(allowed.values()) <= full + LIMIT
    # Allowed within less than a window, beyond doubt: so the delays were short enough to see a unit too many.
    assert fullest == LIMIT, f"no window was seen full, only {fullest} of {LIMIT}. {too_slow}"


@contextmanager
def service(url: str, log: Path) -> Iterator[int]:
    """Run the service on a free port of loopback; its clients find it there once it is alive."""
    port = servers.free_port()
    settings = {
        "RATE_LIMIT_BACKEND": "redis",
        "REDIS_URL": url,
        "RATE_LIMIT_REQUESTS": str(LIMIT),
        "RATE_LIMIT_WINDOW_SECONDS": str(WINDOW),
    }
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--no-access-log"]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
            cwd=Path(__file__).parents[2],
        ) as process,
    ):
        try:
            assert asyncio.run(alive(port, process)), f"the service did not start: {log.read_text()}"
            yield port
        finally:
            process.terminate()


async def alive(port: int, process: subprocess.Popen[bytes]) -> bool:
    end_at = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end_at:
        try:
            async with Connection(port) as connection:
                return (await connection.get("/healthz"))[0] == 200
        except OSError:
            await asyncio.sleep(0.05)
    return False


class Connection:
    """One connection that is kept alive: as little of HTTP as the service's answers need, so that it is fast."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def get(self, path: str) -> tuple[int, dict[bytes, bytes]]:
        """Return the status and the fields of the response."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        await self.reader.readexactly(int(fields[b"content-length"]))
        return int(first.split()[1]), fields


async def hit(ports: Sequence[int]) -> list[tuple[int, Record, bytes]]:
    """Let many clients ask without a pause, each for one user after the other. Returns status, record, Retry-After."""
    answers: list[tuple[int, Record, bytes]] = []
    end_at = time.monotonic() + SECONDS

    async def client(number: int) -> None:
        async with Connection(ports[number % len(ports)]) as connection:
            for user in itertools.islice(itertools.cycle(USERS), number % len(USERS), None):
                start = time.monotonic()
                if start >= end_at:
                    return
                status, fields = await connection.get(f"/ping?user_id={user}")
                record = Record(start, time.monotonic(), user, 1, status == 200)
                answers.append((status, record, fields.get(b"retry-after", b"")))

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number))
    return answers


def worker(task: dict) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(task)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
