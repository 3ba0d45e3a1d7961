"""Instances of the service as processes of their own, and clients that ask them as fast as they can."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import servers
from sluicegate.proof.history import Record

CLIENTS = 64

EXACT = {"RATE_LIMIT_ON_OUTAGE": "raise", "RATE_LIMIT_DEADLINE_SECONDS": "30"}
"""For who holds every answer to the limit: on a busy machine some answers are late, and each has to be the store's."""


@contextmanager
def service(url: str, log: Path, **settings: str) -> Iterator[int]:
    """Run the service on a free port of loopback; its clients find it there once it is alive."""
    port = servers.free_port()
    settings |= {"RATE_LIMIT_BACKEND": "redis", "REDIS_URL": url}
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
    end_at = time.monotonic() + 60
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


class Answer(NamedTuple):
    """What a client was answered: the status, the interval with its user, and the fields of the response."""

    status: int
    record: Record
    fields: dict[bytes, bytes]


async def hit(ports: Sequence[int], users: Sequence[str], seconds: float) -> list[Answer]:
    """Let many clients ask without a pause, each for one user after the other, round and round."""
    answers: list[Answer] = []
    end_at = time.monotonic() + seconds

    async def client(number: int) -> None:
        async with Connection(ports[number % len(ports)]) as connection:
            for user in itertools.islice(itertools.cycle(users), number % len(users), None):
                start = time.monotonic()
                if start >= end_at:
                    return
                status, fields = await connection.get(f"/ping?user_id={user}")
                answers.append(Answer(status, Record(start, time.monotonic(), user, 1, status == 200), fields))

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number))
    return answers
