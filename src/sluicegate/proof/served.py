"""`Served`: a service that the kit starts by a command, to be called over HTTP."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from sluicegate.proof import guard
from sluicegate.proof.servers import free_port
from sluicegate.proof.target import Target, at_port

_START = 60.0  # seconds in which it must listen; many start at once, on a machine that may be busy
_SHOWN = 4000  # bytes of its output that are kept
_instances = itertools.count(1)


class DidNotStart(Exception):
    """The service ended, or did not listen in time. The text says which, without a subject.

    Attributes:
        output: The last of what it printed.
        whole: Whether its window was in whole seconds. A service may take no other.
    """

    def __init__(self, says: str, output: str, *, whole: bool) -> None:
        super().__init__(says)
        self.output, self.whole = output, whole


_ports: set[int] = set()  # that were handed out: two instances that start at once must not get the same one


def _unused_port() -> int:
    while (port := free_port()) in _ports:
        pass
    _ports.add(port)
    return port


class Served:
    """One instance of a service, in a process group of its own.

    Args:
        target: A target with a command in ``serve``.
        limit, window, redis_url: For the placeholders in the command.

    Attributes:
        target: The same target at the port of this instance.

    Raises:
        DidNotStart: It does not listen. Nothing is left behind.
    """

    def __init__(self, target: Target, limit: int, window: float, redis_url: str | None) -> None:
        self._closed = False
        self._settings = f"with a limit of {limit} and a window of {window:.9g} s"
        self._whole = float(window).is_integer()
        port = _unused_port()
        self.target = at_port(target, port)
        values = {"port": port, "limit": limit, "window": f"{window:.9g}", "redis": redis_url or ""}
        command = target.serve
        for name, value in {**values, "instance": next(_instances)}.items():
            command = command.replace(f"{{{name}}}", str(value))
        self._folder = tempfile.mkdtemp(prefix="sluicegate-service-")
        # A file, not a pipe: a service must not have to wait for its output to be read.
        with Path(self._folder, "output").open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self._process.pid, self._folder)
        try:
            self._wait(urlsplit(self.target.where["url"]).hostname or "", port)
        except BaseException:
            self.close()
            raise

    @property
    def output(self) -> str:
        """The last of what it printed."""
        with suppress(FileNotFoundError), Path(self._folder, "output").open("rb") as printed:
            printed.seek(max(0, printed.seek(0, os.SEEK_END) - _SHOWN))
            return printed.read().decode("utf-8", "backslashreplace")
        return ""

    def close(self) -> None:
        """Kill it with everything it started, unless that has left its process group. A second call does nothing."""
        if self._closed:  # its number may be another group's by now
            return
        self._closed = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        guard.release(self._process.pid)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, host: str, port: int) -> None:
        end_at = time.monotonic() + _START
        while time.monotonic() < end_at:
            code = self._process.poll()
            if code is not None:
                ended = f"died of signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise self._did_not_start(f"{ended} before it listened on port {port}")
            with suppress(OSError), socket.create_connection((host, port), timeout=1):
                return
            time.sleep(0.02)
        raise self._did_not_start(f"did not listen on port {port} within {_START:g} s")

    def _did_not_start(self, how: str) -> DidNotStart:
        return DidNotStart(f"{how}, {self._settings}", self.output, whole=self._whole)
