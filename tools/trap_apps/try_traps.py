"""Try one library in the traps, in the environment that has it, and print what came as lines of JSON.

python tools/trap_apps/try_traps.py slowapi --redis redis://127.0.0.1:6379 --pid 4711 [--only clients,mount]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kit import Kit, Library, NothingToTry, NoWay
from traps import TRAPS, Finding, Server, Trap, Trial, served_app

STACK = ("fastapi", "starlette", "uvicorn")


def main() -> None:
    parser = argparse.ArgumentParser(description="Try one library in the traps, and print lines of JSON.")
    parser.add_argument("package")
    parser.add_argument("--redis", help="the URL of a server that may be emptied and frozen")
    parser.add_argument("--pid", type=int, help="the process of that server")
    parser.add_argument("--only", help="the ids of some traps, with commas")
    given = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")  # of FastAPI on root_path=, and of Sluicegate on so many limiters in one process
    server = Server(given.redis, given.pid) if given.redis else None
    print(json.dumps({"versions": {name: version(name) for name in (given.package, *STACK)}}), flush=True)
    only = given.only.split(",") if given.only else None
    for trap in TRAPS:
        if (only is None or trap.id in only) and (server or not trap.on_server):
            print(json.dumps({"trap": trap.id, "tried": list(tried(trap, library(given.package), server))}), flush=True)


def library(name: str) -> Library:
    found: Library = importlib.import_module(f"{name.replace('-', '_')}_apps").LIBRARY
    return found


def tried(trap: Trap, these: Library, server: Server | None) -> Iterator[dict[str, Any]]:
    """Try the kits that fit, and give for each its verdict and the evidence."""
    for kit in these.kits:
        if not trap.fits(kit):
            continue
        try:
            finding = _tried(trap, Trial(kit, these, server if trap.on_server else None))
        except (NoWay, NothingToTry) as why:
            verdict = "no way" if isinstance(why, NoWay) else "nothing to try"
            yield {"kit": kit.label, "in_readme": kit.in_readme, "verdict": verdict, "says": str(why)}
            return
        verdict = "right" if finding.is_right else "wrong"
        yield {"kit": kit.label, "in_readme": kit.in_readme, "verdict": verdict, "says": finding.says}
        if finding.is_right and trap.is_slow:
            return


def _tried(trap: Trap, trial: Trial) -> Finding:
    if trial.server:
        _emptied(trial.server.url)
    try:
        return asyncio.run(trap.tried(trial))
    except (NoWay, NothingToTry):
        raise
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {error}")


def _emptied(url: str) -> None:
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "127.0.0.1", place.port or 6379), 30) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(64)


def served() -> Any:
    """Return the app that the environment describes, for a real server."""
    name, kit, method, redis = os.environ["TRAP"].split(" ")
    kinds: dict[str, type[Kit]] = {each.__name__: each for each in library(name).kits}
    return served_app(kinds[kit](redis or None), method)


if __name__ == "__main__":
    main()
