"""A child: one process in a session of its own, two pipes to speak with it line by line, and what it prints.

Nothing that it does holds up this side for longer than was allowed: it may hang, die, flood its output, or leave
processes behind that hold its pipes open.
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

from sluicegate.proof.worker import PIPES_CLOSED

FLOOD = 10_000_000
"""Bytes that a child may print before it is stopped."""

_SHOWN = 4000  # of what it printed
_LARGEST_LINE = 1 << 27
_TICK = 0.1  # seconds between two looks at whether there is still somebody to wait for


class Down(Exception):
    """The child is no use any more. The text says how it went, without its subject: ``hung: no answer within 3 s``."""


class Hung(Down):
    """It did not answer in time. Where it prints its stack on SIGUSR1, that is the last of its output."""


class Child:
    """One process.

    Args:
        command: What to run. Two numbers are added to it: the descriptors to read lines from and to write lines to.

    Raises:
        OSError, ValueError: It cannot be started. Nothing is left of it.
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
                self._process = subprocess.Popen(  # noqa: S603 - running what it is given is what this is for
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
            self._left = stack.pop_all()
        os.set_blocking(self._commands, False)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """The last of what it printed."""
        return self._output.decode("utf-8", "backslashreplace")

    def send(self, line: bytes, within: float) -> None:
        """Send a line, which has no end of its own. Raises `Down` where it is not read within so many seconds."""
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
        """Wait for one line. Raises `Down` where none comes within so many seconds, or none can come any more."""
        end_at, searched = time.monotonic() + within, 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > _LARGEST_LINE:
                raise self._down("answered without an end")
            self._received += self._more(end_at, within)
        if self._flooded:
            raise self._down(self._death())
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _more(self, end_at: float, within: float) -> bytes:
        while True:
            # A process that it left behind may hold the pipe open: its end is not the end of the pipe. It is looked at
            # first, so that what it wrote before is still read.
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
        """Kill the process and all that it started. Again: nothing happens."""
        if self._closed:
            return
        self._closed = True
        self._kill()
        self._process.wait()
        self._reader.join()
        self._left.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the latter is how macOS says that all of them have ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _death(self) -> str:
        if self._flooded:
            return f"printed more than {FLOOD // 1_000_000} MB, and was stopped"
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed the kit's own pipes"
        if code == PIPES_CLOSED:
            return "closed the kit's own pipes"
        if code < 0:
            return f"died of signal {-code} ({signal.strsignal(-code)})"
        return f"ended its process with exit code {code}"

    def _hung(self, within: float) -> Hung:
        printed = self._printed
        self._process.send_signal(signal.SIGUSR1)  # it prints where it hangs
        for _ in range(20):
            time.sleep(0.05)
            if self._printed > printed:
                break
        self._reader.join(0.1)  # for the last that it printed
        return Hung(f"hung: no answer within {within:.3g} s")

    def _down(self, how: str) -> Down:
        self._reader.join(0.1)
        return Down(how)

    def _drain(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            # Not to the end of the pipe: who holds it open may be in a session of its own, where no signal reaches it.
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
    # What an interpreter needs, and nothing else: whoever runs the kit may have secrets in the environment.
    kept = (
        *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYENV_VERSION", "VIRTUAL_ENV"),
        *("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    )
    return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": home, "TMPDIR": home}
