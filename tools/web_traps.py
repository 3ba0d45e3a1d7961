"""Try Sluicegate and its peers in the web traps, and write docs/comparison-web.json and its section of the comparison.

    make compare-web                                         all of them
    .venv/bin/python tools/web_traps.py --only NAME          one of them; the others stay as they were
    .venv/bin/python tools/web_traps.py --from-json          only write the page again, from the last results

All of them take two minutes. They may run on a busy machine: nearly every verdict is on what came in which order, and
an event loop counts as blocked only if it stood still for 1.5 s twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from compare import write_page
from web_traps_page import APPS, LIBRARIES, ROOT, WEB_DATA, Tried, TriedLibrary, load, save

from sluicegate.proof import servers

PEERS_PYTHON = ROOT / ".venv-web-peers" / "bin" / "python"


def main() -> None:
    chosen = _arguments()
    found = load()
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = tried(name)
        save(found)  # after each one, so that an aborted run keeps its results
    write_page()
    print(f"written: {WEB_DATA.relative_to(ROOT)}, docs/comparison.md", file=sys.stderr)


def _arguments() -> Sequence[str]:
    parser = argparse.ArgumentParser(
        description="Try Sluicegate and its peers in the web traps, and write docs/comparison-web.json and the section "
        'on FastAPI of docs/comparison.md. All of them take two minutes. "make compare-web" installs the peers first.'
    )
    parser.add_argument("--only", action="append", metavar="NAME", choices=LIBRARIES, help="only this one; repeatable")
    parser.add_argument("--from-json", action="store_true", help="only write the page again")
    given = parser.parse_args()
    if given.from_json:
        return ()
    return given.only or LIBRARIES


def tried(name: str) -> TriedLibrary:
    """Try one library, in the environment that has it and on a server of its own."""
    python = sys.executable if name == "sluicegate" else str(PEERS_PYTHON)
    with servers.running(next(iter(servers.binaries()))) as server:
        assert server.process is not None  # noqa: S101 - it was started here
        on = ["--redis", server.url, "--pid", str(server.process.pid)]
        command = [python, str(APPS / "try_traps.py"), name, *on]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        version = server.version
    first, *rest = map(json.loads, printed.splitlines())
    return TriedLibrary(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        server=version,
        versions=first["versions"],
        traps={line["trap"]: [Tried(**each) for each in line["tried"]] for line in rest},
    )


if __name__ == "__main__":
    main()
