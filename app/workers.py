"""The workers of one server on one machine: how each of them finds the others, however they were started.

A server that runs workers (uvicorn with ``--workers`` or ``WEB_CONCURRENCY``, gunicorn) is the parent of each. Its
workers share a directory named after that parent, where each holds one place: a locked file. The operating system gives
the place back however the worker ends, and the worker that replaces it takes it over.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX = "sluicegate-workers-"
_SETTLED = 600  # seconds after which a directory that nobody has locked is left behind


@dataclass(frozen=True, slots=True)
class Place:
    """The place of this process among the workers of its server.

    Attributes:
        directory: The workers' common directory, of this user alone.
        number: From 1 up; no other living worker of the server has it. The second worker to start finds a 2, and so
            knows that it is not alone.
    """

    directory: Path
    number: int

    def is_first(self, event: str) -> bool:
        """Return True in one worker of the server, once, and False in every other one and from then on."""
        try:
            Path(self.directory, event).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def supervisor() -> int | None:
    """Return the id of the server process that started this one as a worker; None for a server of one process.

    The one process of ``uvicorn --reload`` is a worker, too: the only one that its supervisor has at a time.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:  # uvicorn starts its workers so
        return parent.pid
    return os.getppid() if "gunicorn.arbiter" in sys.modules else None


@cache
def place(server: int) -> Place:
    """Take a place among the workers of a server, for as long as this process lives.

    Args:
        server: The id of the process that `supervisor` returns.

    Raises:
        OSError: Files cannot be locked on this system, or there is no directory for temporary files.
    """
    if fcntl is None:
        raise OSError("files cannot be locked on this system")
    directory = _directory(server)
    # The descriptor stays open, and so the lock stays held.
    return Place(directory, next(n for n in count(1) if _locked(directory / f"{n}.place") is not None))


def _directory(server: int) -> Path:
    directory = Path(tempfile.gettempdir(), _name(server))
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        # Another worker's; or planted by another user, who could have us write where their links lead.
        if not _is_own(directory):
            raise PermissionError(f"{directory} belongs to another user") from None
    else:
        for left in _left_behind():
            shutil.rmtree(left, ignore_errors=True)
    return directory


def _name(server: int) -> str:
    """Return the name of a server's directory. A later process with the same id, as in a container, has another."""
    return f"{_PREFIX}{server}-{_started(server)}"


def _started(process: int) -> str:
    """Return when a process started, in ticks of the kernel; nothing if it has ended, or there is no /proc."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]  # starttime, the 22nd of proc(5): the name before the parenthesis may have spaces


def _left_behind() -> Iterator[Path]:
    """Yield the directories of servers that have ended."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        server = directory.name.removeprefix(_PREFIX).partition("-")[0]
        if not (server.isdecimal() and _is_own(directory)) or directory.name == _name(int(server)):
            continue
        # Containers may share a directory for temporary files, and know each other's processes by their locks alone;
        # between a directory's making and the first lock there is a moment.
        if time.time() - directory.lstat().st_mtime > _SETTLED and not _in_use(directory):
            yield directory


def _is_own(directory: Path) -> bool:
    """Return whether it is a directory of this user's: another one could have us follow links out of it."""
    found = directory.lstat()
    return found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)


def _in_use(directory: Path) -> bool:
    for file in directory.glob("*.place"):
        try:
            descriptor = _locked(file, os.O_RDWR)
        except OSError:  # not a file, or a link: not made by a worker
            return True
        if descriptor is None:
            return True
        os.close(descriptor)
    return False


def _locked(file: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int | None:
    """Lock a file and return its open descriptor; None if another process has locked it."""
    descriptor = os.open(file, flags | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
