"""Workers, seen from the kit: processes that run the target, bounded in time, memory and what they print.

A worker that goes down raises `TargetFailed` in the case that asked for it, with a line that says how: it hung, died,
raised, flooded its output, or answered rubbish. This bounds accidents. It is no sandbox: a target can do whatever the
user can who runs the kit.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import TracebackType
from typing import Any, NamedTuple, Self

from headgate.proof.history import Record
from headgate.proof.target import Target

FLOOD = 10_000_000
"""Bytes that a target may print before it is stopped."""

_SHOWN = 2000
_LARGEST_REPLY = 1 << 28
_LEAD = 0.05  # seconds from the last command of a play to its beginning: all workers have read theirs by then


class TargetFailed(Exception):
    """The target went down, or could not be loaded.

    Attributes:
        output: The last of what it had printed.
    """

    def __init__(self, says: str, output: str = "") -> None:
        super().__init__(says)
        self.output = output


class Step(NamedTuple):
    """What a lane does from one moment of a play on; see `ask` and `keep_asking`."""

    at: float
    until: float | None
    times: int
    pause: float
    verb: str
    cost: int
    keys: Sequence[str]


Lane = Sequence[Step]


def ask(at: float, key: str, times: int = 1, *, cost: int = 1, pause: float = 0.0, verb: str = "allow") -> Step:
    """Ask ``times`` times for one key, from ``at`` seconds of the play on."""
    return Step(at, None, times, pause, verb, cost, (key,))


def keep_asking(at: float, until: float, *keys: str, pause: float, verb: str = "allow") -> Step:
    """Ask for one key after the other from ``at`` until ``until``, ``pause`` seconds apart."""
    return Step(at, until, sys.maxsize, pause, verb, 1, keys)


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that a call of the target raised: its type, its text, where, and how many calls raised it."""

    type: str
    message: str
    where: str
    times: int

    def __str__(self) -> str:
        where = f" at {self.where}" if self.where else ""
        return f"{self.type}: {self.message}{where} ({self.times} {'call' if self.times == 1 else 'calls'})"


