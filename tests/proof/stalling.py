"""Suspend the servers that the kit starts, again and again, to show that it accuses no limiter of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch

from sluicegate.proof import servers

Span = tuple[float, float]
"""The least and the most seconds."""


@contextmanager
def stalls(seed: int, stopped: Span = (0.05, 0.8), running: Span = (0.05, 1.2)) -> Iterator[None]:
    """Suspend all servers that are started in the block, and let them run, in turn, each for a random time."""
    random, over = Random(seed), threading.Event()
    launched: list[servers.Server] = []
    launch = servers.Server.launch

    def noted(server: servers.Server) -> None:
        launch(server)
        launched.append(server)

    def stall() -> None:
        while not over.wait(random.uniform(*running)):
            processes = [server.process for server in launched if server.process]
            alive = [process for process in processes if process.poll() is None]
            for process in alive:
                process.send_signal(signal.SIGSTOP)
            over.wait(random.uniform(*stopped))
            for process in alive:
                process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stall)
    with patch.object(servers.Server, "launch", noted):
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
