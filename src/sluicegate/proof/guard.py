"""A guard: a process that kills the kit's servers, workers and services, and removes their folders, once the kit ends.

The kit ends them itself, unless it dies of SIGKILL or is out of memory. The guard holds one end of a pipe, the kit
the other, which the system closes however the kit dies. This file is also the guard's program, on the standard library.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import TextIO

_lock = threading.Lock()
_guard: subprocess.Popen[bytes] | None = None
_kit = 0  # the process that started the guard; a fork of it has the same pipe


def watch(pid: int, folder: str = "") -> None:
    """Have a process killed, with its group if it leads one, and a folder removed, if the kit ends first."""
    _send(pid, folder)


def release(pid: int) -> None:
    """Forget a process, before its number may be given to another one."""
    _send(pid, None)


def _send(pid: int, folder: str | None) -> None:
    line = json.dumps([pid, folder]).encode() + b"\n"
    with _lock, contextlib.suppress(BrokenPipeError):  # a guard that was killed guards nothing, and does no harm
        os.write(_pipe(), line)


def _pipe() -> int:
    global _guard, _kit
    if _guard is None or _kit != os.getpid():
        # In a session of its own, out of reach of Ctrl-C; and without the site packages, to start quickly.
        _guard, _kit = (
            subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            ),
            os.getpid(),
        )
        atexit.register(_close, _guard, _kit)
    assert _guard.stdin is not None
    return _guard.stdin.fileno()


def _close(guard: subprocess.Popen[bytes], kit: int) -> None:
    if os.getpid() == kit:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def _guard_until_end(commands: TextIO) -> None:
    watched: dict[int, str] = {}
    for line in commands:
        pid, folder = json.loads(line)
        if folder is None:
            watched.pop(pid, None)
        else:
            watched[pid] = folder
    for pid in watched:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
    for folder in filter(None, watched.values()):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _guard_until_end(sys.stdin)
