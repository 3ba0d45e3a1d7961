"""The command ``python -m app``: serve, drain when told to stop, and exit with 0."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any


def main() -> None:
    """Serve on one address, in one process."""
    # Before the imports, which take a moment: the first process of a container ignores signals that it does not handle.
    # When uvicorn has stopped, it raises the signals that it has handled once more, for these handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    arguments = _parser().parse_args()  # needs no valid settings
    from app.config import load  # noqa: PLC0415
    from app.drain import DrainingServer  # noqa: PLC0415
    from app.main import app  # noqa: PLC0415

    settings = load()
    server = DrainingServer(
        app,
        app.state.drain,
        delay=settings.drain_delay_seconds,
        grace=settings.drain_grace_seconds,
        host=arguments.host,
        port=arguments.port,
    )
    server.run()
    if not server.started:  # older versions of uvicorn say so only in the log
        sys.exit(3)


def _exit(*_: Any) -> None:
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve /ping, limited for each user.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="the port to listen on (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main()
