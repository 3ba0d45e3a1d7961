"""Workers, seen from the kit: processes that run the target, bounded in time, memory and what they print.

A worker that goes down raises `TargetFailed` in the case that asked for it, with a line that says how: it hung, died,
raised, flooded its output, or answered rubbish. This bounds accidents. It is no sandbox: a target can do whatever the
user can who runs the kit.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from sluicegate.proof import replies
from sluicegate.proof.child import Child, Down, Hung
from sluicegate.proof.replies import Abilities, Played, Raised
from sluicegate.proof.target import Target

__all__ = [
    "Abilities",
    "Lane",
    "NoInterpreter",
    "Played",
    "Raised",
    "Step",
    "TargetFailed",
    "Worker",
    "ask",
    "ask_each",
    "keep_asking",
    "soon",
]

_SCRIPT = Path(__file__).with_name("worker") / "__main__.py"
_LEAD = 0.05  # seconds from the last command of a play to its beginning: all workers have read theirs by then
_START = 20.0  # seconds for an interpreter to start
_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)')  # of a stack that faulthandler prints


class TargetFailed(Exception):
    """The target went down, or could not be loaded. The text is one line, fit to be shown.

    Attributes:
        output: The last of what it had printed.
    """

    def __init__(self, says: str, output: str = "") -> None:
        super().__init__(replies.one_line(says))
        self.output = output


class NoInterpreter(TargetFailed):
    """The Python that should run the target could not be started, which says nothing of the target."""


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


def ask_each(at: float, keys: Sequence[str], times: int | None = None, *, pause: float = 0.0) -> Step:
    """Ask for one key after the other, once for each, or ``times`` times in all, from ``at`` seconds of the play on."""
    return Step(at, None, len(keys) if times is None else times, pause, "allow", 1, keys)


def keep_asking(at: float, until: float, *keys: str, pause: float, verb: str = "allow") -> Step:
    """Ask for one key after the other from ``at`` until ``until``, ``pause`` seconds apart."""
    return Step(at, until, sys.maxsize, pause, verb, 1, keys)


class Worker:
    """One process with the target in it.

    Args:
        target: What to load.
        python: The interpreter to run it with; this one by default.
        memory: MiB that it may hold.
        patience: Seconds that a command may take beyond what it is known to last, before the target is said to hang.
            Once half of them have passed nothing more is asked: who is slow is cut short, and only a single call that
            takes as long as the other half hangs.

    Attributes:
        version: That of the interpreter, once the target is loaded.

    Raises:
        TargetFailed: There is no such interpreter.
    """

    def __init__(
        self, target: Target, *, python: str = sys.executable, memory: int = 1024, patience: float = 20
    ) -> None:
        self.version = ""
        self._target, self._python, self._memory, self._patience = target, python, memory, patience
        self._number, self._lasts, self._moved = 0, 0.0, False
        try:
            self._child = Child([python, "-P", "-B", "-u", str(_SCRIPT)])
        except (OSError, ValueError) as error:
            raise NoInterpreter(f"the interpreter {python} could not be started: {error}") from None

    def load(
        self,
        limit: int,
        window: float,
        *,
        redis_url: str | None = None,
        clock: str = "real",
        wall: float = 0.0,
        trace: bool = False,
        asynchronous: bool = False,
    ) -> Abilities:
        """Load the target and make a limiter of it.

        Args:
            limit: Units per window.
            window: Seconds.
            redis_url: Given to a target that takes one; without it such a target is only looked at.
            clock: ``real``; ``moved``, to stand still but for `advance`; or ``wall``, to be moved by `set_wall`.
            wall: Seconds that its wall clock is off by.
            trace: Whether to count its memory, which makes it slow.
            asynchronous: True where an earlier play found that its verbs are to be awaited, whatever they look like.

        Raises:
            TargetFailed: It could not be loaded.
        """
        self._greet()
        self._moved = clock == "moved"
        reply = self._do(
            "load",
            target=dict(self._target.where),
            limit=limit,
            window=window,
            redis_url=redis_url,
            clock="wall" if wall and clock == "real" else clock,
            wall=wall,
            memory=self._memory,
            trace=trace,
            asynchronous=asynchronous,
        )
        with self._blaming_the_target():
            return replies.abilities(reply)

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
        # A moved clock does not make anybody wait.
        whole = lasts if self._moved else max(0.0, begin_at - time.monotonic()) + ends + lasts
        end_at = time.monotonic() + whole + self._patience / 2
        self._send("play", whole, lanes=lanes, begin_at=begin_at, end_at=end_at, restless=restless, keep=keep)

    def played(self) -> Played:
        """Wait for the end of the play that was begun. Raises `TargetFailed` where the target went down."""
        reply = self._receive()
        with self._blaming_the_target():
            return replies.played(reply)

    def pace(self, keys: Sequence[str], times: int, rounds: int) -> list[float]:
        """Measure a decision: for each round the mean seconds of ``times`` calls of ``allow``.

        There are fewer rounds, of one at least, where the target is too slow for all of them.
        """
        reply = self._do("pace", keys=keys, times=times, rounds=rounds, within=self._patience / 3)
        with self._blaming_the_target():
            return replies.rounds(reply, rounds)

    def advance(self, seconds: float) -> None:
        """Move a moved clock."""
        self._do("advance", seconds=seconds)

    def set_wall(self, seconds: float) -> None:
        """Step the wall clock of a worker loaded with ``clock="wall"``: it is off by so much from now on."""
        self._do("wall", seconds=seconds)

    def memory(self) -> int:
        """Count the bytes that Python's objects hold, where it was loaded with ``trace``."""
        reply = self._do("memory")
        with self._blaming_the_target():
            return replies.count(reply, "bytes")

    def threads(self) -> int:
        """Count the threads that the target has started and that are alive."""
        reply = self._do("threads")
        with self._blaming_the_target():
            return replies.count(reply, "threads")

    @property
    def output(self) -> str:
        """The last of what the target printed: where it hung or crashed, a stack, without the lines that are ours."""
        lines = self._child.output.splitlines(keepends=True)
        return "".join(line for line in lines if str(_SCRIPT.parent) not in line)

    def close(self) -> None:
        """Kill the process and all that it started. Again: nothing happens."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _greet(self) -> None:
        try:
            self.version = replies.greeting(replies.reply(self._child.receive(_START), 0))
        except Down as down:
            how = f"it {down}"
        except replies.Rubbish:
            how = "it printed on a pipe of the kit's"
        else:
            return
        raise NoInterpreter(
            f"the interpreter {self._python} could not be started: {how}. Python 3.11 or newer is expected", self.output
        )

    def _do(self, verb: str, **arguments: Any) -> Mapping[str, Any]:
        self._send(verb, 0.0, **arguments)
        return self._receive()

    def _send(self, verb: str, lasts: float, **arguments: Any) -> None:
        self._number += 1
        self._lasts = lasts
        with self._blaming_the_target():
            self._child.send(json.dumps({"n": self._number, "do": verb, **arguments}).encode(), self._patience)

    def _receive(self) -> Mapping[str, Any]:
        with self._blaming_the_target():
            reply = replies.reply(self._child.receive(self._lasts + self._patience), self._number)
            unusable, raised = replies.unusable(reply), replies.raised(reply)
        if unusable is not None:
            raise TargetFailed(f"the target {unusable}", self.output)
        if raised is not None and raised.type == "MemoryError":
            raise TargetFailed(f"the target ran out of memory: it may hold {self._memory} MiB", self.output)
        if raised is not None:
            raise TargetFailed(f"the target raised {raised.what}", self.output)
        return reply

    @contextmanager
    def _blaming_the_target(self) -> Iterator[None]:
        try:
            yield
        except Hung as hung:
            where = _where_it_hangs(self._child.output, self._target)
            hint = " (allow must answer, not wait)" if where.startswith(" in allow()") else ""
            raise TargetFailed(f"the target hung{where}{str(hung).removeprefix('hung')}{hint}", self.output) from None
        except Down as down:
            raise TargetFailed(f"the target {down}", self.output) from None
        except replies.Rubbish:
            raise TargetFailed("the target answered rubbish on the kit's own pipe", self.output) from None


def _where_it_hangs(stacks: str, target: Target) -> str:
    """Say which line of the target a worker is at, by the stacks that it printed; nothing, where they do not tell."""
    for stack in stacks.split("(most recent call first):\n")[1:]:
        frames = _FRAME.findall(stack)
        theirs = [frame for frame in frames if _is_in(target, frame[0])]
        if theirs and any(Path(file).parent == _SCRIPT.parent for file, _, _ in frames):  # else a thread of its own
            file, line, function = theirs[0]
            called = "" if function.startswith("<") else f" in {function}()"
            return f"{called} at {Path(file).name}, line {line}"
    return ""


def _is_in(target: Target, file: str) -> bool:
    module = target.where.get("module", "").replace(".", "/")
    if not module:
        return file == target.where.get("file")
    return file.endswith((f"/{module}.py", f"/{module}/__init__.py"))


def soon() -> float:
    """Return a `time.monotonic` by which all workers have read a command sent now."""
    return time.monotonic() + _LEAD
