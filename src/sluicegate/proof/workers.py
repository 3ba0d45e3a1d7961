"""`Worker`: a process that runs the target, with bounds on its time, memory and output; and the steps of a scenario.

When the target hangs, dies, raises, floods its output or writes invalid replies, the worker raises `TargetFailed` in
the case that uses it, with one line that says what happened. This contains accidents. It is not a sandbox: the target
can do whatever the user who runs the kit can do.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from sluicegate.proof import replies
from sluicegate.proof.child import Child, ChildFailed, ChildHung
from sluicegate.proof.replies import Abilities, CallError, ScenarioResult
from sluicegate.proof.target import Target

__all__ = [
    "Abilities",
    "CallError",
    "Client",
    "NoInterpreter",
    "ScenarioResult",
    "Step",
    "TargetFailed",
    "TargetHung",
    "Worker",
    "call",
    "call_each",
    "keep_calling",
    "soon",
]

_SCRIPT = Path(__file__).with_name("worker") / "__main__.py"
_LEAD = 0.05  # seconds from sending a scenario to its start: by then every worker has read its own
_START = 20.0  # seconds for an interpreter to start
_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)')  # a frame in a stack printed by faulthandler


class TargetFailed(Exception):
    """The target went down or could not be loaded. The text is one printable line.

    Attributes:
        output: The last of what the target printed.
    """

    def __init__(self, says: str, output: str = "") -> None:
        super().__init__(replies.one_line(says))
        self.output = output


class TargetHung(TargetFailed):
    """A call of the target did not return."""


class NoInterpreter(TargetFailed):
    """The Python that should run the target could not be started; the target itself was not tried."""


class Step(NamedTuple):
    """A run of calls that a client makes from one moment of a scenario on; `call` and `keep_calling` make one."""

    at: float
    until: float | None
    times: int
    pause: float
    verb: str
    cost: int
    timeout: float | None
    keys: Sequence[str]


Client = Sequence[Step]
"""The steps of one client, done one after the other in its own thread or task."""


def call(
    at: float,
    key: str,
    times: int = 1,
    *,
    cost: int = 1,
    pause: float = 0.0,
    verb: str = "allow",
    timeout: float | None = None,
) -> Step:
    """Call ``times`` times for one key, starting ``at`` seconds into the scenario; ``timeout`` is for ``wait``."""
    return Step(at, None, times, pause, verb, cost, timeout, (key,))


def call_each(
    at: float, keys: Sequence[str], times: int | None = None, *, pause: float = 0.0, verb: str = "allow"
) -> Step:
    """Call for one key after the other, once each or ``times`` times in all, starting ``at`` seconds in."""
    return Step(at, None, len(keys) if times is None else times, pause, verb, 1, None, keys)


def keep_calling(at: float, until: float, *keys: str, pause: float, verb: str = "allow") -> Step:
    """Call for one key after the other from ``at`` until ``until``, ``pause`` seconds apart."""
    return Step(at, until, sys.maxsize, pause, verb, 1, None, keys)


class Worker:
    """One process with the target in it.

    Args:
        target: What to load.
        python: The interpreter to run it with; this one by default.
        memory: MiB that it may use.
        patience: Seconds a command may take beyond its known duration before the target is reported as hanging. After
            half of them no further calls are made, so that a slow target is cut short: only a single call that takes
            as long as the other half counts as a hang.
        slack: The most seconds that a scenario may take beyond the last time named in a step, whatever it asks for.

    Attributes:
        version: The version of the interpreter, once the target is loaded.
        patience: The same seconds, for the commands to come.

    Raises:
        TargetFailed: The interpreter does not exist.
    """

    def __init__(
        self,
        target: Target,
        *,
        python: str = sys.executable,
        memory: int = 1024,
        patience: float = 20,
        slack: float = math.inf,
    ) -> None:
        self.version, self._slack = "", slack
        self._target, self._python, self._memory, self.patience = target, python, memory, patience
        self._number, self._lasts, self._manual = 0, 0.0, False
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
        monotonic: float = 0.0,
        trace: bool = False,
        asynchronous: bool = False,
    ) -> Abilities:
        """Load the target and construct its limiter.

        Args:
            limit: Units per window.
            window: Seconds.
            redis_url: Passed to a target that takes one; without it such a target is inspected, not constructed.
            clock: ``real``; ``manual``, which only `advance` moves; or ``wall``, whose wall clock `set_wall` steps.
            wall: Seconds by which its wall clock is off.
            monotonic: Seconds by which its monotonic clocks are off.
            trace: Whether to trace its memory, which makes it slow.
            asynchronous: True if an earlier scenario found that its methods must be awaited, whatever they look like.

        Raises:
            TargetFailed: It could not be loaded.
        """
        self._wait_for_greeting()
        self._manual = clock == "manual"
        reply = self._do(
            "load",
            target=dict(self._target.where),
            limit=limit,
            window=window,
            redis_url=redis_url,
            clock="wall" if (wall or monotonic) and clock == "real" else clock,
            wall=wall,
            monotonic=monotonic,
            memory=self._memory,
            trace=trace,
            asynchronous=asynchronous,
        )
        with self._failures_as_target_failed():
            return replies.abilities(reply)

    def run(
        self,
        *clients: Client,
        start_at: float | None = None,
        lasts: float = 0.0,
        preempt: bool = False,
        keep: bool = True,
    ) -> ScenarioResult:
        """Run a scenario: each client makes its calls in its own thread or task. Return the answers.

        Args:
            *clients: The steps of each client.
            start_at: The `time.monotonic` at which the scenario starts; soon, by default.
            lasts: Seconds it may take beyond the last time named in a step.
            preempt: Whether to switch threads between the lines of the target's file.
            keep: False to discard the records.

        Raises:
            TargetFailed: The target went down.
        """
        self.start(*clients, start_at=start_at, lasts=lasts, preempt=preempt, keep=keep)
        return self.result()

    def start(
        self,
        *clients: Client,
        start_at: float | None = None,
        lasts: float = 0.0,
        preempt: bool = False,
        keep: bool = True,
    ) -> None:
        """Start a scenario without waiting for it, so that several workers run at once; then call `result`."""
        start_at, lasts = start_at or soon(), min(lasts, self._slack)
        ends = max((step.until or step.at for client in clients for step in client), default=0.0)
        # With a manual clock no one waits.
        whole = lasts if self._manual else max(0.0, start_at - time.monotonic()) + ends + lasts
        end_at = time.monotonic() + whole + self.patience / 2
        self._send("run", whole, clients=clients, start_at=start_at, end_at=end_at, preempt=preempt, keep=keep)

    def result(self) -> ScenarioResult:
        """Wait for the scenario that was started and return its answers. Raises `TargetFailed` if the target failed."""
        reply = self._receive()
        with self._failures_as_target_failed():
            return replies.scenario_result(reply)

    def time_calls(self, keys: Sequence[str], times: int, rounds: int) -> list[float]:
        """Time ``allow``: return the mean seconds of ``times`` calls for each round.

        A target that is too slow for all rounds gets fewer, but at least one.
        """
        reply = self._do("time_calls", keys=keys, times=times, rounds=rounds, within=self.patience / 3)
        with self._failures_as_target_failed():
            return replies.rounds(reply, rounds)

    def time_each(self, keys: Sequence[str], times: int, pause: float = 0.0) -> list[float]:
        """Return the processor seconds of each of ``times`` calls in its thread, ``pause`` seconds apart.

        A target that is too slow for all of them makes fewer.
        """
        # With a manual clock no one waits.
        lasts = 0.0 if self._manual else times * pause
        self._send("time_each", lasts, keys=keys, times=times, pause=pause, within=lasts + self.patience / 2)
        reply = self._receive()
        with self._failures_as_target_failed():
            return replies.each(reply, times)

    def beside(self, limit: int, window: float) -> None:
        """Construct another limiter in the same process; it gets the calls from now on. Only for targets in memory."""
        self._do("beside", limit=limit, window=window)

    def turn(self) -> None:
        """Let the next of the limiters get the calls."""
        self._do("turn")

    def advance(self, seconds: float) -> None:
        """Advance the manual clock."""
        self._do("advance", seconds=seconds)

    def set_wall(self, seconds: float) -> None:
        """Set by how many seconds the wall clock of a worker loaded with ``clock="wall"`` is off from now on."""
        self._do("wall", seconds=seconds)

    def memory(self) -> int:
        """Return the bytes that Python's objects hold. The target must have been loaded with ``trace``."""
        reply = self._do("memory")
        with self._failures_as_target_failed():
            return replies.count(reply, "bytes")

    def threads(self) -> int:
        """Return the number of live threads that the target has started."""
        reply = self._do("threads")
        with self._failures_as_target_failed():
            return replies.count(reply, "threads")

    @property
    def output(self) -> str:
        """The last of what the target printed; after a hang or a crash, its stack without the kit's own lines."""
        lines = self._child.output.splitlines(keepends=True)
        return "".join(line for line in lines if str(_SCRIPT.parent) not in line)

    def close(self) -> None:
        """Kill the process and everything it started. A second call does nothing."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for_greeting(self) -> None:
        try:
            self.version = replies.greeting(replies.reply(self._child.receive(_START), 0))
        except ChildFailed as down:
            how = f"it {down}"
        except replies.InvalidReply:
            how = "it printed on one of the kit's pipes"
        else:
            return
        raise NoInterpreter(
            f"the interpreter {self._python} could not be started: {how}. It must be Python 3.11 or newer", self.output
        )

    def _do(self, verb: str, **arguments: Any) -> Mapping[str, Any]:
        self._send(verb, 0.0, **arguments)
        return self._receive()

    def _send(self, verb: str, lasts: float, **arguments: Any) -> None:
        self._number += 1
        self._lasts = lasts
        with self._failures_as_target_failed():
            self._child.send(json.dumps({"n": self._number, "do": verb, **arguments}).encode(), self.patience)

    def _receive(self) -> Mapping[str, Any]:
        with self._failures_as_target_failed():
            reply = replies.reply(self._child.receive(self._lasts + self.patience), self._number)
            unusable, error = replies.unusable(reply), replies.error(reply)
        if unusable is not None:
            raise TargetFailed(f"the target {unusable}", self.output)
        if error is not None and error.type == "MemoryError":
            raise TargetFailed(f"the target ran out of memory: it may use {self._memory} MiB", self.output)
        if error is not None:
            raise TargetFailed(f"the target raised {error.what}", self.output)
        return reply

    @contextmanager
    def _failures_as_target_failed(self) -> Iterator[None]:
        try:
            yield
        except ChildHung as hung:
            where = _where_it_hangs(self._child.output, self._target)
            hint = " (allow() must answer at once, not wait)" if where.startswith(" in allow()") else ""
            raise TargetHung(f"the target hung{where}{str(hung).removeprefix('hung')}{hint}", self.output) from None
        except ChildFailed as down:
            raise TargetFailed(f"the target {down}", self.output) from None
        except replies.InvalidReply:
            raise TargetFailed("the target wrote invalid data to the kit's pipe", self.output) from None


def _where_it_hangs(stacks: str, target: Target) -> str:
    """Return the line of the target that a worker is at, read from the stacks it printed; "" if they do not show it."""
    for stack in stacks.split("(most recent call first):\n")[1:]:
        frames = _FRAME.findall(stack)
        theirs = [frame for frame in frames if _is_in(target, frame[0])]
        if theirs and any(Path(file).parent == _SCRIPT.parent for file, _, _ in frames):  # else the target's own thread
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
    """Return a `time.monotonic` by which every worker has read a command that is sent now."""
    return time.monotonic() + _LEAD
