"""The service as a user starts it: a process of its own, of one worker or of several."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from app.config import Settings
from machine import awake

ROOT = Path(__file__).parents[2]
UVICORN = [str(Path(sys.executable).with_name("uvicorn"))]
PYTHON_M = [sys.executable, "-m", "uvicorn"]
NAMES = tuple(name.upper() for name in Settings.model_fields)

STARTED = "Application startup complete"


def environment(**settings: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.upper() not in NAMES} | settings


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    def get(self, path: str) -> httpx2.Response:
        """Return the answer to a request on a connection of its own: any worker may take it."""
        return httpx2.get(f"{self.url}{path}", timeout=60)

    def ping(self) -> int:
        """Return the status, having checked that it came within seconds, whatever the store does."""
        began_at = awake()
        status = self.get("/ping?user_id=alice").status_code
        assert awake() - began_at < 3
        return status

    def ready(self) -> int:
        return self.get("/readyz").status_code

    def is_well(self) -> bool:
        """Tell whether requests are decided by the store."""
        return self.get("/readyz").json() == {"status": "ready"}

    def has_started(self, workers: int) -> bool:
        """Wait until so many workers have started, those that replaced others included."""
        ended_or_started = within(
            lambda: self.log.read_text().count(STARTED) >= workers or self.process.poll() is not None
        )
        return ended_or_started and self.process.poll() is None

    @property
    def workers(self) -> list[int]:
        """The ids of all worker processes that there were, in the order in which they started."""
        started = re.findall(r"Started server process \[(?:\x1b\[\d+m)*(\d+)", self.log.read_text())
        return [int(process) for process in started]

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Suspend the other workers, so that this one answers."""
        others = [process for process in self.workers if process != worker and is_alive(process)]
        for process in others:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in others:
                os.kill(process, signal.SIGCONT)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def within(happened: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def serving(
    directory: Path,
    command: Sequence[str] = (*PYTHON_M, "app.main:app", "--port", "0"),
    *,
    workers: int = 1,
    **settings: str,
) -> Iterator[Service]:
    """Run the service until the block ends; it begins when all workers have started."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(**settings), stdout=output, stderr=subprocess.STDOUT
        )
    service = Service(process, log)
    try:
        assert service.has_started(workers), log.read_text()
        assert within(lambda: "http://" in log.read_text())  # uvicorn says where it listens after that
        service.url = re.search(r"(?:running on|Listening at:) (http://\S+)", log.read_text())[1]
        yield service
    finally:
        process.terminate()
        process.wait(60)  # uvicorn looks after a worker that has just been killed or started first


@contextmanager
def serving_with_more(directory: Path, **settings: str) -> Iterator[Service]:
    """Run the service with the endpoints of service_with_more.py; `/slow` waits for a file ``go`` in the directory."""
    program = Path(__file__).with_name("service_with_more.py")
    command = [sys.executable, str(program), "--port", "0", str(directory / "go")]
    with serving(directory, command, PYTHONPATH=str(ROOT), **settings) as service:
        try:
            yield service
        except BaseException:
            service.process.kill()  # the test that failed may have set it up to drain for an hour
            raise
