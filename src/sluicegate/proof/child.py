"""`Child`: a process in its own session, with two pipes that carry lines, and its captured output.

The child may hang, die, flood its output, or leave processes behind that hold its pipes open: no call here blocks for
longer than its time-out.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from sluicegate.proof import guard
from sluicegate.proof.worker import PIPES_CLOSED

FLOOD = 10_000_000
"""Bytes that a child may print before it is killed."""

_SHOWN = 4000  # bytes of its output that are kept
_LARGEST_LINE = 1 << 27
_TICK = 0.1  # seconds between two checks that the process is still alive


class ChildFailed(Exception):
    """The child can no longer be used. The text says why, without a subject: ``hung: no answer within 3 s``."""


class ChildHung(ChildFailed):
    """The child did not answer in time. If it prints its stack on SIGUSR1, the stack is at the end of its output."""


class Child:
    """One process.

    Args:
        command: The command to run. Two arguments are appended: the file descriptors to read from and to write to.

    Raises:
        OSError, ValueError: The process cannot be started. Nothing is left behind.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._received, self._output = bytearray(), b""
        self._printed, self._flooded, self._closed = 0, False, False
        with ExitStack() as stack:
            home = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="sluicegate-grade-", ignore_cleanup_errors=True)
            )
            theirs_in, self._commands = os.pipe()
            stack.callback(os.close, self._commands)
            self._replies, theirs_out = os.pipe()
            stack.callback(os.close, self._replies)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the caller chooses the command
                    [*command, str(theirs_in), str(theirs_out)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs_in, theirs_out),
                    env=_environment(home),
                    start_new_session=True,
                )
            finally:
                os.close(theirs_in)
                os.close(theirs_out)
            guard.watch(self._process.pid, home)
            stack.callback(guard.release, self._process.pid)
            self._left = stack.pop_all()
        os.set_blocking(self._commands, False)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """The last of what the process printed."""
        return self._output.decode("utf-8", "backslashreplace")

    def send(self, line: bytes, within: float) -> None:
        """Send one line, given without its line feed. Raises `ChildFailed` if it is not read within so many seconds."""
        left, end_at = memoryview(line + b"\n"), time.monotonic() + within
        while left:
            if not select.select([], [self._commands], [], max(0.0, end_at - time.monotonic()))[1]:
                raise self._hung(within)
            try:
                left = left[os.write(self._commands, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._down(self._death()) from None

    def receive(self, within: float) -> bytes:
        """Return the next line. Raises `ChildFailed` if none arrives within so many seconds, or none can arrive."""
        end_at, searched = time.monotonic() + within, 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > _LARGEST_LINE:
                raise self._down("answered with a line that is too long")
            self._received += self._more(end_at, within)
        if self._flooded:
            raise self._down(self._death())
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _more(self, end_at: float, within: float) -> bytes:
        while True:
            # A process that the child left behind may hold the pipe open, so the end of the child is not the end of
            # the pipe. Poll before reading: then everything the child wrote before it ended is still read.
            ended = self._process.poll() is not None
            if select.select([self._replies], [], [], 0 if ended else _TICK)[0]:
                data = os.read(self._replies, 1 << 20)
                if data:
                    return data
                ended = True
            if ended or self._flooded:
                raise self._down(self._death())
            if time.monotonic() >= end_at:
                raise self._hung(within)

    def close(self) -> None:
        """Kill the process and everything it started. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._kill()
        self._process.wait()
        self._reader.join()
        self._left.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter when all of them have ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _death(self) -> str:
        if self._flooded:
            return f"printed more than {FLOOD // 1_000_000} MB and was stopped"
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed the kit's pipes"
        if code == PIPES_CLOSED:
            return "closed the kit's pipes"
        if code < 0:
            return f"died of signal {-code} ({signal.strsignal(-code)})"
        return f"ended its process with exit code {code}"

    def _hung(self, within: float) -> ChildHung:
        printed = self._printed
        self._process.send_signal(signal.SIGUSR1)  # makes it print where it hangs
        for _ in range(20):
            time.sleep(0.05)
            if self._printed > printed:
                break
        self._reader.join(0.1)  # for the end of that output
        return ChildHung(f"hung: no answer within {within:.3g} s")

    def _down(self, how: str) -> ChildFailed:
        self._reader.join(0.1)
        return ChildFailed(how)

    def _drain(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            # Do not read to the end of the pipe: a process in another session, out of reach of our signals, may hold it
            # open.
            while not self._closed:
                if not select.select([pipe], [], [], _TICK)[0]:
                    continue
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    return
                self._output = (self._output + data)[-_SHOWN:]
                self._printed += len(data)
                if self._printed > FLOOD:
                    self._flooded = True
                    self._kill()
                    return


def _environment(home: str) -> dict[str, str]:
    # Only what an interpreter needs: the environment of the user who runs the kit may hold secrets.
    kept = (
        *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYENV_VERSION", "VIRTUAL_ENV"),
        *("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    )
    return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": home, "TMPDIR": home}
