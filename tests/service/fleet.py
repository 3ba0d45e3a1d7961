"""Instances of the service as processes of their own, clients that ask them as fast as they can, and what that proves.

How much a round of requests proves is a matter of the machine: where it is busy, there are few answers, and each takes
long. So there are more rounds then, until all of them together would show a unit too many and one too few.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import servers
from sluicegate.proof.history import Record
from sluicegate.proof.judge import over, owed, spans, unjustified

Seen = TypeVar("Seen")

CLIENTS = (64, 32, 16, 8, 8, 8)
"""Clients in each round. If the answers of a round took too long, fewer ask in the next: each is answered sooner."""

EXACT = {"RATE_LIMIT_ON_OUTAGE": "raise", "RATE_LIMIT_DEADLINE_SECONDS": "30"}
"""For who holds every answer to the limit: on a busy machine some answers are late, and each has to be the store's."""

ENOUGH = 20
"""Denials of one kind that prove something. A single one may be chance."""


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


async def hit(ports: Sequence[int], users: Sequence[str], seconds: float, clients: int) -> list[Answer]:
    """Let clients ask without a pause, each for one user after the other, over and over."""
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
        for number in range(clients):
            group.create_task(client(number))
    return answers


class Worker(subprocess.Popen[str]):
    """A process that runs worker.py, in an environment with some more variables."""

    def __init__(self, task: dict, **more: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(task)]
        pipe = subprocess.PIPE
        super().__init__(command, env={**os.environ, **more}, stdin=pipe, stdout=pipe, text=True)

    def reads(self) -> float:
        """Wait until it is ready. Returns what its wall clock read."""
        return json.loads(self.stdout.readline())

    def begin(self) -> None:
        """Let it begin a round."""
        print("go", file=self.stdin, flush=True)

    def records(self) -> list[Record]:
        """Wait until it has ended its round."""
        return [Record(*fields) for fields in json.loads(self.stdout.readline())]


def until_proven(play: Callable[[int, int], list[Seen]], judge: Callable[[list[Seen]], list[str]]) -> list[Seen]:
    """Play a round, and more rounds while something is missing. Returns what was seen in all of them.

    ``play`` gets the number of the round, and that of its clients. ``judge`` holds what was seen in all rounds so far
    to the limits, and returns what is still missing for a proof.
    """
    seen: list[Seen] = []
    missing: list[str] = []
    for round_, clients in enumerate(CLIENTS):
        seen += play(round_, clients)
        if not (missing := judge(seen)):
            return seen
        print(f"after {len(seen)} answers there is missing: {', '.join(missing)}")
    raise AssertionError(f"{len(seen)} answers in {len(CLIENTS)} rounds prove too little: {', '.join(missing)}")


def judge(records: Sequence[Record], limit: int, window: float, *, of: str) -> list[str]:
    """Hold answers to a limit, in each window and in all. Returns what they lack to have shown any fault.

    A unit too many shows in a window that was full beyond doubt. A unit too few shows in a denial that is only just
    right: with all that may have been in its window, that was full and not more.
    """
    too_many, too_few = over(records, limit, window)[:3], unjustified(records, limit, window)[:3]
    assert not too_many, f"{of}: too many were allowed: {too_many}"
    assert not too_few, f"{of}: denied with room: {too_few}"
    allowed = Counter(record.key for record in records if record.allowed)
    seconds = max(record.end for record in records) - min(record.start for record in records)
    assert max(allowed.values()) <= limit * (seconds // window + 1), f"{of}: too many in {seconds} s: {allowed}"
    fullest = max((span.units for span in spans(records, window)), default=0)
    just_right = sum(each.record.allowed is False and each.at_most == limit for each in owed(records, limit, window))
    print(
        f"{of}: {len(records)} answers in {seconds:.1f} s, {min(allowed.values())} to {max(allowed.values())} allowed "
        f"to each, {fullest} of {limit} in the fullest window, {just_right} denials only just right"
    )
    missing = []
    if fullest < limit:
        missing.append(f"a full window of {of}, as the fullest had {fullest} of {limit}")
    if just_right < ENOUGH:
        missing.append(f"denials by {of} that are only just right, as there are {just_right}")
    return missing
