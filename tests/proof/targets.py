"""Targets for the tests of the kit: those in the folder ``seeded``, and small ones that a test writes itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.proof import servers
from sluicegate.proof.target import Target, parse, service

SEEDED = Path(__file__).parent / "seeded"


@contextmanager
def seeded(name: str, limit: int, window: float) -> Iterator[Target]:
    """Yield a target from the folder ``seeded``. A service runs until the end of the block."""
    if ":" in name:
        yield parse(f"{SEEDED / name}")
        return
    if "redis" in name:  # the kit starts it, with a server of its own
        yield served(name)
        return
    port = servers.free_port()
    command = [sys.executable, str(SEEDED / name), str(port), str(limit), str(window)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline().strip() == b"ready"
            yield service(f"http://127.0.0.1:{port}/ping?user_id={{key}}")
        finally:
            process.kill()


def served(name: str, placeholders: str = "{port} {limit} {window} {redis}") -> Target:
    """Return a service from the folder ``seeded`` that the kit starts."""
    command = f"exec {sys.executable} {SEEDED / name} {placeholders}"
    return service("http://127.0.0.1:{port}/ping?user_id={key}", serve=command)


def written(folder: Path, source: str, name: str = "Limiter") -> Target:
    """Write a file with a limiter in it, and return it as a target."""
    path = folder / "target.py"
    path.write_text(textwrap.dedent(source))
    return parse(f"{path}:{name}")
