"""Grade Sluicegate and its peers one after the other, and write docs/comparison.json and docs/comparison.md.

    make compare                                         all of them
    .venv/bin/python tools/compare.py --only NAME        one of them; the others stay as they were
    .venv/bin/python tools/compare.py --from-json        only write the page again, from the last results

All of them take half an hour. Many cases measure milliseconds: nothing else should run meanwhile. The page's section on
FastAPI is made by tools/web_traps.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import web_traps_page
from comparison import Graded, load, page, save
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from table import PEERS, Peer, url

from sluicegate.proof import servers
from sluicegate.proof.case import Case
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import CouldNotRun, OnResult, choose, grade
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.target import Target, parse, service

ROOT = Path(__file__).resolve().parent.parent
DATA, PAGE = ROOT / "docs" / "comparison.json", ROOT / "docs" / "comparison.md"
LIMIT, WINDOW = 5, 1.0
SERVICE_WINDOW = 2.0
"""Seconds. A service reports its waits in whole seconds, so with a window of one second every wait would be right."""


def main() -> None:
    chosen = _arguments()
    graded = load(DATA)
    console = Console(stderr=True)
    for number, peer in enumerate(chosen, 1):
        with _progress(f"{number}/{len(chosen)} {peer.name}", console) as on_result:
            graded[peer.name] = _graded(peer, on_result)
        save(graded, DATA)  # after each one, so that an aborted run keeps its results
    write_page()
    console.print(f"written: {DATA.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


def write_page() -> None:
    """Write the page from the last results, of the proof kit and of the web traps."""
    PAGE.write_text(page(PEERS, load(DATA), web_traps_page.section(web_traps_page.load())), encoding="utf-8")


def _arguments() -> Sequence[Peer]:
    parser = argparse.ArgumentParser(
        description="Grade Sluicegate and its peers, and write docs/comparison.json and docs/comparison.md. All of "
        "them take half an hour, one of them 15 seconds to two minutes. Nothing else should run meanwhile."
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--from-json", action="store_true", help="only write the page again")
    given = parser.parse_args()
    if given.from_json:
        return ()
    by_name = {peer.name: peer for peer in PEERS}
    for name in given.only or ():
        if name not in by_name:
            parser.error(f"--only must be one of {', '.join(by_name)}, got {name!r}")
    return [by_name[name] for name in given.only] if given.only else PEERS


def _cases() -> list[Case]:
    # Switching threads between the lines of the target's file shows nothing here: that file is an adapter.
    return [case for case in choose(strict=True) if Requirement.FILE not in case.requires]


def _graded(peer: Peer, on_result: OnResult) -> Graded:
    with _target(peer) as (target, window):
        try:
            report = grade(target, GradeSettings(LIMIT, window, python=peer.python), _cases(), on_result)
        except CouldNotRun as why:
            raise SystemExit(str(why)) from None
    versions = {**_installed(peer), **report.versions}
    return Graded.of(report, versions, f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")


@contextmanager
def _target(peer: Peer) -> Iterator[tuple[Target, float]]:
    if not peer.is_service:
        yield parse(peer.spec), WINDOW
        return
    with servers.running(next(iter(servers.binaries()))) as redis:
        port = servers.free_port()
        environment = {**os.environ, **peer.environment(LIMIT, SERVICE_WINDOW, redis.url)}
        process = subprocess.Popen(peer.command(port), env=environment, cwd=ROOT)
        try:
            _wait_for(port, process)
            yield service(url(port)), SERVICE_WINDOW
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    # Connect but send no request: a limiter that all users share would count it.
    end_at = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end_at:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the service did not start")


def _installed(peer: Peer) -> dict[str, str]:
    """Return the versions of a peer's package and of its Redis client in its environment."""
    names = peer.installed
    script = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run([peer.python, "-c", script, *names], check=True, capture_output=True, text=True).stdout
    return dict(zip(names, found.split(), strict=True))


@contextmanager
def _progress(name: str, console: Console) -> Iterator[OnResult]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=len(_cases()))
        yield lambda _: progress.advance(task)


if __name__ == "__main__":
    main()
