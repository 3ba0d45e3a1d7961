"""One core for this process and a server, so that what is measured is work and not luck with a second core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.proof.servers import Server


@contextmanager
def one_core(server: Server) -> Iterator[None]:
    """Keep both on one core, where the system knows how."""
    if not hasattr(os, "sched_setaffinity") or server.process is None:
        yield
        return
    mine, theirs = os.sched_getaffinity(0), os.sched_getaffinity(server.process.pid)
    core = {max(mine)}
    os.sched_setaffinity(0, core)
    os.sched_setaffinity(server.process.pid, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)
        os.sched_setaffinity(server.process.pid, theirs)
