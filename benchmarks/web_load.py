"""Serve an app with uvicorn and load it with wrk: `checked` sees whether it limits, `loaded` measures it.

The app has one core to itself; wrk, and the Redis server if any, share another one.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from web_contenders import APPS, App

from sluicegate.proof.servers import Server, free_port

CONNECTIONS, USERS, PATH = 64, 100, "/ping"
_START, _STOP = 60.0, 10.0  # seconds; with 1000 routes some apps take long to start


class Unfit(Exception):
    """An app does not start, does not limit, or does not answer."""


class Load:
    """What wrk saw. All times are seconds.

    Attributes:
        seconds: The time of one request, with all connections busy: that of the run by the number of requests.
        cpu: The CPU time of one request in the app's process. It varies less where other machines share the cores.
        p99: The latency that one request in a hundred exceeds.
        refused: The share of responses with a status of 400 or more.
        log: What the app logged.
    """

    def __init__(self, result: str, cpu: float, log: str) -> None:
        seen = json.loads(result.splitlines()[-1])
        if not seen["requests"] or seen["broken"]:
            raise Unfit(f"{seen['requests']} requests were answered, and {seen['broken']} connections broke; {log}")
        self.seconds: float = seen["seconds"] / seen["requests"]
        self.cpu = cpu / seen["requests"]
        self.p99: float = seen["p99"]
        self.refused: float = seen["refused"] / seen["requests"]
        self.log = log


def checked(app: App, redis: Server | None) -> None:
    """Raise `Unfit` unless the third request is denied under a limit of 2; without a limit, unless it is answered."""
    with _served(app, redis, limit=2) as (port, _, _):
        # The first request was the one that waited for the start.
        statuses = [_status(port) for _ in range(2)]
    expected = [200, 200] if app.is_a_floor else [200, 429]
    if statuses != expected:
        raise Unfit(f"the second and third request were answered with {statuses}, not {expected}")


def loaded(app: App, redis: Server | None, seconds: int) -> Load:
    """Return what so many seconds of load come to, after one second that is not counted. Raises `Unfit`."""
    with _served(app, redis) as (port, log, pid):
        _wrk(port, 1)
        began = _cpu_seconds(pid)
        result = _wrk(port, seconds)
        cpu = _cpu_seconds(pid) - began
        log.seek(0)
        return Load(result, cpu, log.read().strip())


def missing() -> str:
    """Return why there can be no load here, or nothing."""
    return "" if shutil.which("wrk") else "wrk is not installed (apt-get install wrk)"


def in_process(app: App, requests: int) -> float:
    """Return the CPU seconds of one request to an app that no server serves. Raises `Unfit`."""
    command = [app.python, "-W", "ignore", str(APPS / "in_process.py"), app.factory, "--requests", str(requests)]
    with _on(_app_core()):
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, env={**os.environ, **app.environment()}
        )
    if done.returncode:
        raise Unfit(done.stderr.strip()[-500:])
    return float(done.stdout)


@contextmanager
def _served(app: App, redis: Server | None, limit: int = 10**9) -> Iterator[tuple[int, IO[str], int]]:
    """Serve an app in a fresh process. Yields its port, its log of warnings and errors alone, and its process."""
    if redis is not None:
        redis.client.flushall()
        if redis.process is not None and _cores():
            os.sched_setaffinity(redis.process.pid, _other_core())
    port = free_port()
    command = [app.python, "-W", "ignore", "-m", "uvicorn", app.factory, "--factory", "--app-dir", str(APPS)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    environment = {**os.environ, **app.environment(redis.url if redis else None, limit)}
    with tempfile.TemporaryFile("w+") as log:
        with _on(_app_core()):
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_served(process, port, log)
            yield port, log, process.pid
        finally:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_served(process: subprocess.Popen[bytes], port: int, log: IO[str]) -> None:
    end_at = time.monotonic() + _START
    while time.monotonic() < end_at and process.poll() is None:
        try:
            status = _status(port)
        except OSError:
            time.sleep(0.05)
            continue
        if status == 200:
            return
        raise Unfit(f"its first request was answered with {status}")
    log.seek(0)
    raise Unfit(f"it did not start: {log.read().strip()[-500:]}")


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", PATH, headers={"X-User": "user-1"})
        return connection.getresponse().status
    finally:
        connection.close()


def _wrk(port: int, seconds: int) -> str:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(APPS / "load.lua")]
    command += [f"http://127.0.0.1:{port}", "--", PATH, str(USERS)]
    with _on(_other_core()):
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far; as Linux says it, and 0 elsewhere."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _cores() -> list[int]:
    """Return the cores to choose from, in order; none where there is no choice."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores if len(cores) > 1 else []


def _app_core() -> set[int]:
    return set(_cores()[-1:])


def _other_core() -> set[int]:
    return set(_cores()[:1])


@contextmanager
def _on(core: set[int]) -> Iterator[None]:
    """Start processes on a core: they inherit it, and so do their threads."""
    if not core or sys.platform == "darwin":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
