"""Targets for the tests of the kit: planted ones, started where they are services, and small ones made on the spot."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.proof import servers
from sluicegate.proof.target import Target, parse, service

PLANTED = Path(__file__).parent / "planted"


@contextmanager
def planted(name: str, limit: int, window: float) -> Iterator[Target]:
    """Give the planted target of that name; a service is started, and ended afterwards."""
    if ":" in name:
        yield parse(f"{PLANTED / name}")
        return
    port = servers.free_port()
    command = [sys.executable, str(PLANTED / name), str(port), str(limit), str(window)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline().strip() == b"ready"
            yield service(f"http://127.0.0.1:{port}/ping?user_id={{key}}")
        finally:
            process.kill()


def written(folder: Path, source: str, name: str = "Limiter") -> Target:
    """Write a file with a limiter in it, and give it as a target."""
    path = folder / "target.py"
    path.write_text(textwrap.dedent(source))
    return parse(f"{path}:{name}")