@dataclass(frozen=True, slots=True)
class Played:
    """What a play brought.

    Attributes:
        records: All answers, in the order in which each lane had them.
        errors: What was raised; its records have no answer.
        odd: Answers of ``allow`` that were no bool, and how many of each.
        stalled: Seconds that the event loop was held up at the most, where there is one.
    """

    records: list[Record] = field(default_factory=list)
    errors: list[Raised] = field(default_factory=list)
    odd: dict[str, int] = field(default_factory=dict)
    stalled: float = 0.0


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a target has beside ``allow``, and how it is made.

    Attributes:
        takes_redis: Its third argument is the URL of a Redis.
        asynchronous: Its verbs are to be awaited.
        cost: ``allow`` takes a cost; ``take_cost``: so does ``take``.
        take, peek, wait, retry_after: It has the verb.
    """

    takes_redis: bool
    asynchronous: bool
    take: bool
    peek: bool
    wait: bool
    retry_after: bool
    cost: bool
    take_cost: bool


class Worker:
    """One process with the target in it.

    Args:
        target: What to load.
        python: The interpreter to run it with; this one by default.
        memory: MiB that it may hold.
        patience: Seconds that a command may take beyond what it is known to last, before the target is said to hang.
    """

    def __init__(
        self, target: Target, *, python: str = sys.executable, memory: int = 1024, patience: float = 20
    ) -> None:
        self._target, self._memory, self._patience = target, memory, patience
        self._number, self._pending, self._buffer = 0, 0.0, b""
        self._moved = self._closed = False
        self._output, self._printed, self._flooded = b"", 0, False
        self._folder = tempfile.TemporaryDirectory(prefix="headgate-grade-")
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        script = str(resources.files("headgate.proof") / "worker.py")
        self._process = subprocess.Popen(  # noqa: S603 - running what it is given is what this is for
            [python, "-P", "-B", "-u", script, str(commands), str(replies)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(commands, replies),
            env=_environment(self._folder.name),
            start_new_session=True,
        )
        os.close(commands)
        os.close(replies)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def load(
        self,
        limit: int,
        window: float,
        *,
        redis_url: str | None = None,
        clock: str = "real",
        wall: float = 0.0,
        trace: bool = False,
    ) -> Abilities:
        """Load the target and make a limiter of it.

        Args:
            limit: Units per window.
            window: Seconds.
            redis_url: Given to a target that takes one; without it such a target is only looked at.
            clock: ``real``; ``moved``, to stand still but for `advance`; or ``wall``, to be moved by `set_wall`.
            wall: Seconds that its wall clock is off by.
            trace: Whether to count its memory, which makes it slow.

        Raises:
            TargetFailed: It could not be loaded.
        """
        self._moved = clock == "moved"
        reply = self._do(
            {
                "do": "load",
                "target": dict(self._target.where),
                "limit": limit,
                "window": window,
                "redis_url": redis_url,
                "clock": "wall" if wall and clock == "real" else clock,
                "wall": wall,
                "memory": self._memory,
                "trace": trace,
            }
        )
        return Abilities(**{name: bool(reply.get(name)) for name in Abilities.__slots__})

    def play(
        self,
        *lanes: Lane,
        begin_at: float | None = None,
        lasts: float = 0.0,
        restless: bool = False,
        keep: bool = True,
    ) -> Played:
        """Let each lane ask in a thread or task of its own, and return what came.

        Args:
            lanes: What to ask.
            begin_at: `time.monotonic` at which the play begins; soon, by default.
            lasts: Seconds that it takes beyond the last time named in a step.
            restless: Switch threads between the lines of the target's file.
            keep: False to let the records go.

        Raises:
            TargetFailed: The target went down.
        """
        self.begin(*lanes, begin_at=begin_at, lasts=lasts, restless=restless, keep=keep)
        return self.played()

    def begin(
        self,
        *lanes: Lane,
        begin_at: float | None = None,
        lasts: float = 0.0,
        restless: bool = False,
        keep: bool = True,
    ) -> None:
        """Begin a play, so that several workers can play at once; `played` waits for its end."""
        begin_at = begin_at or soon()
        ends = max((step.until or step.at for lane in lanes for step in lane), default=0.0)
        command = {"do": "play", "lanes": lanes, "begin_at": begin_at, "restless": restless, "keep": keep}
        # A moved clock does not make anybody wait.
        self._send(command, lasts if self._moved else max(0.0, begin_at - time.monotonic()) + ends + lasts)

    def played(self) -> Played:
        """Wait for the end of the play that was begun. Raises `TargetFailed` where the target went down."""
        reply = self._receive()
        try:
            return Played(
                [Record(*fields[:5], _wait(fields[5]), fields[6]) for fields in reply["records"]],
                [Raised(**each) for each in reply["errors"]],
                dict(reply["odd"]),
                float(reply["stalled"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._down("answered rubbish on the kit's own pipe") from error

    def pace(self, keys: Sequence[str], times: int, rounds: int) -> list[float]:
        """Measure a decision: for each round the mean seconds of ``times`` calls of ``allow``."""
        reply = self._do({"do": "pace", "keys": keys, "times": times, "rounds": rounds})
        return [float(each) for each in reply["rounds"]]

    def advance(self, seconds: float) -> None:
        """Move a moved clock."""
        self._do({"do": "clock", "advance": seconds})

    def set_wall(self, seconds: float) -> None:
        """Step the wall clock of a worker loaded with ``clock="wall"``: it is off by so much from now on."""
        self._do({"do": "clock", "wall": seconds})

    def memory(self) -> int:
        """Count the bytes that Python's objects hold, where it was loaded with ``trace``."""
        return int(self._do({"do": "memory"})["bytes"])

    @property
    def output(self) -> str:
        """The last of what the target printed."""
        return self._output.decode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Kill the process and all that it started. Again: nothing happens."""
        if self._closed:
            return
        self._closed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._reader.join(1)  # a grandchild in a session of its own may hold the pipe open
        for pipe in (self._commands, self._replies):
            os.close(pipe)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        self._send(command, 0.0)
        return self._receive()

    def _send(self, command: dict[str, Any], lasts: float) -> None:
        self._number += 1
        self._pending = lasts
        data = json.dumps({"n": self._number, **command}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._commands, data) :]
        except BrokenPipeError:
            raise self._down(self._death()) from None

    def _receive(self) -> dict[str, Any]:
        end_at = time.monotonic() + self._pending + self._patience
        while b"\n" not in self._buffer[-65536:]:
            left = end_at - time.monotonic()
            if self._flooded:
                raise self._down(f"printed more than {FLOOD // 1_000_000} MB, and was stopped")
            if left <= 0:
                os.kill(self._process.pid, signal.SIGUSR1)  # it prints where it hangs
                time.sleep(0.3)
                raise self._down(f"hung: no answer within {self._pending + self._patience:.3g} s")
            if not select.select([self._replies], [], [], min(left, 0.1))[0]:
                continue
            data = os.read(self._replies, 1 << 20)
            if not data:
                raise self._down(self._death())
            self._buffer += data
            if len(self._buffer) > _LARGEST_REPLY:
                raise self._down("answered rubbish on the kit's own pipe")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return self._read(line)

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(line)
            if reply["n"] != self._number:
                raise ValueError("the reply to another command")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._down("answered rubbish on the kit's own pipe") from error
        if "raised" in reply:
            raise self._down(f"raised {Raised(**reply['raised'], times=1)}")
        return dict(reply)

    def _death(self) -> str:
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return "closed the kit's own pipes"
        if code < 0:
            return f"died of signal {-code} ({signal.strsignal(-code)})"
        return f"ended its process with exit code {code}"

    def _down(self, how: str) -> TargetFailed:
        time.sleep(0.05)  # for the last that it printed
        return TargetFailed(f"the target {how}", self.output)

    def _drain(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while data := os.read(pipe.fileno(), 65536):
                self._printed += len(data)
                self._output = (self._output + data)[-_SHOWN:]
                if self._printed > FLOOD:
                    self._flooded = True
                    self._process.kill()
                    return


def soon() -> float:
    """Return a `time.monotonic` by which all workers have read a command sent now."""
    return time.monotonic() + _LEAD


def _wait(value: object) -> float | None:
    return math.inf if value == "inf" else None if value is None else float(value)  # type: ignore[arg-type]


def _environment(home: str) -> dict[str, str]:
    # What an interpreter needs, and nothing else: whoever runs the kit may have secrets in the environment.
    kept = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": home, "TMPDIR": home}
